"""Reading of annotation files and of the numbers in them."""

import codecs
import os
import re
from collections.abc import Iterator

from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular

# Limit for the annotations of one image or of one KAIST split; the largest real file has a few megabytes.
LIMIT_BYTES = 64 * 2**20

# Characters that are no part of names and numbers: damage, or another encoding. Some of them end a line or a path.
CONTROL_CHARACTERS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"
_CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]")
_XML_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([\w.-]+)["']""", re.ASCII)


def read_bytes(path: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return the content of an annotation file.

    Raises:
        InputError: the file cannot be read, or is larger than ``limit_bytes``.
    """
    try:
        with open_regular(path) as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > limit_bytes:
        raise InputError(f"{path}: larger than {limit_bytes // 2**20} MiB; this is no annotation file")
    return content


def read_text(
    path: str | os.PathLike[str], expected: str = "UTF-8", errors: str = "strict", limit_bytes: int = LIMIT_BYTES
) -> str:
    r"""Return the text of an annotation file without a byte order mark; lines end in ``\n``.

    The text is UTF-8, or UTF-16 if it begins with that byte order mark, as Windows' shell writes it, or has the
    encoding that XML declares in its first line. XML that is UTF-8 is often declared as something else.

    Args:
        path: the file.
        expected: what such a file has, for the message.
        errors: what is done with bytes of another encoding: "strict" refuses them, "surrogateescape" keeps them, as
            names of files may have them.
        limit_bytes: a larger file is refused.

    Raises:
        InputError: the file cannot be read, is too large, is no such text, or has control characters; names the line.
    """
    content = read_bytes(path, limit_bytes)
    declared = _XML_ENCODING.match(content)
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encodings = ["utf-16"] if is_utf16 else ["utf-8-sig", *([declared[1].decode()] if declared else [])]
    problem = ""
    for encoding in encodings:
        try:
            text = content.decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")
            break
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            problem = problem or f"{path}:{line}: is not a text file; expected {expected}"
        except (UnicodeError, LookupError):  # of a declared encoding that is none
            pass
    else:
        raise InputError(problem)
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise InputError(f"{path}:{line}: has the control character {control[0]!r}; expected {expected}")
    return text


def has_control_characters(text: str) -> bool:
    """Return whether a name has control characters, line breaks or tabs."""
    return _CONTROL.search(text) is not None or "\n" in text or "\t" in text


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


def pixels(text: str) -> int:
    """Return the side of an image that a file tells; 0 if it is blank or, as some tools write, 0.

    Raises:
        ValueError: the text is no whole number, or a negative one.
    """
    value = number(text) if text.strip() else 0.0
    if value < 0 or not value.is_integer():
        raise ValueError(text)
    return int(value)
