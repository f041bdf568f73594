"""Annotations for COCO's average precision: the objects that count, of people or of each category."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations import coco_files
from dcrl_jax.annotations.labels import KAIST_IGNORE
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.evaluation.rules import Subset, everyone
from dcrl_jax.evaluation.truths import is_prepared, read_prepared, to_truths
from dcrl_jax.scorers import common
from dcrl_jax.scorers.common import AnnotationSet

PERSON_NAMES = ("person", "pedestrian")
# KAIST calls a group of people so, M3FD each person.
OTHER_PERSON_NAMES = ("people",)
PEOPLE, ALL = "people", "all"
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
# Ids or categories that a message lists.
SHOWN = 20


class CocoAnnotations(NamedTuple):
    """Test annotations with the categories to score."""

    annotations: AnnotationSet  # its only subset has the objects of all categories that count
    subsets: dict[str, Subset]  # by category, which is PEOPLE or each: the objects that count, and ignore regions
    category_ids: dict[coco_files.Id, str]  # names by id, of a COCO file; of a prepared data set empty
    numbers: list[int] | None  # the ids of the images if they are whole numbers
    is_people: bool = True  # people are scored, not all categories


def read_annotations(
    path: Path,
    person_labels: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    split: str = "test",
) -> CocoAnnotations:
    """Read test annotations.

    Args:
        path: a COCO file, or the folder of a prepared data set.
        person_labels: the names of people, in small or large letters; None for the usual ones.
        categories: the names of the categories to score, or ALL alone; None to score people.
        split: the split of a prepared data set.

    Raises:
        InputError: no annotations, a malformed file, or nothing that counts.
    """
    if not path.is_dir():
        annotated = _read_file(path)
    elif is_prepared(path):
        annotated = _read_prepared(path, split)
    else:
        raise InputError(f"{path}: a folder, and not that of a prepared data set; name a COCO file with --annotations")
    if categories and not annotated.category_ids:
        raise InputError(f"{path}: a prepared data set has no category ids; --categories needs a COCO file")
    labels = Counter(label for image in annotated.annotations.images for label in image.labels)
    if categories:
        chosen = _find_categories(path, annotated.category_ids, labels, categories)
        subsets = {name: everyone([name], ()) for name in chosen}
        together = everyone(subsets, ())._replace(name="all categories")
    else:
        together = _people(path, labels, person_labels)
        subsets = {PEOPLE: together}
    annotations = annotated.annotations._replace(subsets=(together,), noun="objects" if categories else "people")
    common.check_people(annotations)
    return annotated._replace(annotations=annotations, subsets=subsets, is_people=not categories)


def _read_file(path: Path) -> CocoAnnotations:
    read, category_ids = coco_files.read(path), coco_files.read_categories(path)
    numbers, other_names = None, None
    number_of = {image.id: _whole_number(image.id) for image in read}
    if None not in number_of.values() and len(set(number_of.values())) == len(read):
        read.sort(key=lambda image: number_of[image.id] or 0)
        numbers = [number_of[image.id] or 0 for image in read]
    if any(isinstance(image.id, str) for image in read) or numbers is None:
        other_names = [str(image.id) for image in read]
    # The file does not tell the condition, and every image counts.
    images, _ = to_truths((image.file_name, "day", image.labels.annotations) for image in read)
    findings = Counter(finding.kind for image in read for finding in image.labels.findings)
    notes = [f"{kind}: {count:,}" for kind, count in findings.items()]
    sizes = Counter(image.size for image in read if image.size)
    image_ids = [image.image_id for image in images]
    annotations = AnnotationSet(path.resolve().stem, str(path), image_ids, images, (), notes, file_names=other_names)
    if sizes:
        annotations = annotations._replace(size=sizes.most_common(1)[0][0])
    return CocoAnnotations(annotations, {}, category_ids, numbers)


def _whole_number(number: coco_files.Id) -> int | None:
    """Return the number that an id is, also as 7.0 or "7"; None if it is a name."""
    if isinstance(number, str):
        return int(number) if _WHOLE.fullmatch(number) else None
    return int(number) if number == int(number) else None


def _read_prepared(folder: Path, split: str) -> CocoAnnotations:
    prepared = read_prepared(folder, split)
    images = prepared.images["objects"]
    notes = [f"annotations: {prepared.source}"] if prepared.source else []
    name, image_ids = folder.resolve().name, [image.image_id for image in images]
    annotations = AnnotationSet(name, str(folder), image_ids, images, (), notes, prepared.warnings)
    return CocoAnnotations(annotations, {}, {}, None)


def _find_categories(
    path: Path, category_ids: Mapping[coco_files.Id, str], labels: Counter[str], wanted: Sequence[str]
) -> list[str]:
    """Return the categories to score, in the order of the file; all are those that have objects."""
    plain = {name: _plain(name) for name in category_ids.values()}
    if list(wanted) == [ALL]:
        return [name for name in plain if labels[name]]
    unknown = [name for name in wanted if _plain(name) not in plain.values()]
    if unknown:
        known = ", ".join(first_few(list(plain), SHOWN))
        raise InputError(f"{path}: has no category {', '.join(unknown)}; --categories takes {ALL}, {PEOPLE} or {known}")
    chosen = {_plain(name) for name in wanted}
    return [name for name in plain if plain[name] in chosen]


def _plain(name: str) -> str:
    return name.strip("_ ").casefold()


def _people(path: Path, labels: Counter[str], person_labels: Sequence[str] | None) -> Subset:
    """Return the subset of people. Labels are compared in small letters and without underscores around them."""
    plain = {label: _plain(label) for label in labels}
    for names in (PERSON_NAMES, OTHER_PERSON_NAMES) if person_labels is None else (person_labels,):
        wanted = set(map(_plain, names))
        people = {label for label in labels if plain[label] in wanted}
        if people:
            return everyone(people, {label for label in labels if plain[label] in KAIST_IGNORE} - people)
    found = ", ".join(f"{count:,} {label[:40]!r}" for label, count in labels.most_common(10)) or "no objects"
    expected = " or ".join(person_labels or PERSON_NAMES + OTHER_PERSON_NAMES)
    raise InputError(f"{path}: has nobody to find but {found}; expected {expected}. Name people with --person_labels")
