"""Checks of a user's copy: boxes and images, the table of counts, and the report of all problems."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.fetched import CheckedCopy
from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.types import NO_SIZE, OUTSIDE, Annotation, Finding, box_text
from dcrl_jax.decoding import decode, has_16_bits, open_image, upright_size
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.opening import open_regular

IMAGE_MISSING = "image missing"
IMAGE_UNREADABLE = "image unreadable"
MORE_BITS = "thermal image of more than 8 bits; training on it needs a range of values, config.data.lwir_range"
REFUSED = "image that no network takes"
GREY = "grey visible image; runs take it with --config.data.grey_visible=True"
# To score a trained detector, a copy of the scored split is enough.
NO_TRAINING_IMAGE = "no training image found: this data set can be scored but not trained on"
# Consequences of an incomplete scored split; the second one if results files name an image by its index.
NOT_COMPARABLE = "; scores on it are not comparable with others"
INDEX_OF_KEPT = f"{NOT_COMPARABLE}, and results files count the images that are there"
_SHOWN = 20
# Markers within the last bytes of a complete file.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024


def overlaps_image(annotation: Annotation, width: int, height: int) -> bool:
    """Return whether a box has a size and overlaps the image of ``width`` x ``height`` pixels."""
    x, y, w, h = annotation.box
    return w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0


def usable_objects(
    annotations: Sequence[Annotation], width: int, height: int, place: str
) -> tuple[list[Annotation], list[Finding]]:
    """Return the annotations that overlap the image, each of them once, and findings on all others.

    Args:
        annotations: the annotations of one image.
        width: width of the image in pixels.
        height: height of the image in pixels.
        place: the image's name, for findings.
    """
    kept = []
    unique, findings = drop_repeats(annotations, place)
    for annotation in unique:
        if overlaps_image(annotation, width, height):
            kept.append(annotation)
        else:
            kind = NO_SIZE if min(annotation.box[2:]) <= 0 else OUTSIDE
            findings.append(Finding(kind, f"{place}: {box_text(annotation)}"))
    return kept, findings


def count_people(annotations: Sequence[Annotation]) -> int:
    """Return the number of people that are not ignored."""
    return sum(annotation.label == PERSON and not annotation.ignore for annotation in annotations)


class ImageFacts(NamedTuple):
    """What the header and the end of an image file tell."""

    format: str | None  # Pillow's name of it; None if the file cannot be read
    size: tuple[int, int] | None  # upright width and height in pixels; None if the file cannot be read
    findings: list[Finding]


def look_at_image(path: Path, place: str, modality: str = "visible") -> ImageFacts:
    """Return what can be said of an image file of any format that decoding takes.

    JPEG and PNG files are not decoded: their header and their end are checked. Files of other formats are.

    Args:
        path: the file.
        place: the start of findings, ``SPLIT: PATH``.
        modality: ``visible`` or ``lwir``.
    """
    try:
        with open_regular(path) as file, open_image(file, place) as image:
            is_wide, is_grey = has_16_bits(image), image.mode in ("1", "L", "LA")
            image_format, size = image.format, upright_size(image)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read()
        if image_format not in _ENDS:
            is_wide |= decode(path.read_bytes(), place)[1] != "uint8"
    except InputError as error:
        return ImageFacts(None, None, [Finding(IMAGE_UNREADABLE, str(error))])
    except Exception as error:  # Pillow's parsers raise all kinds of exceptions
        reason = getattr(error, "strerror", None) or "not an image"
        length = os.path.getsize(path) if path.exists() else 0
        text = f"{place}: cannot be read ({reason}, {length} bytes)"
        return ImageFacts(None, None, [Finding(IMAGE_UNREADABLE, text)])
    if _ENDS.get(image_format or "", b"") not in tail:
        return ImageFacts(None, None, [Finding(IMAGE_UNREADABLE, f"{place}: cut off: its end is missing")])
    findings = []
    if modality == "lwir":
        findings += [Finding(MORE_BITS, place)] if is_wide else []
    elif is_wide:
        findings.append(Finding(REFUSED, f"{place}: 16 bits; expected RGB of 8 bits"))
    elif is_grey:
        findings.append(Finding(GREY, place))
    return ImageFacts(image_format, size, findings)


def check_image(path: Path, size: tuple[int, int], place: str, modality: str = "visible") -> list[Finding]:
    """Return the findings on a JPEG or PNG file; check its header and its end without decoding it.

    One of the kind IMAGE_UNREADABLE leaves the image out. The others are about values that training does not take as
    they are, as far as the header tells.

    Args:
        path: the file.
        size: expected width and height in pixels.
        place: the start of findings, ``SPLIT: PATH``.
        modality: ``visible`` or ``lwir``.
    """
    facts = look_at_image(path, place, modality)
    if facts.size is None:
        return facts.findings
    if facts.format not in _ENDS:
        return [Finding(IMAGE_UNREADABLE, f"{place}: {facts.format} image; expected JPEG or PNG")]
    if facts.size != size:
        width, height = facts.size
        expected = f"expected {size[0]}x{size[1]}, in which the boxes are annotated"
        return [Finding(IMAGE_UNREADABLE, f"{place}: {width}x{height} pixels; {expected}")]
    return facts.findings


def incomplete_warning(split: str, left_out: int, expected: int, consequence: str = "") -> list[str]:
    """Return the warning about images that are left out of a split, in a list that is empty if there are none."""
    text = f"incomplete {split} split: {left_out:,} of {expected:,} images are left out{consequence}"
    return [text] if left_out else []


def report_findings(findings: Sequence[Finding], path: Path) -> None:
    """Print the first twenty findings of each kind and write all findings to ``path``; do nothing if there are none."""
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
        findings: all problems; the text of a problem of a split begins with ``SPLIT: ``.
        path: the file for the list of findings.
        scored_split: the split that must be complete.
        leaves_out: the kinds of findings that leave an image out.
        allow_incomplete: whether images of the scored split may be missing.

    Raises:
        InputError: images of the scored split are left out, or a split has no usable image.
    """
    report_findings(findings, path)
    print(f"\n{checked.metadata['table']}\n", flush=True)
    missing = [
        finding.kind
        for finding in findings
        if finding.kind in leaves_out and finding.text.startswith(f"{scored_split}: ")
    ]
    if missing and not allow_incomplete:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in Counter(missing).items())
        raise InputError(
            f"the {scored_split} split is incomplete: {counts}; {path} lists them. Get the missing files, or give "
            "--allow_incomplete (config.data.options.allow_incomplete=True in a run): a warning that the score is not "
            "comparable with others is then printed with every score."
        )
    empty = [split for split, items in checked.kept.items() if not items]
    if empty:
        raise InputError(f"no usable image in the split {' and '.join(empty)}; {path} lists the problems.")
    for warning in checked.metadata["warnings"]:
        print(f"warning: {warning}", flush=True)
    return checked
