"""Results for COCO's average precision, whose categories are those of the annotations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.coco_files import Id
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.evaluation.coco_ap import MAX_DETECTIONS
from dcrl_jax.evaluation.overlaps import (
    MIN_OVERLAP,
    ImageDetections,
    Results,
    find_pairs,
    flatten,
    processed_truths,
)
from dcrl_jax.evaluation.results import read_categories, read_results
from dcrl_jax.scorers.coco_annotations import PEOPLE, SHOWN, CocoAnnotations

# Fewer detections on objects of another category may be there by chance.
FEWEST_EXCHANGED = 10


class CocoResults(NamedTuple):
    """The results of one method."""

    categories: dict[str, Results]  # by the names of the categories that are scored
    notes: list[str]  # one line each, printed beside every score
    warnings: list[str]
    hints: list[str]

    def remarks(self, name: str) -> list[str]:
        """Return the lines on the method of this name."""
        kinds = (("warning", self.warnings), ("note", self.notes), ("hint", self.hints))
        return [f"{kind}: {name}: {text}" for kind, texts in kinds for text in texts]


def read_coco_results(path: Path, annotated: CocoAnnotations) -> CocoResults:
    """Read the results of one method.

    Args:
        path: COCO JSON, a text file, or a folder with a file per image.
        annotated: the annotations, which name images and categories.

    Raises:
        InputError: the results are malformed, or their images or categories are not those of the annotations.
    """
    annotations = annotated.annotations
    names = (annotations.image_ids, annotated.numbers, annotations.file_names)
    if not annotated.category_ids:
        read = CocoResults({PEOPLE: read_results(path, *names)}, [], [], [])
    elif annotated.is_people:
        read = _find_people(path, _by_own_id(read_categories(path, *names), annotated), annotated)
    else:
        read = _name(path, _by_own_id(read_categories(path, *names), annotated), annotated)
        exchanged = find_exchanged(annotated, read.categories)
        if exchanged:
            listing = ", ".join(f"those of {name} on {other}" for name, other in exchanged.items())
            read.hints.append(
                f"detections lie on objects of another category, {listing}; if the ids have another meaning, write "
                f"those of the annotations: {_list_ids(annotated)}"
            )
    counts = [len(rows.scores) for results in read.categories.values() for rows in results.values()]
    dropped = sum(max(count - MAX_DETECTIONS, 0) for count in counts)
    if dropped:
        read.notes.append(
            f"left out: {dropped:,} of {sum(counts):,} detections, because COCO scores the {MAX_DETECTIONS} strongest "
            "of an image and category"
        )
    return read


def _by_own_id(by_id: Mapping[Id | None, Results], annotated: CocoAnnotations) -> dict[Id | None, Results]:
    """Return results by the ids of the annotations, which results may also give as a text, or by their names."""
    id_of: dict[str, Id] = {name.casefold(): category for category, name in annotated.category_ids.items()}
    id_of |= {str(category): category for category in annotated.category_ids}
    groups: dict[Id | None, list[Results]] = {}
    for category, results in by_id.items():
        is_known = category is None or category in annotated.category_ids
        groups.setdefault(category if is_known else id_of.get(str(category).casefold(), category), []).append(results)
    return {category: merge_results(parts) for category, parts in groups.items()}


def _find_people(path: Path, by_id: Mapping[Id | None, Results], annotated: CocoAnnotations) -> CocoResults:
    """Return the detections of people.

    Detections of a single category are those of people whatever its id is: detectors of pedestrians give it any id.
    """
    labels = annotated.subsets[PEOPLE].person_labels
    people = [category for category, name in annotated.category_ids.items() if name in labels]
    expected = ", ".join(f"{category} ({annotated.category_ids[category]})" for category in people)
    found = [category for category in by_id if category is not None]
    if len(found) == 1 and found[0] not in people:
        is_other = f", {annotated.category_ids[found[0]]}," if found[0] in annotated.category_ids else ""
        warning = f"all detections have category_id {found[0]!r}{is_other} and are taken as people, who are {expected}"
        return CocoResults({PEOPLE: merge_results(list(by_id.values()))}, [], [warning], [])
    _check_ids(path, by_id, annotated)
    kept = [results for category, results in by_id.items() if category is None or category in people]
    if not kept:
        raise InputError(f"{path}: has detections of {_counts(by_id)}, none of people; expected category_id {expected}")
    others = sum(_count(by_id[category]) for category in found if category not in people)
    notes = [f"left out: {others:,} detections of other categories"] if others else []
    return CocoResults({PEOPLE: merge_results(kept)}, notes, [], [])


def _name(path: Path, by_id: Mapping[Id | None, Results], annotated: CocoAnnotations) -> CocoResults:
    """Return the detections by the name of their category."""
    _check_ids(path, by_id, annotated)
    if None in by_id and by_id[None] and len(annotated.category_ids) > 1:
        raise InputError(
            f"{path}: {_count(by_id[None]):,} detections have no category_id; --categories needs COCO JSON with "
            f"{_list_ids(annotated)}"
        )
    nothing = Results({}, next(iter(by_id.values())).images)
    categories = {}
    for name in annotated.subsets:
        ids = [category for category, other in annotated.category_ids.items() if other == name]
        # Without a category_id, detections are those of the only category.
        found = [by_id[category] for category in (*ids, None) if category in by_id]
        categories[name] = merge_results(found or [nothing])
    others = sum(map(_count, by_id.values())) - sum(map(_count, categories.values()))
    notes = [f"left out: {others:,} detections of other categories"] if others else []
    return CocoResults(categories, notes, [], [])


def find_exchanged(annotated: CocoAnnotations, categories: Mapping[str, Results]) -> dict[str, str]:
    """Return the categories most of whose strongest detections lie on objects of another category, and that category.

    Then the results probably have category ids of another order or start. No score is changed.

    Args:
        annotated: the annotations of several categories.
        categories: detections by category.
    """
    exchanged = {}
    for name, results in categories.items():
        flat = flatten(processed_truths(annotated.annotations.images, results), results)
        # Weak detections lie everywhere.
        strongest = np.argsort(-flat.scores, kind="stable")[: 2 * np.count_nonzero(flat.labels == name)]
        kept = flat._replace(image=flat.image[strongest])
        pairs = find_pairs(kept, flat.boxes[strongest], flat.truth_boxes)
        labels = Counter(flat.labels[pairs.truth[pairs.iou >= MIN_OVERLAP]].tolist())
        if labels.total() >= FEWEST_EXCHANGED:
            ((label, count),) = labels.most_common(1)
            if label != name and count > labels.total() / 2:
                exchanged[name] = label
    return exchanged


def _check_ids(path: Path, by_id: Mapping[Id | None, Results], annotated: CocoAnnotations) -> None:
    unknown = [category for category in by_id if category is not None and category not in annotated.category_ids]
    if unknown:
        counts = _counts({category: by_id[category] for category in unknown})
        raise InputError(
            f"{path}: has detections of {counts}; expected the ids of {annotated.annotations.heading}: "
            f"{_list_ids(annotated)}"
        )


def _counts(by_id: Mapping[Id | None, Results]) -> str:
    texts = [f"category_id {category!r} ({_count(results):,})" for category, results in by_id.items()]
    return ", ".join(first_few(texts, SHOWN))


def _list_ids(annotated: CocoAnnotations) -> str:
    return ", ".join(first_few([f"{category} {name}" for category, name in annotated.category_ids.items()], SHOWN))


def _count(results: Results) -> int:
    return sum(len(rows.scores) for rows in results.values())


def merge_results(parts: Sequence[Results]) -> Results:
    """Return all detections of several categories of one file."""
    if len(parts) == 1:
        return parts[0]
    by_image: dict[str, list[ImageDetections]] = {}
    for part in parts:
        for image_id, rows in part.items():
            by_image.setdefault(image_id, []).append(rows)
    merged = {
        image_id: ImageDetections(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        for image_id, rows in by_image.items()
    }
    return Results(merged, parts[0].images, parts[0].first_number, parts[0].warnings, parts[0].others)
