"""Files that survive the end of the program at any moment, and the lock of a folder that one process may use."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON object as a line; if the file ends in a torn line, start a new one."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, one a line, without torn lines; a missing file yields nothing."""
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                yield record


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
