"""One annotation file of KAIST, whatever its format: the content decides, not the ending."""

import re
from typing import NamedTuple

from dcrl_jax.annotations.kaist import bbgt, corners, pascal
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError

# "unpaired" stands where the other modality's file has an object that this modality does not show.
LABELS = ("person", "people", "person?", "cyclist", "ignore", "unpaired")
# The doubtful person has variants, such as "person?a".
_DOUBTFUL = re.compile(r"person\?.*")

UNKNOWN_LABEL = "unknown label"
NO_SIZE = "box of no size"
ONE_MODALITY = "object of one modality alone"


class Parsed(NamedTuple):
    """The content of one annotation file."""

    annotations: list[Annotation]
    findings: list[Finding]
    format: str  # "bbGt", "XML", "corners", or "" for a file without objects that could be either text format


def parse(text: str, place: str, keep_rows: bool = False) -> Parsed:
    """Parses the text of one file.

    Args:
        text: its content.
        place: its name, for findings.
        keep_rows: keep boxes of no size, so that rows go on corresponding to those of another file.

    Returns:
        Annotations with labels as annotated (but for variants of ``person?``), boxes of no size left out; what was
        left out, and labels that nobody knows, are in the findings.

    Raises:
        InputError: the file is malformed, or of none of the formats; without the file's name.
    """
    annotations, notes, kind = _parse(text)
    findings = [Finding(ONE_MODALITY, f"{place}: {note}") for note in notes]
    kept = []
    for annotation in annotations:
        if _DOUBTFUL.fullmatch(annotation.label):
            annotation = annotation._replace(label="person?")
        box = " ".join(f"{value:g}" for value in annotation.box)
        if annotation.label not in LABELS:
            findings.append(Finding(UNKNOWN_LABEL, f"{place}: {annotation.label[:40]!r}"))
        if min(annotation.box[2:]) <= 0:
            # The placeholder of a missing object may well be empty.
            if annotation.label != "unpaired":
                findings.append(Finding(NO_SIZE, f"{place}: {annotation.label[:40]} {box}"))
            if not keep_rows:
                continue
            annotation = annotation._replace(ignore=True)
        kept.append(annotation)
    return Parsed(kept, findings, kind)


def _parse(text):
    start = text.lstrip()
    if start.startswith("<"):
        annotations, notes = pascal.parse(start)
        return annotations, notes, "XML"
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
