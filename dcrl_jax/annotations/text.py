"""Reading of annotation files and of the numbers in them."""

import codecs
import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dcrl_jax.errors import InputError

# Limit for the annotations of one image or of one KAIST split; the largest real file has a few megabytes.
LIMIT_BYTES = 64 * 2**20

_XML_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([\w.-]+)["']""", re.ASCII)


def read_bytes(path: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return the content of an annotation file.

    Raises:
        InputError: the file cannot be read, or is larger than ``limit_bytes``.
    """
    try:
        if os.path.getsize(path) > limit_bytes:
            raise InputError(f"{path}: larger than {limit_bytes // 2**20} MiB; this is no annotation file")
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Return the text of an annotation file without a byte order mark; lines end in ``\n``.

    The text is UTF-8, or UTF-16 if it begins with that byte order mark, as Windows' shell writes it, or has the
    encoding that XML declares in its first line. XML that is UTF-8 is often declared as something else.

    Raises:
        InputError: the file cannot be read, is too large, or is no such text.
    """
    content = read_bytes(path)
    declared = _XML_ENCODING.match(content)
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encodings = ["utf-16"] if is_utf16 else ["utf-8-sig", *([declared[1].decode()] if declared else [])]
    for encoding in encodings:
        with contextlib.suppress(UnicodeError, LookupError):
            return io.TextIOWrapper(io.BytesIO(content), encoding=encoding).read()
    raise InputError(f"{path}: is not a text file; expected UTF-8")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, with their numbers, counted from 1."""
    return ((count, line) for count, line in enumerate(text.split("\n"), start=1) if line.strip())


def number(text: str) -> float:
    """Return the value of a plain decimal number from -1e6 to 1e6.

    Raises:
        ValueError: the text is no such number. ``1_0``, ``nan`` and digits of other scripts, which Python's
            ``float`` reads, are refused.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    value = float(text)
    # Larger values do not fit the float32 of a box, and no image is as large.
    if not abs(value) <= 1e6:
        raise ValueError(text)
    return value
