"""The exceptions that end a run: a user's mistake, and a machine that is taken back."""


class InputError(ValueError):
    """Bad input: a file, a folder, an annotation, a config key, a checkpoint.

    Its text names the place, what was found, what was expected and what to do. Command lines print it without a
    stack trace and exit with status 1.
    """


class Preempted(BaseException):
    """SIGTERM asked the process to end. A training is saved, and goes on when the same command is given again."""
