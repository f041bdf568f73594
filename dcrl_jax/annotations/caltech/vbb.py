"""Caltech's original annotations: one ``.vbb`` file for each video, a MAT file of the toolbox's struct ``A``.

``A`` has ``nFrame``, ``objLists`` (a cell for each frame, empty or with a struct for each object: ``id`` from 1,
``pos`` and ``posv``, which are the box and its visible part as left, top, width, height, ``occl``, ``lock``) and
``objLbl``, the label of each id.
"""

import os

import numpy as np
import scipy.io

from dcrl_jax.annotations.caltech import occlusion
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

_FIELDS = ("nFrame", "objLists", "objLbl")
_OBJECT_FIELDS = ("id", "pos", "posv")


def read(path: str | os.PathLike[str]) -> list[list[Annotation]]:
    """Reads one file.

    Returns:
        The objects of each frame of the video, in the order of the file. Boxes are as annotated, in coordinates from 1,
        which the toolbox does not subtract. Occlusion is the level of the visible share (``occlusion.level``).

    Raises:
        InputError: the file cannot be read, is no such file, or an object in it is malformed.
    """
    try:
        with open(path, "rb") as file:
            content = scipy.io.loadmat(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # the parser raises whatever it stumbles upon
        raise InputError(f"{path}: no .vbb file, or cut off ({error}); get it again") from error
    struct = content.get("A")
    names = getattr(struct, "dtype", np.dtype(float)).names or ()
    if struct is None or struct.size != 1 or not set(_FIELDS) <= set(names):
        raise InputError(f"{path}: no .vbb file: expected a struct A with {', '.join(_FIELDS)}")
    annotation = struct.flat[0]
    try:
        length = int(annotation["nFrame"].item())
        labels = [str(label.item()) if label.size else "" for label in annotation["objLbl"].ravel()]
        lists = annotation["objLists"].ravel()
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its struct A is malformed ({error}); get it again") from error
    if length != len(lists):
        raise InputError(f"{path}: annotations of {len(lists)} frames, but nFrame says {length}; get it again")
    return [_parse_frame(path, number, objects, labels) for number, objects in enumerate(lists)]


def _parse_frame(path, number, objects, labels):
    if objects.size == 0:
        return []
    if not set(_OBJECT_FIELDS) <= set(objects.dtype.names or ()):
        raise InputError(f"{path}: frame {number}: expected objects with {', '.join(_OBJECT_FIELDS)}")
    annotations = []
    for one in objects.ravel():
        try:
            place = int(one["id"].item())
            box = tuple(float(value) for value in one["pos"].ravel())
            visible = tuple(float(value) for value in one["posv"].ravel())
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: frame {number}: an object is malformed ({error})") from error
        if not 1 <= place <= len(labels) or len(box) != 4 or len(visible) != 4 or not np.isfinite([box, visible]).all():
            raise InputError(
                f"{path}: frame {number}: object {place} with pos {box} and posv {visible}; expected an id from 1 to "
                f"{len(labels)} and four numbers each"
            )
        annotations.append(Annotation(labels[place - 1], box, occlusion.level(box, visible)))
    return annotations
