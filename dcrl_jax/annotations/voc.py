"""XML of Pascal VOC's form, also in the dialect of the KAIST copies.

The root has any name, such as LLVIP's ``annotation`` and FLIR's ``Annotation``. Each ``object`` has a ``name`` and a
``bndbox`` with ``xmin ymin xmax ymax`` or, in KAIST's dialect, ``x y w h``, in pixels; the width is xmax - xmin.
``difficult`` objects are ignored. ``occlusion`` is 0, 1 or 2, as in KAIST; without it, an object that is ``truncated``
or ``occluded``, at all or by a share, is partly occluded. A ``label`` element of KAIST's copies tells that the object
was annotated on that modality only. ``filename`` and ``path`` are not read: they are often wrong.
"""

import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from dcrl_jax.annotations.text import has_control_characters, number, pixels
from dcrl_jax.annotations.types import MODALITIES, NONE, PARTIAL, Annotation, box_text
from dcrl_jax.errors import InputError

ONE_MODALITY = "object of one modality only"

_KAIST_BOX, _VOC_BOX = ("x", "y", "w", "h"), ("xmin", "ymin", "xmax", "ymax")
# Converters write "Unspecified" into fields that they do not know.
_FLAGS = {"": 0.0, "unspecified": 0.0, "false": 0.0, "no": 0.0, "true": 1.0, "yes": 1.0}


class Parsed(NamedTuple):
    """The content of one file."""

    annotations: list[Annotation]  # the objects annotated for the whole pair, in order
    notes: list[str]  # one on each object annotated on one modality only; KAIST's are persons within a group of people
    size: tuple[int, int] | None  # width and height in pixels of the image that was annotated; None if not given
    is_kaist: bool  # whether a box has KAIST's x y w h


def parse(text: str) -> Parsed:
    """Parse one file.

    Raises:
        InputError: the text is not well-formed or of another kind, or an object lacks an element or has it twice; names
            the object, counted from 1.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"not well-formed XML: {error}") from error
    objects = list(root.iter("object"))
    if not objects and root.tag.lower() != "annotation":
        raise InputError(f"XML of <{root.tag[:40]}> without <object> instead of <annotation>")
    for parent in root.iter():
        # The parts of a person, such as its head, have boxes, too.
        if parent.tag not in ("object", "part") and parent.find("bndbox") is not None:
            raise InputError(f"<{parent.tag[:40]}> has a bndbox; expected one in each <object>")
    annotations, notes = [], []
    for count, element in enumerate(objects, start=1):
        try:
            annotation = _parse_object(element)
            modality = _text(element, "label").lower()
        except InputError as error:
            raise InputError(f"object {count}: {error}") from error
        if modality in MODALITIES:
            notes.append(f"object {count}, {box_text(annotation)}: annotated on the {modality} image only")
        else:
            annotations.append(annotation)
    is_kaist = any(element.find("bndbox/x") is not None for element in objects)
    return Parsed(annotations, notes, _size(root), is_kaist)


def _parse_object(element) -> Annotation:
    label = _text(element, "name")
    if not label:
        raise InputError("has no name")
    box = _only(element, "bndbox")
    if box is None:
        raise InputError("has no bndbox")
    forms = [names for names in (_KAIST_BOX, _VOC_BOX) if box.find(names[0]) is not None]
    if not forms:
        raise InputError("bndbox has neither x y w h nor xmin ymin xmax ymax")
    if len(forms) > 1:
        raise InputError("bndbox has both x y w h and xmin ymin xmax ymax; keep one of them")
    (names,) = forms
    x, y, *rest = (_number(box, name) for name in names)
    w, h = rest if names is _KAIST_BOX else (rest[0] - x, rest[1] - y)
    difficult = _share(element, "difficult")
    if difficult not in (0, 1):
        raise InputError(f"difficult is {difficult:g}; expected 0 or 1")
    return Annotation(label, (x, y, w, h), _occlusion(element), bool(difficult))


def _occlusion(element) -> int:
    if element.find("occlusion") is None:
        return PARTIAL if _share(element, "truncated") or _share(element, "occluded") else NONE
    occlusion = _number(element, "occlusion")
    if occlusion not in (0, 1, 2):
        raise InputError(f"occlusion is {occlusion:g}; expected 0, 1 or 2")
    return int(occlusion)


def _share(element, name) -> float:
    """Return the value of a flag or share from 0 to 1; 0 if the element is missing or does not tell."""
    text = _text(element, name).lower()
    share = _FLAGS[text] if text in _FLAGS else _number(element, name)
    if not 0 <= share <= 1:
        raise InputError(f"{name} is {share:g}; expected 0 or 1")
    return share


def _size(root) -> tuple[int, int] | None:
    """Return the size of the annotated image; None if a side is missing or, as some tools write, 0."""
    size = _only(root, "size")
    sides = []
    for name in ("width", "height") if size is not None else ():
        text = _text(size, name)
        try:
            sides.append(0 if text.lower() in _FLAGS else pixels(text))
        except ValueError as error:
            raise InputError(f"{name} is {text[:40]!r}; expected a whole number of pixels") from error
    return (sides[0], sides[1]) if sides and all(sides) else None


def _only(element, name):
    """Return the only child of this name, or None."""
    elements = element.findall(name)
    if len(elements) > 1:
        raise InputError(f"has {len(elements)} elements <{name}>; expected one")
    return elements[0] if elements else None


def _text(element, name) -> str:
    """Return the text of the only child of this name, or ""."""
    child = _only(element, name)
    if child is None:
        return ""
    if len(child):
        raise InputError(f"<{name}> contains other elements; expected only text")
    text = (child.text or "").strip()
    if has_control_characters(text):
        raise InputError(f"<{name}> has a line break or a control character, {text[:40]!r}")
    return text


def _number(element, name) -> float:
    text = _text(element, name)
    try:
        return number(text)
    except ValueError as error:
        raise InputError(f"{name} is {text[:40]!r}; expected a number") from error
