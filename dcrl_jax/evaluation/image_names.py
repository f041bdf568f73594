"""Which images results mean: their names in any spelling, the list of images beside them, and numbers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dcrl_jax.annotations.kaist.frames import MODALITY_WORDS, spelled_frame
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.result_rows import read_file

IMAGES_FILE = "images.txt"

_LAST_WORD = re.compile(rf"[_-](?:{'|'.join(MODALITY_WORDS)})$", re.IGNORECASE)
_DIGITS = re.compile("[0-9]{1,18}")


class Names:
    """The images of a split by their names in any spelling."""

    def __init__(self, image_ids: Sequence[str], file_names: Sequence[str] | None = None):
        self.image_ids = image_ids
        # The images of both cameras may be in one set: their names differ only in the last word.
        by_name: dict[str, set[str]] = {}
        for names in (image_ids, file_names or ()):
            for image_id, name in zip(image_ids, names, strict=False):
                for spelling in _spellings(name):
                    by_name.setdefault(spelling, set()).add(image_id)
        self._by_name = {name: min(images) for name, images in by_name.items() if len(images) == 1}
        self._by_name |= {image_id: image_id for image_id in image_ids}

    def find(self, name: str) -> str | None:
        """Return the id of the image of this name; None if the split has no such image."""
        spellings = (name.strip(), *_spellings(name))
        return next((self._by_name[spelling] for spelling in spellings if spelling in self._by_name), None)

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


def _spellings(name: str) -> tuple[str, ...]:
    """Return what an image's name may have in common with its other spellings, the most exact first."""
    name = name.strip()
    if frame := spelled_frame(name):
        return (frame,)
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return stem, _LAST_WORD.sub("", stem)


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
        found = Names(image_ids, file_names).find_all({name: place for place, name in lines}, source)
    first: dict[str, str] = {}
    for place, name in lines:
        if found[name] in first:
            raise InputError(f"{place}: {name} is the image of {first[found[name]]}; list each image once")
        first[found[name]] = place
    if not lines:
        raise InputError(f"{source}: lists no images; expected the names of those in {path.name}, or remove the list")
    return {name: found[name] for _, name in lines}


class Numbering(NamedTuple):
    """What the numbers by which results name images can mean."""

    name: str  # completes "if its image numbers are ..."
    id_of: dict[int, str]  # image ids by number
    first_number: int | None  # the number of the split's first image, if all images are counted without a gap
    expected: str  # of a number, for messages


def numberings(
    path: Path,
    start: int,
    image_ids: Sequence[str],
    numbers: Sequence[int] | None,
    listed: Mapping[str, str] | None,
) -> list[Numbering]:
    """Return what numbers of images can mean, beginning with what they should.

    Text files count images. JSON files have the data set's own numbers if it has such; a list of names beside them
    gives numbers a meaning, the place in the list. Some programs write the number in an image's name instead.

    Args:
        path: the results.
        start: the number of the first image where images are counted: 0 in JSON, 1 in text.
        image_ids: the split's images in order.
        numbers: the data set's own image numbers; None if it has none.
        listed: the result of ``listed_images``.
    """
    counted = list(listed.values()) if listed else list(image_ids)
    source = f"{list_beside(path)} has {len(counted)} names" if listed else f"the split has {len(counted)} images"
    source += ", which JSON files count from 0" if start == 0 else ", which text files count from 1"
    expected = f"{start}..{start + len(counted) - 1}, since {source}"
    by_place = dict(enumerate(counted, start))
    places = Numbering(f"places in {IMAGES_FILE}", by_place, None if listed else start, expected)
    if numbers is None or start != 0:
        return [places]
    own_id_of = dict(zip(numbers, image_ids, strict=True))
    expected = f"the id of one of the {len(image_ids)} annotated images, {min(numbers)} to {max(numbers)}"
    is_counted = listed is None and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    own = Numbering("ids of the annotation file", own_id_of, numbers[0] if is_counted else None, expected)
    in_names = Numbering("the numbers in the names of the images", _numbers_in_names(image_ids), None, "")
    # A list of the own numbers only tells which images were processed.
    if listed is None or set(map(str, numbers)).issuperset(listed):
        return [own, in_names]
    kept = set(counted)
    return [places, own._replace(id_of={number: name for number, name in own_id_of.items() if name in kept}), in_names]


def _numbers_in_names(image_ids: Sequence[str]) -> dict[int, str]:
    """Return the image ids by the number that is the image's name, where no two have the same."""
    id_of: dict[int, str] = {}
    several = set()
    for image_id in image_ids:
        stem = PurePosixPath(image_id).stem
        if _DIGITS.fullmatch(stem) and id_of.setdefault(int(stem), image_id) != image_id:
            several.add(int(stem))
    return {number: image_id for number, image_id in id_of.items() if number not in several}
