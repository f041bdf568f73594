"""One message for many problems of a user's files."""

from collections.abc import Sequence

from dcrl_jax.errors import InputError


def raise_if_any(problems: Sequence[str], heading: str, remedy: str, limit: int = 20) -> None:
    """Does nothing without problems; otherwise reports them all at once, the first ``limit`` in full.

    Args:
        problems: one line each, naming the file (and line) and what is wrong with it.
        heading: what was being read.
        remedy: what the user can do.
        limit: how many problems are written out.

    Raises:
        InputError: with the heading, the number of problems, the problems and the remedy.
    """
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{heading}: {len(problems)} {noun}", *(f"  {problem}" for problem in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    raise InputError("\n".join([*lines, remedy]))
