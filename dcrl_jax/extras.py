"""Packages that only some commands need, each the part of an optional extra."""

import importlib
from types import ModuleType

from dcrl_jax.errors import InputError


def import_extra(package: str, extra: str) -> ModuleType:
    """Import a package of an optional extra.

    Args:
        package: the name of its module.
        extra: the extra that installs it.

    Raises:
        InputError: the package cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f'this needs {package} ({error}): pip install "dcrl_jax[{extra}]".') from error
