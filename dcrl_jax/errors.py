"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input: a file, a folder, an annotation, a config key, a checkpoint.

    Its text names the place, what was found, what was expected and what to do. Command lines print it without a
    stack trace and exit with status 1.
    """
