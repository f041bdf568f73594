"""Unpacking of archives, which anybody may have made."""

import collections
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dcrl_jax.disk_errors import disk_failure
from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular

# MSRS's archive of images, the largest, has some 6,000 members and 1 GB. Text is compressed to a tenth of its size.
MAX_MEMBERS = 100_000
MAX_BYTES = 8 * 2**30
MAX_RATIO = 50  # of the unpacked to the packed bytes

_PLAIN_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: the archive has no kinds of files


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file into a folder, which is replaced; after an error it is absent.

    Raises:
        InputError: the archive is damaged or of another kind, has a member outside the folder, a link or a device, or
            becomes larger than the limits above.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with open_regular(archive) as file, zipfile.ZipFile(file) as content:
            if problem := _problem(content.infolist(), archive.stat().st_size):
                raise InputError(
                    f"{archive}: {problem}. Nothing was unpacked; get the archive from a source you trust."
                )
            # Reading a member ends at the size that the list of members states for it.
            content.extractall(folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # Damage shows as all kinds of exceptions: of the decompressors, of names, of places in the file.
        if isinstance(error, InputError) or not isinstance(error, Exception) or disk_failure(error):
            raise
        raise InputError(f"{archive} is not a zip archive, or damaged ({error}). Delete it and retry.") from error


def _problem(members: Sequence[zipfile.ZipInfo], packed_bytes: int) -> str:
    """Return why an archive is not to be unpacked; empty if it may be."""
    if len(members) > MAX_MEMBERS:
        return f"{len(members):,} members; expected at most {MAX_MEMBERS:,}"
    size = sum(member.file_size for member in members)
    if size > min(MAX_BYTES, MAX_RATIO * packed_bytes):
        limits = f"at most {MAX_BYTES:,}, and {MAX_RATIO} times as many"
        return f"{packed_bytes:,} bytes that become {size:,}; expected {limits}"
    names = collections.Counter(member.filename.rstrip("/").casefold() for member in members)
    if repeated := next((name for name, count in names.items() if count > 1), None):
        return f"the member {repeated!r} is there twice, on systems that take a for A"
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            return f"the member {member.filename!r} leaves the folder"
        if stat.S_IFMT(member.external_attr >> 16) not in _PLAIN_KINDS:
            return f"the member {member.filename!r} is a link or a device; expected files and folders"
    return ""
