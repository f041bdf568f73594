"""One message for many problems of a user's files."""

from collections.abc import Sequence

from dcrl_jax.errors import InputError, first_few

_SHOWN = 20


def raise_if_any(problems: Sequence[str], heading: str, remedy: str) -> None:
    """Raise one error that counts the problems and lists the first twenty; do nothing if there are none.

    Args:
        problems: one line each: the file, the line if any, and what is wrong.
        heading: what was read, and where.
        remedy: what the user can do.

    Raises:
        InputError: with the heading, the number of problems, the first problems and the remedy.
    """
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"  {line}" for line in first_few(problems, _SHOWN)]
    raise InputError("\n".join([f"{heading}: {len(problems)} {noun}", *lines, remedy]))
