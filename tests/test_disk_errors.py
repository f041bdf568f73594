"""What a message says about a disk that failed, however a library wraps the system's error."""

import errno
import os

import pytest

from dcrl_jax.disk_errors import DiskFailure, disk_failure, not_written
from dcrl_jax.errors import InputError

FULL = DiskFailure(None, "No space left on device", "make room")
BROKEN = "see that its disk or network works"


def full_at(file):
    return FULL._replace(file=file)


def system(number):
    return OSError(number, os.strerror(number))


def raised_from(cause):
    error = RuntimeError("a save failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (system(errno.ENOSPC), FULL),
        (system(errno.EDQUOT), DiskFailure(None, "Disk quota exceeded", "make room")),
        (system(errno.EROFS), DiskFailure(None, "Read-only file system", "make it writable")),
        (system(errno.EACCES), DiskFailure(None, "Permission denied", "change its permissions")),
        (system(errno.EIO), DiskFailure(None, "Input/output error", BROKEN)),
        (system(errno.ESTALE), DiskFailure(None, "Stale file handle", BROKEN)),
        (system(errno.ENOTCONN), DiskFailure(None, "Transport endpoint is not connected", BROKEN)),
        (system(errno.ENOENT), DiskFailure(None, "No such file or directory", BROKEN)),
        # TensorStore, array_record, safetensors, the system with a file, and a chain.
        (ValueError('RESOURCE_EXHAUSTED: "w/0" in file "/a b/c": No space left on device\nmore'), full_at("/a b/c")),
        (
            RuntimeError("open() failed: No space left on device; opening /a/b.array_record"),
            full_at("/a/b.array_record"),
        ),
        (Exception("I/O error: No space left on device (os error 28)"), FULL),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), full_at("/a")),
        (raised_from(raised_from(system(errno.ENOSPC))), FULL),
        # Not of a disk.
        (system(errno.EADDRINUSE), None),
        (ValueError("of the program"), None),
        (RuntimeError("peer: No such file or directory"), None),
        (InputError("has its message: No space left on device"), None),
    ],
)
def test_failure_of_a_disk_is_recognised(error, failure):
    assert disk_failure(error) == failure


def test_any_error_in_a_folder_that_is_gone_is_of_its_disk(tmp_path):
    error = ValueError("Checkpoint directory does not exist")
    assert disk_failure(error, tmp_path) is None
    gone = tmp_path / "gone"
    assert disk_failure(error, gone) == DiskFailure(str(gone), "No such file or directory", BROKEN)


def test_message_has_place_reason_and_remedies():
    texts = [
        not_written("/out", error, "give another --output", " Two are kept.")
        for error in (system(errno.EROFS), system(errno.ENOTDIR), Exception("a full moon"))
    ]
    assert texts == [
        "/out cannot be written to: Read-only file system. Two are kept. Make it writable, or give another --output.",
        "/out cannot be written to: Not a directory. Two are kept. Give another --output.",
        "/out cannot be written to: a full moon. Two are kept. Give another --output.",
    ]
