"""Packages of the optional extras, which only some commands need."""

import importlib
from typing import Any

from dcrl_jax.errors import InputError


def import_extra(package: str, extra: str) -> Any:
    """Import a package of an optional extra.

    Args:
        package: the name of its module.
        extra: the extra that installs it.

    Raises:
        InputError: the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise InputError(f"{package} is not installed. Install it (`pip install dcrl_jax[{extra}]`).") from error
