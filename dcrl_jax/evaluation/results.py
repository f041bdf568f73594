"""Results: files in KAIST's text format or in COCO's JSON, and folders with one text file per image.

Names decide which image a detection belongs to, wherever there are names: a list ``images.txt`` beside the file, names
in the file, or the names of a folder's files. Only where there are none, an image is named by its index in the split's
list of images: the text file counts from 1, the JSON file from 0, unless the data set has its own image numbers. Boxes
are x, y, width, height in pixels of the annotated image. The reference evaluation uses them unchanged; it does not
subtract 1 from x and y.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dcrl_jax.annotations.files import walk
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.image_names import IMAGES_FILE, Names, list_beside, listed_images, numberings
from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.evaluation.result_rows import PERSON_CATEGORY, Row, parse_text, read_file, read_rows
from dcrl_jax.files import write_atomically

# One file per image, as KAIST's development kit writes them.
FOLDER_COLUMNS = "label,x1,y1,x2,y2,score"
FOLDER_LABELS = ("person", "pedestrian")

_WHOLE = re.compile(r"0|[1-9][0-9]{0,14}")


def write_kaist_text(
    path: str | os.PathLike, detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> None:
    """Write one line ``image,x,y,w,h,score`` per detection, by image and descending score.

    Reading the file returns exactly the same numbers. The file is written completely or not at all.

    Args:
        path: the file; its folder is created if needed.
        detections: detections by image id.
        image_ids: the split's images in order; the first is image 1.

    Raises:
        InputError: an image id is not in the list, or a detection is not finite or has a negative size.
    """
    lines = (
        ",".join([str(index + 1), *map(repr, box), repr(score)]) + "\n"
        for index, box, score in sort_detections(detections, image_ids)
    )
    write_atomically(Path(path), lines)


def write_coco_json(
    path: str | os.PathLike,
    detections: Mapping[str, ImageDetections],
    image_ids: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> None:
    """Write a COCO results list, one entry per line.

    Arguments and errors as for ``write_kaist_text``, but the first image is image 0. If the data set has its own image
    numbers, ``numbers`` has one per image.
    """
    numbers = range(len(image_ids)) if numbers is None else numbers

    def pieces():
        start = "[\n"
        for index, box, score in sort_detections(detections, image_ids):
            entry = {"image_id": numbers[index], "category_id": PERSON_CATEGORY, "bbox": box, "score": score}
            yield start + json.dumps(entry)
            start = ",\n"
        yield "[]\n" if start == "[\n" else "\n]\n"

    write_atomically(Path(path), pieces())


def read_results(
    path: str | os.PathLike,
    image_ids: Sequence[str],
    numbers: Sequence[int] | None = None,
    file_names: Sequence[str] | None = None,
) -> Results:
    """Read results of any format; their content decides which.

    Names decide which image a detection belongs to: the lines of ``images.txt`` beside the file (or in the folder), to
    which the numbers in the file then refer; names in the first column, in ``image_id`` or in ``file_name``; or the
    names of a folder's files. A name may have parent folders, suffixes, and a last word for the modality. Where there
    are no names, a number counts the images of the split.

    Args:
        path: a text file with lines of image, x, y, width, height, score, which commas or spaces separate; a list of
            COCO results; or a folder with a text file per image with lines of person, x1, y1, x2, y2, score. A first
            line may name the columns, in any order, with corners or sizes. An empty file holds no detections.
        image_ids: the split's images in order, as for writing.
        numbers: the data set's own image numbers, by which JSON files then name images; see ``numberings``.
        file_names: a second name for each image.

    Returns:
        Detections by image id, in the order of the file; images without detections are left out. If there
        is an ``images.txt``, ``images`` of the result has the images that it names, on which scores are then taken.

    Raises:
        InputError: the file cannot be read or is malformed, which names the line or the JSON entry; or names are none
            of the split's images, which lists the first ones.
    """
    return _read(Path(path), image_ids, numbers, file_names, people_only=True)[None]


def read_categories(
    path: str | os.PathLike,
    image_ids: Sequence[str],
    numbers: Sequence[int] | None = None,
    file_names: Sequence[str] | None = None,
) -> dict[int | float | str | None, Results]:
    """Read results of several categories; for the arguments and errors see ``read_results``.

    Returns:
        Results by the ``category_id`` of a COCO file; without detections, and for other files, which have people only,
        under None.
    """
    return _read(Path(path), image_ids, numbers, file_names, people_only=False)


def _read(
    path: Path,
    image_ids: Sequence[str],
    numbers: Sequence[int] | None,
    file_names: Sequence[str] | None,
    people_only: bool,
) -> dict[int | float | str | None, Results]:
    """Return the results of each category, or of people under None."""
    names = Names(image_ids, file_names)
    listed = listed_images(path, image_ids, file_names, numbers)
    rows, start, warnings = _read_folder(path, names, listed) if path.is_dir() else (*read_rows(path, people_only), [])
    groups = _group(rows, names)
    id_of: dict[int | str, str] = {}
    id_of |= names.find_all({name: place for name, (place, _) in groups.items() if isinstance(name, str)}, path)
    places = {number: place for number, (place, _) in groups.items() if isinstance(number, int)}
    first_number, others = None, {}
    if places:
        expected, *_ = possible = numberings(path, start, image_ids, numbers, listed)
        fitting = [numbering for numbering in possible if numbering.id_of.keys() >= places.keys()]
        if not fitting:
            number, place = next(item for item in places.items() if item[0] not in expected.id_of)
            raise InputError(f"{place}: image {number}; expected {expected.expected}")
        chosen, *rest = fitting
        if chosen is not expected:
            warnings = [*warnings, f"image numbers are taken as {chosen.name}, since not all are {expected.name}"]
        first_number = chosen.first_number
        id_of |= {number: chosen.id_of[number] for number in places}
        others = {other.name: {chosen.id_of[number]: other.id_of[number] for number in places} for other in rest}
    by_category: dict[int | float | str | None, dict[str, list[Sequence[float]]]] = {}
    for image, (_, image_rows) in groups.items():
        for row in image_rows:
            category = None if people_only else row.category
            by_category.setdefault(category, {}).setdefault(id_of[image], []).append(row.values)
    images = _part(path, listed, id_of.values())
    return {
        category: Results(
            {image_id: to_detections(values) for image_id, values in by_image.items()},
            images,
            first_number,
            warnings,
            others,
        )
        for category, by_image in (by_category or {None: {}}).items()
    }


def _part(path: Path, listed: Mapping[str, str] | None, detected: Iterable[str]) -> frozenset[str] | None:
    """Return the images that a list names; None if there is no list."""
    if listed is None:
        return None
    images = frozenset(listed.values())
    others = [image_id for image_id in detected if image_id not in images]
    if others:
        raise InputError(
            f"{path}: detections in {len(others)} images that {list_beside(path)} does not list, first {others[0]}; "
            "complete the list"
        )
    return images


def _group(rows: Iterable[Row], names: Names) -> dict[int | str, tuple[str, list[Row]]]:
    """Return the place of the first row and all rows of each image, by its number or name.

    A string of digits that is no name is a number, unless it is padded with zeros, as numbers are in names.
    """
    groups: dict[int | str, tuple[str, list[Row]]] = {}
    for row in rows:
        image = row.image
        if isinstance(image, str) and _WHOLE.fullmatch(image) and names.find(image) is None:
            image = int(image)
        groups.setdefault(image, (row.place, []))[1].append(row)
    return groups


def to_detections(rows: Sequence[Sequence[float]]) -> ImageDetections:
    """Return the detections of an image from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def _read_folder(folder: Path, names: Names, listed: Mapping[str, str] | None) -> tuple[Iterable[Row], int, list[str]]:
    """Return the rows of a folder's files, named by their image, and a warning about images without a file."""
    paths = {path.relative_to(folder).as_posix(): path for path in walk(folder, (".txt",)) if path.name != IMAGES_FILE}
    if not paths:
        raise InputError(f"{folder}: has no text files; expected one per image with lines of {FOLDER_COLUMNS}")
    found = names.find_all({name: str(path) for name, path in paths.items()}, folder)
    path_of: dict[str, Path] = {}
    for name, image_id in found.items():
        if path_of.setdefault(image_id, paths[name]) != paths[name]:
            raise InputError(f"{path_of[image_id]} and {paths[name]} both have results of {image_id}; keep one of them")
    rows = [
        Row(row.place, image_id, row.values)
        for image_id, path in path_of.items()
        for row in parse_text(read_file(path, f"lines of {FOLDER_COLUMNS}"), path, FOLDER_COLUMNS)
        if _check_label(row)
    ]
    missing = len(names.image_ids) - len(path_of)
    if listed is not None or not missing:
        return rows, 0, []
    return (
        rows,
        0,
        [
            f"{missing:,} of {len(names.image_ids):,} images have no file and count as images without detections; if "
            f"they were not processed, list the others in {folder / IMAGES_FILE}"
        ],
    )


def _check_label(row: Row) -> bool:
    if str(row.image).lower() not in FOLDER_LABELS:
        raise InputError(f"{row.place}: label {str(row.image)[:40]!r}; expected {FOLDER_LABELS[0]!r}, pedestrians only")
    return True


def sort_detections(
    detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> Iterator[tuple[int, list[float], float]]:
    """Check detections and yield (image index, box, score) of each, by image and descending score.

    Boxes, x, y, width, height, and scores are plain Python numbers; arguments and errors as for ``write_kaist_text``.
    """
    index_of = {image_id: index for index, image_id in enumerate(image_ids)}
    unknown = [image_id for image_id in detections if image_id not in index_of]
    if unknown:
        raise InputError(f"detections of {len(unknown)} images that are not in the split, first {unknown[0]!r}")
    for image_id in sorted(detections, key=index_of.__getitem__):
        boxes = np.asarray(detections[image_id].boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(detections[image_id].scores, np.float64).reshape(-1)
        if len(boxes) != scores.size:
            raise InputError(f"image {image_id!r}: {len(boxes)} detected boxes but {scores.size} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()) or (boxes[:, 2:] < 0).any():
            raise InputError(f"image {image_id!r}: a detection is not finite or has a negative size; was padding kept?")
        order = np.argsort(-scores, kind="stable")
        for box, score in zip(boxes[order].tolist(), scores[order].tolist(), strict=True):
            yield index_of[image_id], box, score
