"""bbGt text, version 3, of Dollar's toolbox: the format of KAIST and of its paired annotations.

The first line is ``% bbGt version=3``; paired annotations may lack it. Each other line is an object, ``label x y w h
occ vx vy vw vh ignore angle``, in pixels. occ is 0 none, 1 partial, 2 heavy; vx to vh are the visible part; ignore is 0
or 1.
"""

import re

from dcrl_jax.annotations.text import number, numbered_lines
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

_HEADER = re.compile(r"%\s*bbGt\s+version\s*=\s*(\d+)\s*")
FIELDS = 12


def parse(text: str) -> list[Annotation]:
    """Parse one file.

    Raises:
        InputError: another version, or a malformed line; names its number, counted from 1.
    """
    annotations = []
    for count, line in numbered_lines(text):
        if line.startswith("%"):
            header = _HEADER.fullmatch(line)
            if header is None or header[1] != "3" or annotations:
                raise InputError(f"line {count}: {line.strip()[:60]!r} instead of '% bbGt version=3' on the first line")
            continue
        fields = line.split()
        if len(fields) != FIELDS:
            raise InputError(
                f"line {count}: {len(fields)} fields instead of 12, label x y w h occ vx vy vw vh ignore angle"
            )
        label = fields[0]
        try:
            x, y, w, h, occlusion, *_, ignore, _ = map(number, fields[1:])
        except ValueError as error:
            raise InputError(f"line {count}: {line.strip()[:80]!r} is not a label and eleven numbers") from error
        if occlusion not in (0, 1, 2) or ignore not in (0, 1):
            raise InputError(
                f"line {count}: occlusion {fields[5]} and ignore {fields[10]}; expected 0, 1 or 2, and 0 or 1"
            )
        annotations.append(Annotation(label, (x, y, w, h), int(occlusion), bool(ignore)))
    return annotations
