"""Caltech's original annotations: one ``.vbb`` file per video, a MAT file with the toolbox's struct ``A``.

``A`` has ``nFrame``, ``objLists`` (a cell per frame, empty or with a struct per object) and ``objLbl``, the label of
each id. An object has ``id``, counted from 1, ``pos`` and ``posv`` (the box and its visible part as left, top, width,
height), ``occl`` and ``lock``.
"""

import os
from typing import Any

import numpy as np

from dcrl_jax.annotations.caltech import mat, occlusion
from dcrl_jax.annotations.text import has_control_characters
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

_FIELDS = ("nFrame", "objLists", "objLbl")
_OBJECT_FIELDS = ("id", "pos", "posv")


def read(path: str | os.PathLike[str]) -> list[list[Annotation]]:
    """Read one file.

    Returns:
        The objects of each frame of the video, in the order of the file. Boxes are as annotated, with coordinates from
        1, as the toolbox uses them. Occlusion is the level of the visible share (``occlusion.level``).

    Raises:
        InputError: the file cannot be read, is no .vbb file, or an object is malformed.
    """
    struct: Any = mat.read(path, "A")
    if not isinstance(struct, list) or len(struct) != 1 or not set(_FIELDS) <= set(struct[0]):
        raise InputError(f"{path}: no .vbb file: expected a struct A with {', '.join(_FIELDS)}")
    annotation = struct[0]
    labels, lists = annotation["objLbl"], annotation["objLists"]
    try:
        length = annotation["nFrame"].item()
        if not isinstance(labels, tuple) or not isinstance(lists, tuple):
            raise TypeError("expected cells objLbl and objLists")
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its struct A is malformed ({error}); get it again") from error
    labels = [label if isinstance(label, str) else "" for label in labels]
    if control := next(filter(has_control_characters, labels), None):
        raise InputError(f"{path}: the label {control[:40]!r} has a line break or a control character")
    if length != len(lists):
        raise InputError(f"{path}: annotations of {len(lists)} frames, but nFrame says {length:g}; get it again")
    return [_parse_frame(path, number, objects, labels) for number, objects in enumerate(lists)]


def _parse_frame(path, number, objects, labels):
    if len(objects) == 0:
        return []
    if not isinstance(objects, list) or not set(_OBJECT_FIELDS) <= set(objects[0]):
        raise InputError(f"{path}: frame {number}: expected objects with {', '.join(_OBJECT_FIELDS)}")
    annotations = []
    for entry in objects:
        try:
            if max(entry["pos"].size, entry["posv"].size) > 99:  # a message would have all of them
                raise ValueError("too many numbers; expected four each for pos and posv")
            object_id = float(entry["id"].item())
            box = tuple(float(value) for value in entry["pos"].ravel())
            visible = tuple(float(value) for value in entry["posv"].ravel())
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{path}: frame {number}: an object is malformed ({error})") from error
        has_id = object_id.is_integer() and 1 <= object_id <= len(labels)
        # Larger values do not fit the float32 of a box, and no image is as large.
        if not (has_id and len(box) == 4 and len(visible) == 4 and (np.abs([box, visible]) <= 1e6).all()):
            raise InputError(
                f"{path}: frame {number}: object {object_id:g} with pos {box} and posv {visible}; expected an id from "
                f"1 to {len(labels)} and four numbers each for pos and posv"
            )
        annotations.append(Annotation(labels[int(object_id) - 1], box, occlusion.level(box, visible)))
    return annotations
