"""Reading of small text files, with one message for whatever is wrong with them."""

import os
from pathlib import Path

from dcrl_jax.errors import InputError

# Of one image or one KAIST split; the largest real one has a few megabytes.
LIMIT_BYTES = 64 * 2**20


def read_text(path: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> str:
    """Returns the text of an annotation file; one larger than ``limit_bytes`` is refused unread.

    Raises:
        InputError: there is no such file, or it is not text.
    """
    try:
        if os.path.getsize(path) > limit_bytes:
            raise InputError(f"{path}: larger than {limit_bytes // 2**20} MiB; this is no annotation file")
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file") from error


def number(text: str) -> float:
    """A plain finite decimal number; Python would read ``1_0``, ``nan`` and digits of other scripts as well.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    value = float(text)
    # Beyond this no float32 could hold a box, and no image is as large.
    if not abs(value) <= 1e6:
        raise ValueError(text)
    return value
