"""Scores of results files on test annotations: what the commands of all benchmarks share."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax import files, tables
from dcrl_jax.command_line import Parser
from dcrl_jax.disk_errors import not_written
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.image_names import IMAGES_FILE
from dcrl_jax.evaluation.miss_rate import Score, percent_or_none, score_subsets
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth, Results, processed_truths
from dcrl_jax.evaluation.readings import better_reading
from dcrl_jax.evaluation.rules import Subset, describe_subset
from dcrl_jax.reports import curves


class AnnotationSet(NamedTuple):
    """One set of test annotations with its rules."""

    name: str  # of its folder of scores
    heading: str  # of its tables and figure: the path, with the modality if paired
    image_ids: Sequence[str]  # all images, in the order in which results files count them
    images: Sequence[ImageTruth]  # the images that are scored
    subsets: Sequence[Subset]  # methods are sorted by their miss rate on the first one
    notes: Sequence[str] = ()  # one line each: the origin of the annotations, and findings about them
    warnings: Sequence[str] = ()  # one line each, printed beside every score
    size: tuple[int, int] = (640, 512)  # of the images, width and height in pixels
    noun: str = "people"  # the objects that count
    file_names: Sequence[str] | None = None  # second names of ``image_ids``, by which results may name images


# Results of a part of the images, without a list of them, lose the people of the others. The published results that
# were looked at have detections in all images with people.
MANY_PEOPLE = 0.05

# The remedy for annotation files that are missing or unreadable.
INCOMPLETE = (
    "Add or repair these files; or leave the images out with --allow_incomplete, for scores that are not comparable "
    "with others."
)

# By the name of the results file, the best first, then by the name of the subset.
Scores = Mapping[str, Mapping[str, Score]]


class ScoredSet(NamedTuple):
    """The scores of all methods on one set of annotations."""

    annotations: AnnotationSet
    scores: Scores
    # Whole lines by method, printed beside every score: what is left out, and how results could be meant.
    remarks: Mapping[str, Sequence[str]]

    def all_remarks(self) -> list[str]:
        """Return the warnings about the annotations, then the remarks on the methods."""
        lines = [f"warning: {text}" for text in self.annotations.warnings]
        return lines + [line for remarks in self.remarks.values() for line in remarks]


def make_parser(
    description: str | None,
    annotations: str,
    results: str,
    output: str = "folder for scores.json and miss_rate.png",
) -> Parser:
    """Return a parser with the flags of all scorers.

    Args:
        description: the module's docstring.
        annotations: help text of ``--annotations``.
        results: help text of ``--results``.
        output: help text of ``--output``.
    """
    parser = Parser(description)
    parser.add_argument("--annotations", type=Path, action="append", required=True, help=annotations)
    parser.add_argument("--results", type=Path, action="append", required=True, help=results)
    parser.add_argument("--output", type=Path, help=output)
    return parser


def check_names(paths: Sequence[Path]) -> None:
    """Raise InputError if two results have the same name, because the name identifies the method."""
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.name in by_name:
            raise InputError(
                f"{by_name[path.name]} and {path}: methods are named by their results file; rename one of these"
            )
        by_name[path.name] = path


def left_out_warnings(total: int, scored: int) -> list[str]:
    """Return the warning about images without annotations, in a list that is empty if there are none."""
    if total == scored:
        return []
    return [
        f"{total - scored:,} of {total:,} images are left out, with what was detected in them; not comparable with "
        "scores on all images"
    ]


def score_files(
    annotations: AnnotationSet, paths: Sequence[Path], read: Callable[[Path, AnnotationSet], Results]
) -> ScoredSet:
    """Read and score the results of several methods.

    Args:
        annotations: the annotations and the rules.
        paths: the results; their names are those of the methods.
        read: reads the results of one method.

    Raises:
        InputError: results cannot be read, or nobody counts.
    """
    return score_results(annotations, {path.name: read(path, annotations) for path in paths})


def score_results(annotations: AnnotationSet, results: Mapping[str, Results]) -> ScoredSet:
    """Score the results of several methods, by name, and say what is left out and how they could be meant.

    Raises:
        InputError: nobody counts.
    """
    scores = score_methods(annotations, results)
    remarks = {
        name: [*_warnings(annotations, name, results[name], scores), *_hints(annotations, name, results[name], scores)]
        for name in scores
    }
    return ScoredSet(annotations, scores, remarks)


def _warnings(annotations: AnnotationSet, name: str, results: Results, scores: Scores) -> list[str]:
    processed, total = processed_truths(annotations.images, results), len(annotations.images)
    texts = list(results.warnings)
    if len(processed) < total:
        texts.append(
            f"scored on {len(processed):,} of {total:,} images, those that {IMAGES_FILE} names; not comparable with "
            "scores on all images"
        )
    subset = annotations.subsets[0]
    without = [image for image in processed if image.image_id not in results]
    lost, people = score_subsets(without, {}, (subset,))[subset.name].people, scores[name][subset.name].people
    # A list or the files of a folder tell the processed images.
    if lost > MANY_PEOPLE * people and results.images is None and not results.warnings:
        texts.append(
            f"no detections in {len(without):,} of {len(processed):,} images, which have {lost:,} of the {people:,} "
            f"{annotations.noun}; if these were not processed, list the images that were in {IMAGES_FILE} beside the "
            "results"
        )
    detected = sum(len(rows.scores) for rows in results.values())
    repeated = detected - sum(len(np.unique(np.column_stack(rows), axis=0)) for rows in results.values())
    if repeated:
        texts.append(
            f"{repeated:,} of {detected:,} detections repeat another one of the same image, box and score, and count "
            "as false; perhaps they were written twice"
        )
    return [f"warning: {name}: {text}" for text in texts]


def _hints(annotations: AnnotationSet, name: str, results: Results, scores: Scores) -> list[str]:
    """Return the hint, in a list that is empty if there is none, that results may be meant in another way."""
    subset = annotations.subsets[0]
    better = better_reading(annotations.images, results, annotations.image_ids, subset, annotations.size)
    if better is None:
        return []
    return [
        f"hint: {name}: the miss rate on {subset.name} would be {100 * better.miss_rate:.2f} % instead of "
        f"{100 * scores[name][subset.name].miss_rate:.2f} % if its {better.name}; if so, {better.remedy}"
    ]


def check_people(annotations: AnnotationSet) -> None:
    """Raise InputError if nobody counts in the first subset, which is that of all people of a usual size.

    The scores of all results would be undefined.
    """
    subset = annotations.subsets[0]
    if score_subsets(annotations.images, {}, (subset,))[subset.name].people:
        return
    labels = Counter(label for image in annotations.images for label in image.labels)
    tallest = max((image.boxes[:, 3].max(initial=0) for image in annotations.images), default=0)
    ignored = sum(int(np.sum(image.ignore)) for image in annotations.images)
    found = ", ".join(f"{count:,} {label[:40]!r}" for label, count in labels.most_common(10)) or "none"
    people, regions = (", ".join(map(repr, sorted(names))) for names in (subset.person_labels, subset.ignore_labels))
    raise InputError(
        f"{annotations.heading}: nobody counts in {subset.name}. Labels found: {found}; {ignored:,} objects are marked "
        f"as ignored, and the tallest box has {tallest:g} pixels. People who count have the label {people} and are "
        f"{describe_subset(subset)}; regions that need not be found have {regions or 'no label'}. Rename the labels or "
        "correct the boxes"
    )


def score_methods(annotations: AnnotationSet, results: Mapping[str, Mapping[str, ImageDetections]]) -> Scores:
    """Score the detections of several methods.

    Args:
        annotations: the annotations and the rules.
        results: detections by image id, by the method's name. Detections in images that are not scored are dropped.
            ``Results`` of a part of the images are scored on this part.

    Returns:
        Scores by method, sorted by the miss rate on the first subset, then by the name of the subset.

    Raises:
        InputError: nobody counts in the first subset.
    """
    check_people(annotations)
    scores = {}
    for name, detections in results.items():
        images = processed_truths(annotations.images, detections)
        scored = {image.image_id for image in images}
        kept = {image_id: detections[image_id] for image_id in detections if image_id in scored}
        scores[name] = score_subsets(images, kept, annotations.subsets)
    first = annotations.subsets[0].name
    return {name: scores[name] for name in curves.by_miss_rate({name: row[first] for name, row in scores.items()})}


def format_scores(scored: ScoredSet) -> str:
    """Return two tables as text: miss rates in percent, then recall in percent with numbers of people and images."""
    annotations, scores, _ = scored
    remarks = scored.all_remarks()
    subsets = [subset.short_name for subset in annotations.subsets]
    miss_rates = [[name, *(percent_or_none(score.miss_rate) for score in row.values())] for name, row in scores.items()]
    recall = [[name, *(percent_or_none(score.recall) for score in row.values())] for name, row in scores.items()]
    return "\n".join(
        [
            annotations.heading,
            *annotations.notes,
            "",
            tables.format_table(miss_rates, ["miss rate, %", *subsets]),
            *remarks,
            "",
            tables.format_table(recall + _count_rows(scores), ["recall, %", *subsets]),
            *remarks,
        ]
    )


def _count_rows(scores: Scores) -> list[list[str | int]]:
    """Return rows of the people and images of each subset: two for all methods, or two for those of each part."""
    names_of: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for name, row in scores.items():
        counts = tuple(score.people for score in row.values()), tuple(score.images for score in row.values())
        names_of.setdefault(counts, []).append(name)
    rows = []
    for (people, images), names in names_of.items():
        suffix = f", {', '.join(names)}" if len(names_of) > 1 else ""
        rows += [[f"people{suffix}", *people], [f"images{suffix}", *images]]
    return rows


def write_scores(folder: Path, scored: ScoredSet, drawn: Sequence[Subset]) -> None:
    """Write ``scores.json`` and ``miss_rate.png`` into a folder; each is written completely or not at all.

    Args:
        folder: created if needed.
        scored: the scores. Rates are written in percent, null if a subset has no people. The heading, notes and remarks
            become the title of the figure; each score has the remarks on it, if any, as ``remarks``.
        drawn: the subsets whose curves are drawn, side by side.

    Raises:
        InputError: the folder is not writable.
    """
    annotations, scores, remarks = scored
    warnings = [f"warning: {text}" for text in annotations.warnings]
    content = {
        name: {subset: _plain(score, [*warnings, *remarks[name]]) for subset, score in row.items()}
        for name, row in scores.items()
    }
    panels = {subset.short_name: {name: row[subset.name] for name, row in scores.items()} for subset in drawn}
    title = "\n".join([annotations.heading, *annotations.notes, *scored.all_remarks()])
    try:
        files.write_atomically(folder / "scores.json", json.dumps(content, indent=1) + "\n")
        with files.atomic_path(folder / "miss_rate.png") as path:
            curves.miss_rate_panels(panels, path, title)
    except OSError as error:
        raise InputError(not_written(folder, error, "give another --output")) from error


def print_and_write(scored_sets: Sequence[ScoredSet], drawn: Sequence[Subset], output: Path | None) -> None:
    """Print the tables of all annotation sets; if ``output`` is given, write their scores and curves into it.

    A single set's files are written into ``output`` itself, those of several sets into a subfolder for each set.
    """
    print_text("\n\n\n".join(map(format_scores, scored_sets)))
    if output is None:
        return
    folders = output_folders(output, [scored.annotations for scored in scored_sets])
    for folder, scored in zip(folders, scored_sets, strict=True):
        write_scores(folder, scored, drawn)
    print_text(f"\nscores and curves: {output}")


def output_folders(output: Path, sets: Sequence[AnnotationSet]) -> list[Path]:
    """Return the folder for the files of each annotation set: ``output`` for a single one, subfolders for several."""
    names = _unique([annotations.name for annotations in sets]) if len(sets) > 1 else [""]
    return [output / name for name in names]


def print_text(text: str) -> None:
    """Print a text; go on if the reader of a pipe has closed it, as ``head`` does, so that files are still written."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would flush the stream once more at exit and fail (its documentation, "Note on SIGPIPE").
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


def _plain(score: Score, remarks: list[str]) -> dict[str, float | int | list[str] | None]:
    """Return the numbers of a score for ``scores.json``, and the remarks on it if there are any."""
    numbers = {
        "miss_rate_percent": percent_or_none(score.miss_rate),
        "recall_percent": percent_or_none(score.recall),
        "people": score.people,
        "images": score.images,
    }
    return numbers | ({"remarks": remarks} if remarks else {})


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names with numbers appended to repeated ones."""
    unique: list[str] = []
    for name in names:
        count, new = 1, name
        while new in unique:
            count += 1
            new = f"{name}-{count}"
        unique.append(new)
    return unique
