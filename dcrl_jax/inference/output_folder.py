"""Where a mode writes what it makes."""

from pathlib import Path

from dcrl_jax.errors import InputError


def new_folder(path: str | Path) -> Path:
    """The folder, which is not made yet.

    Raises:
        InputError: something is there that is no empty folder.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already and is no empty folder: give another --output.")
    return path
