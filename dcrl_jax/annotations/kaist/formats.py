"""One annotation file of KAIST in any format; the content decides the format, not the suffix."""

import re
from typing import NamedTuple

from dcrl_jax.annotations import labels, voc
from dcrl_jax.annotations.kaist import bbgt, corners
from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.types import NO_SIZE, Annotation, Finding, box_text
from dcrl_jax.annotations.voc import ONE_MODALITY
from dcrl_jax.errors import InputError

LABELS = (labels.PERSON, *labels.KAIST_IGNORE)
_DOUBTFUL = re.compile(r"person\?.*")

UNKNOWN_LABEL = "unknown label"


class Parsed(NamedTuple):
    """The content of one annotation file."""

    annotations: list[Annotation]
    findings: list[Finding]
    format: str  # "bbGt", "XML", "corners", or "" for an empty text, which could be either text format


def parse(text: str, place: str, keep_rows: bool = False) -> Parsed:
    """Parse the text of one file.

    Args:
        text: the file's content.
        place: the file's name, for findings.
        keep_rows: keep boxes of no size, as ignored ones, and repeated annotations, so that rows still correspond to
            those of another file.

    Returns:
        The annotations with their ``plain_label``, without boxes of no size, and each once. The findings list boxes of
        no size, repeated annotations, unknown labels and objects of one modality only.

    Raises:
        InputError: the file is malformed or in no known format; the message does not name the file.
    """
    annotations, notes, kind = _parse(text)
    findings = [Finding(ONE_MODALITY, f"{place}: {note}") for note in notes]
    kept = []
    for annotation in annotations:
        annotation = annotation._replace(label=plain_label(annotation.label))
        if annotation.label not in LABELS:
            findings.append(Finding(UNKNOWN_LABEL, f"{place}: {annotation.label[:40]!r}"))
        if min(annotation.box[2:]) <= 0:
            # The placeholder of an object that this modality does not show often has no size.
            if annotation.label != labels.UNPAIRED:
                findings.append(Finding(NO_SIZE, f"{place}: {box_text(annotation)}"))
            if not keep_rows:
                continue
            annotation = annotation._replace(ignore=True)
        kept.append(annotation)
    if not keep_rows:
        kept, repeats = drop_repeats(kept, place)
        findings += repeats
    return Parsed(kept, findings, kind)


def plain_label(label: str) -> str:
    """Return the benchmark's spelling of a label, ``person`` for ``Person``, and every other label unchanged.

    ``person?`` has variants such as ``person?a``, ``ignore`` is also ``__ignore__``.
    """
    plain = label.strip().lower()
    plain = "person?" if _DOUBTFUL.fullmatch(plain) else plain.strip("_") if plain == "__ignore__" else plain
    return plain if plain in LABELS else label


def _parse(text):
    """Return the annotations, notes on objects of one modality only, and the format."""
    start = text.lstrip()
    if start.startswith("<"):
        parsed = voc.parse(start)
        return parsed.annotations, parsed.notes, "XML"
    if start.startswith("%"):
        annotations = bbgt.parse(text)
        return annotations, [], "bbGt" if annotations else ""
    fields = len(start.split("\n", 1)[0].split())
    if fields == 0:
        return [], [], ""
    if fields == bbgt.FIELDS:
        return bbgt.parse(text), [], "bbGt"
    if fields == corners.FIELDS:
        return corners.parse(text), [], "corners"
    raise InputError(
        f"{fields} fields in the first line; expected bbGt text (12 fields), `person|ignore x1 y1 x2 y2` or XML"
    )
