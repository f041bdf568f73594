"""One message for many problems of a user's files."""

from collections.abc import Sequence

from dcrl_jax.errors import InputError

_SHOWN = 20


def raise_if_any(problems: Sequence[str], heading: str, remedy: str) -> None:
    """Does nothing without problems; otherwise reports them all at once, the first twenty in full.

    Args:
        problems: one line each, naming the file (and line) and what is wrong with it.
        heading: what was being read.
        remedy: what the user can do.

    Raises:
        InputError: with the heading, the number of problems, the problems and the remedy.
    """
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{heading}: {len(problems)} {noun}", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    raise InputError("\n".join([*lines, remedy]))
