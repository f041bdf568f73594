"""One message for many problems of a user's files."""

from collections.abc import Sequence

from dcrl_jax.errors import InputError, first_few

_SHOWN = 20


def raise_if_any(problems: Sequence[str], heading: str, remedy: str) -> None:
    """Raise one error that lists all problems, the first twenty in full; return if there are none.

    Args:
        problems: one line each: the file (and line) and what is wrong with it.
        heading: what was read.
        remedy: what the user can do.

    Raises:
        InputError: with the heading, the number of problems, the problems and the remedy.
    """
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"  {line}" for line in first_few(problems, _SHOWN)]
    raise InputError("\n".join([f"{heading}: {len(problems)} {noun}", *lines, remedy]))
