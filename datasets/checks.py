"""Checks of a user's copy: boxes, images, tables of counts, and the report of all problems."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from PIL import Image

from datasets.fetched import CheckedCopy
from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError, first_few

IMAGE_MISSING = "image missing"
IMAGE_UNREADABLE = "image unreadable"
OUTSIDE = "box outside the image"
NO_SIZE = "box of no size"
# To score a trained detector, the test half of a copy is enough.
NO_TRAINING_IMAGE = "no training image found: this data set can be scored but not trained on"
# Consequences of an incomplete split that is scored; the second if results files name an image by its index.
NOT_COMPARABLE = "; scores on it are not comparable with others"
INDEX_OF_KEPT = f"{NOT_COMPARABLE}, and results files count the images that are there"
_SHOWN = 20
# Markers within the last bytes of a complete file.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024


def overlaps_image(annotation: Annotation, width: int, height: int) -> bool:
    """Return whether a box has a size and lies in the image, at least in part; sizes are in pixels."""
    x, y, w, h = annotation.box
    return w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0


def keep_overlapping(
    annotations: Sequence[Annotation], width: int, height: int, place: str
) -> tuple[list[Annotation], list[Finding]]:
    """Return the annotations that overlap the image, and findings on the others.

    Args:
        annotations: of one image.
        width: of the image, in pixels.
        height: of the image, in pixels.
        place: the image's name, for findings.
    """
    kept, findings = [], []
    for annotation in annotations:
        if overlaps_image(annotation, width, height):
            kept.append(annotation)
        else:
            kind = NO_SIZE if min(annotation.box[2:]) <= 0 else OUTSIDE
            findings.append(Finding(kind, f"{place}: {box_text(annotation)}"))
    return kept, findings


def box_text(annotation: Annotation) -> str:
    """Return the label and box as a message shows them."""
    return f"{annotation.label[:40]} {' '.join(f'{value:g}' for value in annotation.box)}"


def count_people(annotations: Sequence[Annotation]) -> int:
    """Return the number of people that are not ignored."""
    return sum(annotation.label == PERSON and not annotation.ignore for annotation in annotations)


def image_problem(path: Path, size: tuple[int, int]) -> str | None:
    """Return the problem of a JPEG or PNG file, or None; checks its header and its end without decoding it.

    Args:
        path: the file.
        size: expected width and height in pixels.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            kind, found = image.format, image.size
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read()
    except Exception as error:  # Pillow's parsers raise all kinds of exceptions
        reason = getattr(error, "strerror", None) or "not an image"
        return f"cannot be read ({reason}, {os.path.getsize(path) if path.exists() else 0} bytes)"
    if kind not in _ENDS:
        return f"{kind} image; expected JPEG or PNG"
    if _ENDS[kind] not in tail:
        return "cut off: its end is missing"
    if found != size:
        return f"{found[0]}x{found[1]} pixels; expected {size[0]}x{size[1]}, in which the boxes are annotated"
    return None


def count_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return counts as a text table: names on the left, numbers right-aligned."""
    lines = [list(head), *([str(row[0]), *(f"{value:,}" for value in row[1:])] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def incomplete_warning(split: str, left_out: int, expected: int, consequence: str = "") -> list[str]:
    """Return the warning about images that are left out of a split, in a list that is empty if there are none."""
    text = f"incomplete {split} split: {left_out:,} of {expected:,} images are left out{consequence}"
    return [text] if left_out else []


def report_findings(findings: Sequence[Finding], path: Path) -> None:
    """Print the findings by kind, the first twenty of each, and write all of them to a file; no file if none."""
    if not findings:
        return
    by_kind: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding.text)
    for kind, texts in by_kind.items():
        print("\n  ".join([f"{kind}: {len(texts):,}", *first_few(texts, _SHOWN)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{finding.kind}\t{finding.text}\n" for finding in findings)
    path.write_text(lines, encoding="utf-8", errors="backslashreplace")
    print(f"all of these: {path}", flush=True)


def finish_check(
    checked: CheckedCopy,
    findings: Sequence[Finding],
    path: Path,
    scored_split: str,
    leaves_out: Collection[str],
    allow_incomplete: bool,
) -> CheckedCopy:
    """Print the result of a check and return ``checked`` if the copy can be used.

    Args:
        checked: the usable part of the copy.
        findings: all problems; their texts begin with their split.
        path: the file that lists the findings.
        scored_split: the split of which every image is needed.
        leaves_out: the kinds of findings that leave an image out.
        allow_incomplete: whether images of the scored split may be missing.

    Raises:
        InputError: images of the scored split are left out, or a split has no usable image.
    """
    report_findings(findings, path)
    print(f"\n{checked.metadata['table']}\n", flush=True)
    missing = [one for one in findings if one.kind in leaves_out and one.text.startswith(f"{scored_split}: ")]
    if missing and not allow_incomplete:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in Counter(one.kind for one in missing).items())
        raise InputError(
            f"the {scored_split} split is incomplete: {counts}; {path} lists them. Get the missing files, or give "
            "--allow_incomplete (config.data.options.allow_incomplete=True in a run): a warning that the score is not "
            "comparable with others is then printed with every score."
        )
    empty = [name for name, items in checked.kept.items() if not items]
    if empty:
        raise InputError(f"nothing usable for the split {' and '.join(empty)}; {path} lists the problems.")
    for warning in checked.metadata["warnings"]:
        print(f"warning: {warning}", flush=True)
    return checked
