"""The labels of one image in any text format; the content decides the format, not the suffix.

YOLO text (boxes and polygons), Pascal VOC XML, KAIST's text formats and CVC-14's text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations import cvc14, voc, yolo
from dcrl_jax.annotations.kaist import bbgt, corners, formats
from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.text import number, read_text
from dcrl_jax.annotations.types import NO_SIZE, OTHER_SIZE, Annotation, Finding, box_text
from dcrl_jax.errors import InputError

SUFFIXES = (".txt", ".xml")  # files that may hold the labels of one image
YOLO, VOC, KAIST, CVC14 = "YOLO", "VOC", "KAIST", "CVC-14"

_KNOWN = """\
Known formats of the labels of one image:
  YOLO text, `class x y w h` or `class x1 y1 x2 y2 x3 y3 ...`, relative to the image
  Pascal VOC XML, with `object`, `name` and `bndbox`
  KAIST text, `label x y w h occ vx vy vw vh ignore angle` or `person|ignore x1 y1 x2 y2`
  CVC-14 text, `x y w h 1 0 0 0 0 id 0` with the centre x y"""


class NoClassNames(InputError):
    """YOLO's labels have numbers, and nothing names their classes."""


class Labels(NamedTuple):
    """The labels of one image."""

    annotations: list[Annotation]  # labels spelled as in the file; boxes x, y, w, h in pixels of the labelled image
    findings: list[Finding]  # what is left out or doubtful
    format: str  # "YOLO", "VOC", "KAIST", "CVC-14", or "" for an empty text file, which is an image without objects


def parse(text: str, place: str, size: tuple[int, int] | None, class_names: Sequence[str] | None) -> Labels:
    """Parse the labels of one image.

    Boxes of no size are left out, and an annotation that is there more than once counts once; findings list both. Boxes
    that leave the image are kept as annotated; YOLO's that lie completely outside it are left out, with a finding.
    KAIST's labels have the benchmark's spelling, ``person`` for ``Person``.

    Args:
        text: the file's content.
        place: the file's name, for messages.
        size: width and height of the labelled image in pixels; None if it is not known. YOLO's relative boxes need it,
            and XML that says that the image had another size gives a finding.
        class_names: YOLO's names by class number; None if they are not known. Only YOLO's labels need them.

    Raises:
        NoClassNames: the labels are YOLO's, and ``class_names`` is None.
        InputError: the text is malformed or in no known format; names the place, and the line or object.
    """
    kind = _format_of(text, place)
    findings: list[Finding] = []
    if kind == YOLO:
        annotations, findings = _parse_yolo(text, place, size, class_names)
    else:
        try:
            if kind == VOC:
                annotations, findings, kind = _parse_xml(text, place, size)
            elif kind == KAIST:
                parsed = formats.parse(text, place)
                # Which labels are people is the data set's choice here, not the benchmark's.
                findings = [finding for finding in parsed.findings if finding.kind != formats.UNKNOWN_LABEL]
                annotations = parsed.annotations
            else:
                annotations = cvc14.parse(text) if kind == CVC14 else []
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    return Labels(*drop_unusable(annotations, findings, place), kind)


def read(path: Path, size: tuple[int, int] | None, class_names: Sequence[str] | None) -> Labels:
    """Read the labels of one image; for the arguments and errors see ``parse``.

    Raises:
        InputError: also if the file cannot be read, or is XML by its name and empty.
    """
    text = read_text(path)
    if path.suffix.lower() == ".xml" and not text.strip():
        raise InputError(f"{path}: an empty file; XML of an image without objects has an <annotation>")
    return parse(text, str(path), size, class_names)


def drop_unusable(
    annotations: Sequence[Annotation], findings: Sequence[Finding], place: str
) -> tuple[list[Annotation], list[Finding]]:
    """Return the annotations that have a size, each once, and the findings with one on each that is left out."""
    sized = [annotation for annotation in annotations if min(annotation.box[2:]) > 0]
    without = [annotation for annotation in annotations if min(annotation.box[2:]) <= 0]
    kept, repeats = drop_repeats(sized, place)
    return kept, [
        *findings,
        *(Finding(NO_SIZE, f"{place}: {box_text(annotation)}") for annotation in without),
        *repeats,
    ]


def _format_of(text: str, place: str) -> str:
    """Return the format that the first line has, or "" if there is none."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    fields = line.split()
    if not fields:
        return ""
    if fields[0].startswith("<"):
        return VOC
    if line.startswith("%") or (len(fields) == bbgt.FIELDS and not _is_number(fields[0])):
        return KAIST
    # YOLO's class is a number. With a name in its place, YOLO's reader says what is wrong.
    is_relative = len(fields) == 5 and all(_is_number(field) and abs(number(field)) <= 1 for field in fields[1:])
    if len(fields) == corners.FIELDS and fields[0] in corners.LABELS and not is_relative:
        return KAIST
    if cvc14.is_line(line):
        return CVC14
    if len(fields) >= 5 and (_is_number(fields[0]) or is_relative):
        return YOLO
    raise InputError(f"{place}: the first line, {line.strip()[:80]!r}, is in no known format.\n{_KNOWN}")


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def _parse_yolo(
    text: str, place: str, size: tuple[int, int] | None, class_names: Sequence[str] | None
) -> tuple[list[Annotation], list[Finding]]:
    if class_names is None:
        raise NoClassNames(
            f"{place}: YOLO labels have numbers for classes, and nothing names them. Give the names in their order "
            "with the option class_names, or put classes.txt, obj.names or data.yaml beside the labels."
        )
    if size is None:
        raise InputError(f"{place}: YOLO labels are relative to the image, whose size is not known")
    annotations, findings, problems = yolo.parse(text, size, class_names, place)
    if problems:
        more = f" (and {len(problems) - 1:,} more malformed lines)" if problems[1:] else ""
        raise InputError(f"{problems[0]}{more}")
    return annotations, findings


def _parse_xml(text: str, place: str, size: tuple[int, int] | None) -> tuple[list[Annotation], list[Finding], str]:
    parsed = voc.parse(text.strip())
    findings = [Finding(voc.ONE_MODALITY, f"{place}: {note}") for note in parsed.notes]
    if parsed.size and size and parsed.size != size:
        sizes = f"{parsed.size[0]}x{parsed.size[1]} pixels, but the image has {size[0]}x{size[1]}"
        findings.append(Finding(OTHER_SIZE, f"{place}: {sizes}"))
    if not parsed.is_kaist:
        return parsed.annotations, findings, VOC
    spelled = [one._replace(label=formats.plain_label(one.label)) for one in parsed.annotations]
    return spelled, findings, KAIST
