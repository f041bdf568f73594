"""Results files: KAIST's text format, COCO's JSON, and folders with one text file per image.

Names decide which image a detection belongs to, wherever there are names: a list ``images.txt`` beside the file, names
in the file, or the names of a folder's files. Only where there are none, an image is named by its index in the split's
list of images: the text file counts from 1, the JSON file from 0, unless the data set has its own image numbers. Boxes
are x, y, width, height in pixels of the annotated image. The reference evaluation uses them unchanged; it does not
subtract 1 from x and y.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist.frames import MODALITY_WORDS, spelled_frame
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.files import write_atomically

PERSON_CATEGORY = 1
TEXT_COLUMNS = "image,x,y,width,height,score"
# One file per image, as KAIST's development kit writes them.
FOLDER_COLUMNS = "label,x1,y1,x2,y2,score"
FOLDER_LABELS = ("person", "pedestrian")
IMAGES_FILE = "images.txt"

_Number = Annotated[float, msgspec.Meta(gt=-1e300, lt=1e300)]

# The columns of text files: the words of header lines in small letters, without punctuation.
_WORDS = {
    "image": "image imageid imageindex imagename img imgid frame frameid index id name filename file stem label class",
    "x": "x x1 xmin left",
    "y": "y y1 ymin top",
    "width": "w width",
    "height": "h height",
    "right": "x2 xmax right",
    "bottom": "y2 ymax bottom",
    "score": "score scores confidence conf probability prob",
}
_COLUMNS = {word: column for column, words in _WORDS.items() for word in words.split()}
_SIZES = ("image", "x", "y", "width", "height", "score")
_CORNERS = ("image", "x", "y", "right", "bottom", "score")
_LAST_WORD = re.compile(rf"[_-](?:{'|'.join(MODALITY_WORDS)})$", re.IGNORECASE)
_WHOLE = re.compile(r"0|[1-9][0-9]*")
# Numbers that are not plain, such as 1_0 or digits of other scripts; no names.
_MISSPELT = re.compile(r"[\d_.+-]+")


class _Entry(msgspec.Struct, gc=False):
    """One detection of a COCO results file. A name decides against ``image_id``."""

    bbox: tuple[_Number, _Number, _Number, _Number]  # x, y, width, height in pixels
    score: _Number
    image_id: int | float | str | None = None  # some writers put 7.0 for 7, others the image's name
    category_id: object = PERSON_CATEGORY
    file_name: str | None = None
    im_name: str | None = None
    image_name: str | None = None


class Row(NamedTuple):
    """One detection of a results file."""

    place: str  # ``path:line`` or ``path: entry N``, for messages
    image: int | str  # a number or a name
    values: Sequence[float]  # x, y, width, height in pixels, score


class _Layout(NamedTuple):
    """Which field of a line is which."""

    order: list[int]  # the fields of the image, the four numbers of the box, and the score
    has_corners: bool  # the box is x1, y1, x2, y2


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
    path = Path(path)
    names = _Names(image_ids, file_names)
    listed = listed_images(path, image_ids, file_names)
    rows, start, warnings = _read_folder(path, names, listed) if path.is_dir() else _read_file(path)
    groups = _group(rows, names)
    id_of: dict[int | str, str] = {}
    id_of |= names.find_all({name: place for name, (place, _) in groups.items() if isinstance(name, str)}, path)
    places = {number: place for number, (place, _) in groups.items() if isinstance(number, int)}
    # A list of the own numbers only tells which images were processed; a list of names gives numbers a meaning.
    is_own = start == 0 and (listed is None or {str(number) for number in numbers or ()}.issuperset(listed))
    if places and numbers is not None and is_own:
        expected = f"the id of one of the {len(image_ids)} annotated images"
        id_of |= _find_numbers(places, dict(zip(numbers, image_ids, strict=True)), expected)
    elif places:
        counted = list(listed.values()) if listed else image_ids
        source = f"{list_beside(path)} has {len(counted)} names" if listed else f"the split has {len(counted)} images"
        source += ", which JSON files count from 0" if start == 0 else ", which text files count from 1"
        expected = f"{start}..{start + len(counted) - 1}, since {source}"
        id_of |= _find_numbers(places, dict(enumerate(counted, start=start)), expected)
    by_image: dict[str, list[Sequence[float]]] = {}
    for image, (_, values) in groups.items():
        by_image.setdefault(id_of[image], []).extend(values)
    is_counted = bool(places) and not listed and (numbers is None or not is_own)
    return Results(
        {image_id: to_detections(values) for image_id, values in by_image.items()},
        images=_part(path, listed, by_image),
        first_number=start if is_counted else None,
        warnings=warnings,
    )


def list_beside(path: Path) -> Path:
    """Return the path of the list of images that belongs to a results file or folder; the list may be absent."""
    inside = path / IMAGES_FILE
    return inside if inside.is_file() else path.parent / IMAGES_FILE


def listed_images(
    path: Path, image_ids: Sequence[str], file_names: Sequence[str] | None = None
) -> dict[str, str] | None:
    """Return the image ids of the names in the list beside results, by name in the order of the list; None if absent.

    Raises:
        InputError: the list cannot be read, is empty, has a name of none of the images, or an image twice.
    """
    source = list_beside(path)
    if not source.is_file() or source == path:
        return None
    lines = enumerate(read_file(source, "the name of an image on each line", "surrogateescape").split("\n"), start=1)
    lines = [(f"{source}:{number}", line.strip()) for number, line in lines if line.strip()]
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


def _group(rows: Iterable[Row], names: _Names) -> dict[int | str, tuple[str, list[Sequence[float]]]]:
    """Return the place of the first row and the values of all rows of each image, by its number or name.

    A string of digits that is no name is a number, unless it is padded with zeros, as numbers are in names.
    """
    groups: dict[int | str, tuple[str, list[Sequence[float]]]] = {}
    for place, image, values in rows:
        if isinstance(image, str) and _WHOLE.fullmatch(image) and names.find(image) is None:
            image = int(image)
        groups.setdefault(image, (place, []))[1].append(values)
    return groups


def _find_numbers(places: Mapping[int, str], id_of: Mapping[int, str], expected: str) -> dict[int, str]:
    for number, place in places.items():
        if number not in id_of:
            raise InputError(f"{place}: image {number}; expected {expected}")
    return {number: id_of[number] for number in places}


def read_file(path: Path, expected: str, errors: str = "strict") -> str:
    """Return the text of a results file.

    Args:
        path: the file.
        expected: what such a file has, for the message.
        errors: what is done with bytes that are not UTF-8: "strict" refuses them, "surrogateescape" keeps them.

    Raises:
        InputError: the file cannot be read, or is no text file.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors=errors)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start}); expected {expected}") from error


def to_detections(rows: Sequence[Sequence[float]]) -> ImageDetections:
    """Return the detections of an image from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def _read_file(path: Path) -> tuple[Iterable[Row], int, list[str]]:
    """Return the rows of a file, the number of the first image, and no warnings."""
    text = read_file(path, f"lines of {TEXT_COLUMNS} or COCO JSON")
    if text.lstrip()[:1] in ("[", "{"):
        return _parse_json(text, path), 0, []
    return parse_text(text, path), 1, []


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


def parse_text(text: str, path: Path, columns: str = TEXT_COLUMNS) -> Iterator[Row]:
    """Yield the rows of a text file.

    Commas or spaces separate the fields. A first line without numbers names the columns; lines that start with ``#`` or
    ``%`` are comments.

    Args:
        text: the content.
        path: the file, for messages.
        columns: the columns if no line names them.

    Raises:
        InputError: a row is malformed, not finite or has a negative size, or a column's name is unknown.
    """
    layout = _layout(columns.split(","))
    assert layout is not None
    is_first = True
    # Only line feeds end a line, so that line numbers agree with those of an editor.
    for line_number, line in enumerate(text.split("\n"), start=1):
        fields = _fields(line.lstrip("#% \t"))
        if is_first and fields and all(_numbers([field]) is None for field in fields):
            named = _layout(fields)
            if named is None and line.lstrip()[0] not in "#%":
                raise InputError(f"{path}:{line_number}: columns {line.strip()[:80]!r}; expected {columns}")
            layout, columns = (layout, columns) if named is None else (named, ",".join(fields))
            is_first = named is None
            continue
        if not fields or line.lstrip()[0] in "#%":
            continue
        is_first = False
        yield _parse_line(line, fields, layout, columns, f"{path}:{line_number}")


def _parse_line(line: str, fields: Sequence[str], layout: _Layout, columns: str, place: str) -> Row:
    if len(fields) != len(layout.order):
        raise InputError(f"{place}: {len(fields)} values in {line[:80]!r}; expected {len(layout.order)}: {columns}")
    first, *rest = (fields[index] for index in layout.order)
    values, numbers = _numbers(rest), _numbers([first])
    if values is None or (numbers is None and _MISSPELT.fullmatch(first)):
        raise InputError(f"{place}: {line[:80]!r} is not a line of numbers; expected {columns}")
    if layout.has_corners:
        values[2:4] = values[2] - values[0], values[3] - values[1]
    _check_values(place, values, columns)
    if numbers is None:
        return Row(place, first, values)
    if not numbers[0].is_integer():
        name = columns.split(",")[layout.order[0]]
        raise InputError(f"{place}: {name} {first!r}; expected a whole number, 1 for the first {name}")
    return Row(place, int(numbers[0]), values)


def _fields(line: str) -> list[str]:
    """Return the fields of a line, separated by commas if it has any, otherwise by spaces or tabs."""
    return [field.strip().strip('"') for field in line.split(",")] if "," in line else line.split()


def _numbers(fields: Sequence[str]) -> list[float] | None:
    """Return the values of fields; None if one is no plain number."""
    # float accepts 1_0 for ten, and digits of other scripts.
    text = "".join(fields)
    if "_" in text or not text.isascii():
        return None
    try:
        return list(map(float, fields))
    except ValueError:
        return None


def _layout(names: Sequence[str]) -> _Layout | None:
    """Return the layout of named columns; None if they are not those of a results file."""
    columns = [_COLUMNS.get(re.sub(r"[\W_]", "", name.lower())) for name in names]
    for wanted in (_SIZES, _CORNERS):
        if len(columns) == len(wanted) and set(columns) == set(wanted):
            return _Layout([columns.index(column) for column in wanted], wanted is _CORNERS)
    return None


def _parse_json(text: str, path: Path) -> Iterator[Row]:
    """Yield the entries of a COCO results file."""
    expected = "finite numbers in image_id (whole, or a name), bbox [x, y, width, height] and score"
    try:
        entries = msgspec.json.decode(text, type=list[_Entry])
    except msgspec.ValidationError as error:
        # An example: "Expected `float`, got `null` - at `$[7].bbox[3]`" is about the eighth entry.
        parts = re.fullmatch(r"(.*) - at `\$\[(\d+)\](.*)`", str(error))
        if parts is None:
            raise InputError(
                f"{path}:1: a JSON object; expected COCO results, a list of entries with image_id, bbox, score"
            ) from error
        problem, index, field = parts.groups()
        place = f"{path}: entry {int(index) + 1}{field.replace('.', ', ')}"
        raise InputError(f"{place}: {problem}; expected {expected}") from error
    except msgspec.DecodeError as error:
        content = text.encode()
        position = re.search(r"byte (\d+)", str(error))
        before = content[: int(position[1])] if position else content
        line, count = before.count(b"\n") + 1, before.count(b"{")
        raise InputError(f"{path}:{line}: not valid JSON in entry {count}: {error}; expected {expected}") from error
    for count, entry in enumerate(entries, start=1):
        place = f"{path}: entry {count}"
        image = _image_of(entry)
        if image is None:
            raise InputError(f"{place}: image_id {entry.image_id}; expected {expected}")
        if entry.category_id != PERSON_CATEGORY:
            raise InputError(
                f"{place}: category_id {entry.category_id!r}; expected {PERSON_CATEGORY}, pedestrians only"
            )
        values = (*entry.bbox, entry.score)
        _check_values(place, values)
        yield Row(place, image, values)


def _image_of(entry: _Entry) -> int | str | None:
    """Return the name or else the number of an entry's image; None if it has neither."""
    name = entry.file_name or entry.im_name or entry.image_name
    if name is not None or entry.image_id is None:
        return name
    if isinstance(entry.image_id, str):
        return entry.image_id
    return int(entry.image_id) if entry.image_id == int(entry.image_id) else None


def _check_values(place: str, values: Sequence[float], columns: str = "x,y,width,height") -> None:
    if not all(map(math.isfinite, values)):
        raise InputError(f"{place}: x, y, width, height, score are {values}; expected finite numbers")
    if values[2] < 0 or values[3] < 0:
        raise InputError(f"{place}: box {values[:4]} has a negative size; expected {columns}")


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
