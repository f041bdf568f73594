"""Scores of results files on test annotations: what the commands of all benchmarks share."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax import files, tables
from dcrl_jax.command_line import Parser
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import Score, percent_or_none, score_subsets
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset
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


# The remedy for annotation files that are missing or unreadable.
INCOMPLETE = (
    "Add or repair these files; or leave the images out with --allow_incomplete, for scores that are not comparable "
    "with others."
)

# By the name of the results file, the best first, then by the name of the subset.
Scores = Mapping[str, Mapping[str, Score]]


def make_parser(description: str | None, annotations: str, results: str) -> Parser:
    """Return a parser with the flags of all scorers.

    Args:
        description: the module's docstring.
        annotations: help text of ``--annotations``.
        results: help text of ``--results``.
    """
    parser = Parser(description)
    parser.add_argument("--annotations", type=Path, action="append", required=True, help=annotations)
    parser.add_argument("--results", type=Path, action="append", required=True, help=results)
    parser.add_argument("--output", type=Path, help="folder for scores.json and miss_rate.png")
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


def score_methods(annotations: AnnotationSet, results: Mapping[str, Mapping[str, ImageDetections]]) -> Scores:
    """Score the detections of several methods.

    Args:
        annotations: the annotations and the rules.
        results: detections by image id, by the method's name. Detections in images that are not scored are dropped.

    Returns:
        Scores by method, sorted by the miss rate on the first subset, then by the name of the subset.
    """
    scored = {image.image_id for image in annotations.images}
    scores = {}
    for name, detections in results.items():
        kept = {image_id: detections[image_id] for image_id in detections if image_id in scored}
        scores[name] = score_subsets(annotations.images, kept, annotations.subsets)
    first = annotations.subsets[0].name
    return {name: scores[name] for name in curves.by_miss_rate({name: row[first] for name, row in scores.items()})}


def format_scores(annotations: AnnotationSet, scores: Scores) -> str:
    """Return two tables as text: miss rates in percent, then recall in percent with numbers of people and images."""
    subsets = [subset.short_name for subset in annotations.subsets]
    warnings = [f"warning: {text}" for text in annotations.warnings]
    miss_rates = [[name, *(percent_or_none(score.miss_rate) for score in row.values())] for name, row in scores.items()]
    recall = [[name, *(percent_or_none(score.recall) for score in row.values())] for name, row in scores.items()]
    # All methods have the same people and images.
    first_scores = list(next(iter(scores.values())).values())
    counts = [
        ["people", *(score.people for score in first_scores)],
        ["images", *(score.images for score in first_scores)],
    ]
    return "\n".join(
        [
            annotations.heading,
            *annotations.notes,
            "",
            tables.format_table(miss_rates, ["miss rate, %", *subsets]),
            *warnings,
            "",
            tables.format_table(recall + counts, ["recall, %", *subsets]),
            *warnings,
        ]
    )


def write_scores(folder: Path, annotations: AnnotationSet, scores: Scores, drawn: Sequence[Subset]) -> None:
    """Write ``scores.json`` and ``miss_rate.png`` into a folder; each is written completely or not at all.

    Args:
        folder: created if needed.
        annotations: their heading, notes and warnings become the title of the figure.
        scores: the result of ``score_methods``. Rates are written in percent, null if a subset has no people.
        drawn: the subsets whose curves are drawn, side by side.

    Raises:
        InputError: the folder is not writable.
    """
    content = {name: {subset: _plain(score) for subset, score in row.items()} for name, row in scores.items()}
    panels = {subset.short_name: {name: row[subset.name] for name, row in scores.items()} for subset in drawn}
    title = "\n".join([annotations.heading, *annotations.notes, *(f"warning: {text}" for text in annotations.warnings)])
    try:
        files.write_atomically(folder / "scores.json", json.dumps(content, indent=1) + "\n")
        with files.atomic_path(folder / "miss_rate.png") as path:
            curves.miss_rate_panels(panels, path, title)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error


def print_and_write(
    all_annotations: Sequence[AnnotationSet], all_scores: Sequence[Scores], drawn: Sequence[Subset], output: Path | None
) -> None:
    """Print the tables of all annotation sets; if ``output`` is given, write their scores and curves into it.

    A single set's files are written into ``output`` itself, those of several sets into a subfolder for each set.
    """
    _print("\n\n\n".join(map(format_scores, all_annotations, all_scores)))
    if output is None:
        return
    names = _unique([annotations.name for annotations in all_annotations]) if len(all_annotations) > 1 else [""]
    for name, annotations, scores in zip(names, all_annotations, all_scores, strict=True):
        write_scores(output / name, annotations, scores, drawn)
    _print(f"\nscores and curves: {output}")


def _print(text: str) -> None:
    """Print a text; go on if the reader of a pipe has closed it, as ``head`` does, so that files are still written."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would flush the stream once more at exit and fail (its documentation, "Note on SIGPIPE").
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


def _plain(score: Score) -> dict[str, float | int | None]:
    """Return the numbers of a score for ``scores.json``."""
    return {
        "miss_rate_percent": percent_or_none(score.miss_rate),
        "recall_percent": percent_or_none(score.recall),
        "people": score.people,
        "images": score.images,
    }


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
