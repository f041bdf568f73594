"""XML of PASCAL VOC's form, in the two dialects of the KAIST copies.

``bndbox`` has ``x y w h`` or ``xmin ymin xmax ymax``, in pixels; the width is xmax - xmin. ``occlusion`` is 0, 1 or 2
and may be missing. An object with a ``label`` element was annotated on that modality only.
"""

import xml.etree.ElementTree as ElementTree

from dcrl_jax.annotations.text import number
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError


def parse(text: str) -> tuple[list[Annotation], list[str]]:
    """Parse one file.

    Returns:
        The objects annotated for both modalities, and a note on each object annotated on only one. The latter are
        persons within a group of ``people``, and are in none of the published truths.

    Raises:
        InputError: the text is not well-formed, or an object lacks an element or has it twice; names the object,
            counted from 1.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"not well-formed XML: {error}") from error
    if root.tag != "annotation":
        raise InputError(f"XML of <{root.tag[:40]}> instead of <annotation>")
    annotations, notes = [], []
    for count, element in enumerate(root.iter("object"), start=1):
        try:
            annotation = _parse_object(element)
        except InputError as error:
            raise InputError(f"object {count}: {error}") from error
        modality = element.findtext("label")
        if modality is None:
            annotations.append(annotation)
        else:
            box = " ".join(f"{value:g}" for value in annotation.box)
            notes.append(
                f"object {count}, {annotation.label} {box}: annotated on the {modality.strip()[:20]} image only"
            )
    return annotations, notes


def _parse_object(element):
    label = _text(element, "name")
    if not label:
        raise InputError("has no name")
    box = _only(element, "bndbox")
    if box is None:
        raise InputError("has no bndbox")
    for names in (("x", "y", "w", "h"), ("xmin", "ymin", "xmax", "ymax")):
        if box.find(names[0]) is not None:
            break
    else:
        raise InputError("bndbox has neither x y w h nor xmin ymin xmax ymax")
    x, y, *size = (_number(box, name) for name in names)
    w, h = size if names[0] == "x" else (size[0] - x, size[1] - y)
    occlusion = 0.0 if element.find("occlusion") is None else _number(element, "occlusion")
    if occlusion not in (0, 1, 2):
        raise InputError(f"occlusion is {occlusion:g}; expected 0, 1 or 2")
    return Annotation(label, (x, y, w, h), int(occlusion))


def _only(element, name):
    """Return the only child of this name, or None."""
    elements = element.findall(name)
    if len(elements) > 1:
        raise InputError(f"has {len(elements)} elements <{name}>; expected one")
    return elements[0] if elements else None


def _text(element, name):
    """Return the text of the only child of this name, or ""."""
    child = _only(element, name)
    if child is None:
        return ""
    if len(child):
        raise InputError(f"<{name}> contains other elements; expected only text")
    return (child.text or "").strip()


def _number(element, name):
    text = _text(element, name)
    try:
        return number(text)
    except ValueError as error:
        raise InputError(f"{name} is {text[:40]!r}; expected a number") from error
