"""The config keys that a benchmark's command line sets, ``--override=KEY=VALUE``."""

import ast
from collections.abc import Sequence


def changes_of(pairs: Sequence[str]) -> dict[str, object]:
    """Keys and values of KEY=VALUE; a value that is no Python literal is text."""
    return {key: _literal(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
