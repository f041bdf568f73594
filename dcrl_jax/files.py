"""Files that are there whole or not at all, whenever the program is ended, and folders that one process has."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from dcrl_jax.errors import InputError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes ``path`` if that succeeds; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since only there is the final step a rename; with the ending, which says the format; of one
    # name, so that what a killed program left is written over by the next.
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Writes a file of ASCII text, whole or not at all; makes the folder."""
    with whole(path) as partial:
        partial.write_text(text, encoding="ascii", newline="\n")


@contextlib.contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Holds the lock of a folder; it ends with the process, however it ends.

    On a file system without locks nothing is held, and that is said.

    Raises:
      InputError: another process has it; ``busy`` is its text.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError as error:
            print(
                f"warning: {folder} cannot be locked ({error.strerror}); let no second process work in it", flush=True
            )
        yield
