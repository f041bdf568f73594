"""Scores of results files on test annotations: what the commands of all benchmarks share."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax import files
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.data import records
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, Score, percent_or_none, score_subsets
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.reports import curves, tables


class Benchmark(NamedTuple):
    """The rules of a benchmark, and the format of its results."""

    subsets: tuple[Subset, ...]  # methods are ordered by the first
    panels: Mapping[str, str]  # titles of the curves that are drawn side by side, and the names of their subsets
    read_results: Callable[[Path, Sequence[str]], dict[str, ImageDetections]]  # given all image ids in order


class Truth(NamedTuple):
    """One set of test annotations, and what has to be said about it."""

    name: str  # of a folder of scores
    heading: str
    image_ids: Sequence[str]  # all images, in the order by which results files count them
    images: Sequence[ImageTruth]  # those that are scored
    notes: Sequence[str]  # one line each: which annotations these are, and what was found amiss
    warnings: Sequence[str]  # one line each; they stand beside every score
    benchmark: Benchmark


class Prepared(NamedTuple):
    """The annotations of a split of a prepared data set."""

    images: dict[str, list[ImageTruth]]  # by feature: ``objects``, and ``objects_lwir`` of paired data
    annotations: str | None  # which they are, where the data set says so
    warnings: list[str]


# Scores by the name of the results file, the best first, and by the name of the subset.
Scores = Mapping[str, Mapping[str, Score]]


def is_prepared(path: Path) -> bool:
    """Whether a path is the folder of a prepared data set."""
    return (path / "dataset_info.json").is_file()


def read_prepared(folder: Path, split: str) -> Prepared:
    """Reads the annotations of a prepared data set; needs no JAX.

    Raises:
        InputError: it cannot be read, or has no such split.
    """
    # Only here: everything else does without it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        source = records.open_split(builder, split)
        features = [name for name in ("objects", "objects_lwir") if name in builder.info.features]
        metadata = builder.info.metadata or {}
        return Prepared(
            {name: read_truths(source, name).images for name in features},
            metadata.get("annotations", {}).get(split),
            list(metadata.get("warnings", ())),
        )
    except InputError:
        raise
    except Exception as error:  # the parsers below raise whatever they stumble upon
        raise InputError(f"{folder}: not readable as a prepared data set ({error}); prepare it again") from error


def image_truth(image_id: str, condition: str, annotations: Sequence[Annotation]) -> ImageTruth:
    """The annotations of an image as the scorer takes them."""
    return ImageTruth(
        image_id=image_id,
        condition=condition,
        boxes=np.array([one.box for one in annotations], np.float64).reshape(-1, 4),
        labels=[one.label for one in annotations],
        occlusion=np.array([one.occlusion for one in annotations], int),
        ignore=np.array([one.ignore for one in annotations], bool),
    )


def score_results(truth: Truth, paths: Sequence[Path]) -> Scores:
    """Scores results files on the subsets of the benchmark.

    Args:
        truth: what they are scored on.
        paths: in the benchmark's formats, of different file names.

    Returns:
        by file name, ordered by the miss rate of the first subset, then by the name of the subset.

    Raises:
        InputError: a file cannot be read or is malformed.
    """
    kept = {image.image_id for image in truth.images}
    scores = {}
    for path in paths:
        detections = truth.benchmark.read_results(path, truth.image_ids)
        detections = {image_id: found for image_id, found in detections.items() if image_id in kept}
        scores[path.name] = score_subsets(truth.images, detections, truth.benchmark.subsets)
    first = truth.benchmark.subsets[0].name
    return {name: scores[name] for name in curves.by_miss_rate({name: one[first] for name, one in scores.items()})}


def format_scores(truth: Truth, scores: Scores) -> str:
    """The tables of one truth as text: miss rates in percent, then recall in percent with people and images."""
    # Distinct even so, and nine of them fit a line.
    short_names = [subset.short_name for subset in truth.benchmark.subsets]
    warnings = [f"warning: {text}" for text in truth.warnings]
    miss_rates = [[name, *(percent_or_none(one.miss_rate) for one in row.values())] for name, row in scores.items()]
    recall = [[name, *(percent_or_none(one.recall) for one in row.values())] for name, row in scores.items()]
    counted = list(next(iter(scores.values())).values())
    counts = [["people", *(one.people for one in counted)], ["images", *(one.images for one in counted)]]
    return "\n".join(
        [
            truth.heading,
            *truth.notes,
            "",
            tables.format_table(miss_rates, ["miss rate, %", *short_names]),
            *warnings,
            "",
            tables.format_table(recall + counts, ["recall, %", *short_names]),
            *warnings,
        ]
    )


def write_scores(folder: Path, truth: Truth, scores: Scores) -> None:
    """Writes ``scores.json`` and ``miss_rate.png``, the curves of the benchmark's panels, into a folder.

    Args:
        folder: made if missing. Each file in it appears complete or not at all.
        truth: for the title.
        scores: of ``score_results``; rates become percent, null where a subset has no people.

    Raises:
        InputError: the folder cannot be written.
    """
    plain = {name: {subset: _plain(one) for subset, one in row.items()} for name, row in scores.items()}
    panels = {
        heading: {name: row[subset] for name, row in scores.items()}
        for heading, subset in truth.benchmark.panels.items()
    }
    title = "\n".join([truth.heading, *truth.notes, *(f"warning: {text}" for text in truth.warnings)])
    try:
        files.write_atomically(folder / "scores.json", json.dumps(plain, indent=1) + "\n")
        with files.atomic_path(folder / "miss_rate.png") as path:
            curves.miss_rate_panels(panels, path, title)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error


def parser(description: str, annotations: str, results: str) -> argparse.ArgumentParser:
    """The command line that all benchmarks have, with their words for the two kinds of files."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--annotations", type=Path, action="append", required=True, help=annotations)
    made.add_argument("--results", type=Path, action="append", required=True, help=results)
    made.add_argument("--output", type=Path, help="folder for scores.json and miss_rate.png")
    return made


def main(
    command_line: argparse.ArgumentParser,
    read: Callable[[argparse.Namespace], list[Truth]],
    arguments: Sequence[str] | None,
) -> None:
    """Scores, prints, then writes; a user's mistake ends it with one message and status 1.

    Args:
        command_line: of ``parser``, with the benchmark's own options.
        read: reads the annotations that the options name; raises InputError for a user's mistake.
        arguments: None for those of the process.
    """
    options = command_line.parse_args(arguments)
    try:
        _check_names(options.results)
        _run(read(options), options.results, options.output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _check_names(paths):
    """Raises InputError where two results have one name, by which methods are told apart."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name in seen:
            raise InputError(
                f"{seen[path.name]} and {path}: methods are named by their results file; rename one of these"
            )
        seen[path.name] = path


def _run(truths, results, output):
    scored = [score_results(truth, results) for truth in truths]
    _print("\n\n\n".join(map(format_scores, truths, scored)))
    if output is None:
        return
    names = _unique([truth.name for truth in truths]) if len(truths) > 1 else [""]
    for name, truth, scores in zip(names, truths, scored, strict=True):
        write_scores(output / name, truth, scores)
    _print(f"\nscores and curves: {output}")


def _print(text):
    """Prints; a reader that has left, as ``head`` does after some lines, stops nothing: files are yet to be written."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What the stream still holds would fail once more when Python ends (its documentation, "Note on SIGPIPE").
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _plain(score: Score) -> dict[str, float | int | None]:
    return {
        "miss_rate_percent": percent_or_none(score.miss_rate),
        "recall_percent": percent_or_none(score.recall),
        "people": score.people,
        "images": score.images,
    }


def _unique(names: Sequence[str]) -> list[str]:
    """The names, the second of two equal ones with a number."""
    unique: list[str] = []
    for name in names:
        count, new = 1, name
        while new in unique:
            count += 1
            new = f"{name}-{count}"
        unique.append(new)
    return unique
