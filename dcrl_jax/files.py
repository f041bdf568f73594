"""Atomic writes, JSON lines and folder locks."""

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dcrl_jax.errors import InputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success; create the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder: rename is atomic. Same suffix: writers infer the format. Fixed name: the next run overwrites a stale
    # file.
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # a disk that failed before
            partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Write ASCII text, whole or in pieces, to a file, all of it or nothing; create the folder if needed."""
    with atomic_path(path) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        file.writelines([text] if isinstance(text, str) else text)


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder or, if it does not exist, to the nearest one above it.

    Raises:
        OSError: they cannot be, e.g. on a read-only or a full disk.
    """
    folder = folder.absolute()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=nearest) as file:
        file.write(b"1")


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON object as a line; if the file ends in a torn line, start a new one."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, one per line; skip torn lines. A missing file yields nothing."""
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                yield record


@contextlib.contextmanager
def folder_lock(folder: Path, busy: str) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it when the process ends.

    Print a warning and continue on a file system without locks, such as Lustre without ``flock`` or NFS without its
    lock service: clusters have no other, and a second process there is the user's own doing.

    Raises:
        InputError: another process holds the lock; ``busy`` is the message.
        OSError: the folder cannot be written to.
    """
    with (folder / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(
                f"warning: {folder} cannot be locked ({error.strerror}); let no second process work in it", flush=True
            )
        yield
