"""The output folder of a command."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from dcrl_jax.disk_errors import not_written
from dcrl_jax.errors import InputError
from dcrl_jax.files import check_writable

# The folder that files are written to before they move to their place; a disk that failed may have kept one.
_PARTIAL = ".partial"


class NotWritableError(InputError):
    """The output folder cannot be written to, so that a command cannot go on."""


def new_folder(path: str | Path) -> Path:
    """Return the path of a folder that is empty or does not exist yet, and that can be written to.

    Raises:
        InputError: the path names a file, or a folder that is not empty or cannot be written to.
    """
    path = Path(path)
    try:
        entries = path.iterdir() if path.is_dir() else [path] * path.exists()
        if any(not entry.name.startswith(_PARTIAL) for entry in entries):
            raise InputError(f"{path} exists and is not an empty folder: give another --output.")
        check_writable(path)
    except OSError as error:
        raise not_writable(path, error) from error
    return path


@contextlib.contextmanager
def fill_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder whose files move into ``folder`` on success; otherwise leave ``folder`` as it was.

    Args:
        folder: the result of ``new_folder``.

    Raises:
        InputError: the folder cannot be written to.
    """
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for leftover in folder.glob(f"{_PARTIAL}*"):
                shutil.rmtree(leftover)
            with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder) as partial:
                yield Path(partial)
                for file in Path(partial).iterdir():
                    file.rename(folder / file.name)
        except BaseException:
            with contextlib.suppress(OSError):  # a disk that failed before
                for file in folder.iterdir():
                    file.unlink()
                if not existed:
                    folder.rmdir()
            raise
    except (OSError, SafetensorError) as error:  # safetensors wraps the system's error
        raise not_writable(folder, error) from error


def not_writable(folder: Path, error: Exception, kept: str = "") -> NotWritableError:
    """Return the error for a folder that cannot be written to.

    Args:
        folder: the output folder of the command.
        error: the reason.
        kept: a sentence about the results so far, after a space; or nothing.
    """
    return NotWritableError(not_written(folder, error, "give another --output", kept))
