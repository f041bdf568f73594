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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist.frames import MODALITY_WORDS, spelled_frame
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.evaluation.result_rows import PERSON_CATEGORY, Row, parse_text, read_file, read_rows
from dcrl_jax.files import write_atomically

# One file per image, as KAIST's development kit writes them.
FOLDER_COLUMNS = "label,x1,y1,x2,y2,score"
FOLDER_LABELS = ("person", "pedestrian")
IMAGES_FILE = "images.txt"

_LAST_WORD = re.compile(rf"[_-](?:{'|'.join(MODALITY_WORDS)})$", re.IGNORECASE)
_WHOLE = re.compile(r"0|[1-9][0-9]*")


class _Names:
    """The images of a split by their names in any spelling."""

    def __init__(self, image_ids: Sequence[str], file_names: Sequence[str] | None = None):
        self.image_ids = image_ids
        self._by_name: dict[str, str] = {}
        ambiguous = set()
        for names in (image_ids, file_names or ()):
            for image_id, name in zip(image_ids, names, strict=False):
                plain = _plain_name(name)
                if self._by_name.setdefault(plain, image_id) != image_id:
                    ambiguous.add(plain)
        for plain in ambiguous:
            del self._by_name[plain]
        self._by_name |= {image_id: image_id for image_id in image_ids}

    def find(self, name: str) -> str | None:
        """Return the id of the image of this name; None if the split has no such image."""
        return self._by_name.get(name.strip()) or self._by_name.get(_plain_name(name))

    def find_all(self, places: Mapping[str, str], source: Path) -> dict[str, str]:
        """Return the image ids of several names.

        Args:
            places: where each name is, by the name.
            source: the file that has the names, for messages.

        Raises:
            InputError: names that are none of the images; lists the first ones.
        """
        found = {name: self.find(name) for name in places}
        raise_if_any(
            [f"{place}: {name[:80]!r}" for name, place in places.items() if found[name] is None],
            f"{source}: names that are none of the {len(self.image_ids):,} images",
            f"Expected names like {self.image_ids[0]}. Score the results with the annotations of the same images, and "
            "leave out other ones.",
        )
        return {name: image_id for name, image_id in found.items() if image_id is not None}


def _plain_name(name: str) -> str:
    """Return what the spellings of an image's name have in common."""
    name = name.strip()
    frame = spelled_frame(name)
    return frame or _LAST_WORD.sub("", PurePosixPath(name.replace("\\", "/")).stem)


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
    write_atomically(Path(path), "".join(lines))


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
    entries = (
        json.dumps({"image_id": numbers[index], "category_id": PERSON_CATEGORY, "bbox": box, "score": score})
        for index, box, score in sort_detections(detections, image_ids)
    )
    write_atomically(Path(path), "[\n" + ",\n".join(entries) + "\n]\n")


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
        numbers: the data set's own image numbers, by which JSON files then name images.
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
    names = _Names(image_ids, file_names)
    listed = listed_images(path, image_ids, file_names, numbers)
    rows, start, warnings = _read_folder(path, names, listed) if path.is_dir() else (*read_rows(path, people_only), [])
    groups = _group(rows, names)
    id_of: dict[int | str, str] = {}
    id_of |= names.find_all({name: place for name, (place, _) in groups.items() if isinstance(name, str)}, path)
    places = {number: place for number, (place, _) in groups.items() if isinstance(number, int)}
    # A list of the own numbers only tells which images were processed; a list of names gives numbers a meaning.
    is_own = start == 0 and (listed is None or {str(number) for number in numbers or ()}.issuperset(listed))
    if places and numbers is not None and is_own:
        expected = f"the id of one of the {len(image_ids)} annotated images, {min(numbers)} to {max(numbers)}"
        id_of |= _find_numbers(places, dict(zip(numbers, image_ids, strict=True)), expected)
    elif places:
        counted = list(listed.values()) if listed else image_ids
        source = f"{list_beside(path)} has {len(counted)} names" if listed else f"the split has {len(counted)} images"
        source += ", which JSON files count from 0" if start == 0 else ", which text files count from 1"
        expected = f"{start}..{start + len(counted) - 1}, since {source}"
        id_of |= _find_numbers(places, dict(enumerate(counted, start=start)), expected)
    by_category: dict[int | float | str | None, dict[str, list[Sequence[float]]]] = {}
    for image, (_, image_rows) in groups.items():
        for row in image_rows:
            category = None if people_only else row.category
            by_category.setdefault(category, {}).setdefault(id_of[image], []).append(row.values)
    images = _part(path, listed, id_of.values())
    first_number = None
    if places and not listed:
        first_number = start if numbers is None or not is_own else _first_of(numbers)
    return {
        category: Results(
            {image_id: to_detections(values) for image_id, values in by_image.items()}, images, first_number, warnings
        )
        for category, by_image in (by_category or {None: {}}).items()
    }


def _first_of(numbers: Sequence[int]) -> int | None:
    """Return the first of the data set's own image numbers if they count its images without a gap."""
    is_counted = list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers[0] if is_counted else None


def list_beside(path: Path) -> Path:
    """Return the path of the list of images that belongs to a results file or folder; the list may be absent."""
    inside = path / IMAGES_FILE
    return inside if inside.is_file() else path.parent / IMAGES_FILE


def listed_images(
    path: Path,
    image_ids: Sequence[str],
    file_names: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
) -> dict[str, str] | None:
    """Return the image ids of the names in the list beside results, by name in the order of the list; None if absent.

    A list of nothing but the data set's own image numbers is one of numbers, whatever the images are called.

    Raises:
        InputError: the list cannot be read, is empty, has a name of none of the images, or an image twice.
    """
    source = list_beside(path)
    if not source.is_file() or source == path:
        return None
    lines = enumerate(read_file(source, "the name of an image on each line", "surrogateescape").split("\n"), start=1)
    lines = [(f"{source}:{number}", line.strip()) for number, line in lines if line.strip()]
    by_number = dict(zip(map(str, numbers), image_ids, strict=True)) if numbers is not None else {}
    if all(name in by_number for _, name in lines):
        found = by_number
    else:
        found = _Names(image_ids, file_names).find_all({name: place for place, name in lines}, source)
    first: dict[str, str] = {}
    for place, name in lines:
        if found[name] in first:
            raise InputError(f"{place}: {name} is the image of {first[found[name]]}; list each image once")
        first[found[name]] = place
    if not lines:
        raise InputError(f"{source}: lists no images; expected the names of those in {path.name}, or remove the list")
    return {name: found[name] for _, name in lines}


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


def _group(rows: Iterable[Row], names: _Names) -> dict[int | str, tuple[str, list[Row]]]:
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


def _find_numbers(places: Mapping[int, str], id_of: Mapping[int, str], expected: str) -> dict[int, str]:
    for number, place in places.items():
        if number not in id_of:
            raise InputError(f"{place}: image {number}; expected {expected}")
    return {number: id_of[number] for number in places}


def to_detections(rows: Sequence[Sequence[float]]) -> ImageDetections:
    """Return the detections of an image from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def _read_folder(folder: Path, names: _Names, listed: Mapping[str, str] | None) -> tuple[Iterable[Row], int, list[str]]:
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
        raise InputError(f"{row.place}: label {row.image!r}; expected {FOLDER_LABELS[0]!r}, pedestrians only")
    return True


def sort_detections(
    detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> list[tuple[int, list[float], float]]:
    """Check detections and return (image index, box, score) of each, by image and descending score.

    Boxes, x, y, width, height, and scores are plain Python numbers; arguments and errors as for ``write_kaist_text``.
    """
    index_of = {image_id: index for index, image_id in enumerate(image_ids)}
    unknown = [image_id for image_id in detections if image_id not in index_of]
    if unknown:
        raise InputError(f"detections of {len(unknown)} images that are not in the split, first {unknown[0]!r}")
    rows = []
    for image_id in sorted(detections, key=index_of.__getitem__):
        boxes = np.asarray(detections[image_id].boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(detections[image_id].scores, np.float64).reshape(-1)
        if len(boxes) != scores.size:
            raise InputError(f"image {image_id!r}: {len(boxes)} detected boxes but {scores.size} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()) or (boxes[:, 2:] < 0).any():
            raise InputError(f"image {image_id!r}: a detection is not finite or has a negative size; was padding kept?")
        order = np.argsort(-scores, kind="stable")
        rows += [
            (index_of[image_id], box, score)
            for box, score in zip(boxes[order].tolist(), scores[order].tolist(), strict=True)
        ]
    return rows
