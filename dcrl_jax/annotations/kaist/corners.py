"""The sanitized training labels of MSDS-RCNN: one object per line, ``person|ignore x1 y1 x2 y2``, in pixels."""

from dcrl_jax.annotations.text import number, numbered_lines
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

LABELS = ("person", "ignore")
FIELDS = 5


def parse(text: str) -> list[Annotation]:
    """Parse one file.

    Raises:
        InputError: a malformed line; names its number, counted from 1.
    """
    annotations = []
    for count, line in numbered_lines(text):
        fields = line.split()
        if len(fields) != FIELDS:
            raise InputError(f"line {count}: {len(fields)} fields instead of 5, person|ignore x1 y1 x2 y2")
        label = fields[0]
        if label not in LABELS:
            raise InputError(
                f"line {count}: label {label[:40]!r}; files of five fields a line have {' and '.join(LABELS)}"
            )
        try:
            x1, y1, x2, y2 = map(number, fields[1:])
        except ValueError as error:
            raise InputError(f"line {count}: {line.strip()[:80]!r} is not a label and four numbers") from error
        annotations.append(Annotation(label, (x1, y1, x2 - x1, y2 - y1), ignore=label == "ignore"))
    return annotations
