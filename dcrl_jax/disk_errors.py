"""Errors of disks and network file systems: the system's words, and the remedy."""

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.errors import InputError

_MAKE_ROOM, _REPAIR = "make room", "see that its disk or network works"
_IN_TEXTS = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EROFS: "make it writable",
    errno.EACCES: "change its permissions",
    errno.EIO: _REPAIR,
    errno.EREMOTEIO: _REPAIR,
    errno.ESTALE: _REPAIR,
    errno.ENOTCONN: _REPAIR,  # a user-space file system whose program has ended
}
# In the text of a library, the words of these may be about anything.
_REMEDIES = _IN_TEXTS | {
    errno.EPERM: "change its permissions",
    errno.ENODEV: _REPAIR,
    errno.ENXIO: _REPAIR,
    errno.EHOSTDOWN: _REPAIR,
    errno.ENOENT: _REPAIR,  # of a folder that was there: its disk is gone
}
# An absolute path in the text of a library, in quotes or not.
_PATH = re.compile(r"""(?<=["'])/[^"']+(?=["'])|(?<!\S)/[^\s"',;]+""")


class DiskFailure(NamedTuple):
    """What a message says about a disk that failed."""

    file: str | None  # that the error names
    reason: str  # e.g. "No space left on device"
    remedy: str  # e.g. "make room"


def disk_failure(error: BaseException, folder: Path | None = None) -> DiskFailure | None:
    """Return what failed if an error, or the error that it was raised from, is one of a disk; otherwise None.

    Storage libraries put the system's words into an error of their own, such as a ValueError of many lines. An
    InputError has its message already.

    Args:
        error: any error.
        folder: one that was written to. If it is gone, its disk is, whatever the error says.
    """
    if isinstance(error, InputError):
        return None
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        file = None if error.filename is None else str(error.filename)
        return DiskFailure(file, os.strerror(error.errno), _REMEDIES[error.errno])
    text = str(error)
    for number, remedy in _IN_TEXTS.items():
        if os.strerror(number) in text:
            path = _PATH.search(text)
            return DiskFailure(path[0].rstrip(":") if path else None, os.strerror(number), remedy)
    if error.__cause__ is not None:
        return disk_failure(error.__cause__, folder)
    if folder is not None and not os.path.exists(folder):
        return DiskFailure(str(folder), os.strerror(errno.ENOENT), _REMEDIES[errno.ENOENT])
    return None


def not_written(place: str | Path, error: Exception, alternative: str, kept: str = "") -> str:
    """Return the message that a file or a folder cannot be written to.

    Args:
        place: the file or the folder.
        error: the reason, usually an OSError.
        alternative: what the user may do beside the remedy, e.g. "give another --output".
        kept: a sentence about what is written already, after a space; or nothing.
    """
    failure = disk_failure(error)
    reason = failure.reason if failure else getattr(error, "strerror", None) or error
    remedies = f"{failure.remedy}, or {alternative}" if failure else alternative
    return f"{place} cannot be written to: {reason}.{kept} {remedies[0].upper()}{remedies[1:]}."
