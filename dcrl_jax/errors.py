"""The exceptions that end a run, and what their messages share."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input: a file, a folder, an annotation, a config key, a checkpoint.

    The message names the file and line, what is wrong, what was expected and what to do. Commands print it without a
    stack trace and exit with status 1.
    """


class Preempted(BaseException):
    """SIGTERM asked the process to end. Training saves a checkpoint first; the same command resumes it."""


def first_few(texts: Sequence[str], limit: int) -> list[str]:
    """Return the first ``limit`` texts, followed by "and N more" if there are more."""
    return [*texts[:limit], *([f"and {len(texts) - limit:,} more"] if len(texts) > limit else [])]
