"""The KAIST benchmark: scores of results files on one or several sets of test annotations.

    python -m dcrl_jax.evaluation.kaist --annotations=KAIST_annotation.json --results=mine.txt --results=theirs.txt
    python -m dcrl_jax.evaluation.kaist --annotations=KAIST/annotations --results=mine.txt --output=scores

Annotations are a COCO file, a folder of annotation files in any of KAIST's formats, or a prepared data set. Paired ones
are scored twice: on the boxes of the visible image (MR^R in the literature) and on those of the thermal one (MR^T).
Results files name an image by its place among the annotated images: in the order of their ids in a COCO file, of the
records of a prepared data set, of their names elsewhere. With the whole test split that is the published image list's.
"""

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import folders, frames
from dcrl_jax.annotations.kaist import truths as kaist_truths
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.data import records
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageTruth, Score, percent_or_none, score_subsets
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import CONDITIONS, KAIST_REASONABLE, KAIST_SUBSETS
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.reports import curves, tables

MODALITIES = folders.MODALITIES
PAIRED_NAMES = {"visible": "visible boxes (MR^R)", "lwir": "lwir boxes (MR^T)"}
# "all" for "reasonable-all", "near" for "scale-near": distinct even so, and nine of them fit a line.
SHORT_NAMES = tuple(subset.name.partition("-")[2] for subset in KAIST_SUBSETS)


class Truth(NamedTuple):
    """One set of test annotations, and what has to be said about it."""

    name: str  # "visible" or "lwir" of a paired set, else that of the file or folder
    heading: str
    image_ids: Sequence[str]  # all images, in the order by which results files count them
    images: Sequence[ImageTruth]  # those that are scored
    notes: Sequence[str]  # one line each: which annotations the boxes equal, and what was found amiss
    warnings: Sequence[str]  # one line each; they stand beside every score


# Scores by the name of the results file, the best first, and by the name of the subset.
Scores = Mapping[str, Mapping[str, Score]]


def read_annotations(path: Path, listed: Sequence[str] | None = None, allow_incomplete: bool = False) -> list[Truth]:
    """Reads test annotations of whatever kind, told apart by looking.

    Args:
      path: a COCO file, a folder of annotation files, or that of a prepared data set (with ``dataset_info.json``).
      listed: image ids that take the place of the test split, for a folder of annotation files alone.
      allow_incomplete: leave images out whose annotation file is missing or unreadable, and warn.

    Returns:
      one truth, or two of a paired set: ``visible``, then ``lwir``.

    Raises:
      InputError: there is nothing of the kind, more than one set, or something about a file; of missing and unreadable
        annotation files all are counted and the first named.
    """
    if is_annotation_folder(path):
        return _read_folder(path, frames.split_frames("test") if listed is None else listed, allow_incomplete)
    if path.is_dir():
        return _read_prepared(path)
    return [_from_files(path.stem, str(path), coco.read(path))]


def is_annotation_folder(path: Path) -> bool:
    """Whether a path is a folder, and not that of a prepared data set."""
    return path.is_dir() and not (path / "dataset_info.json").is_file()


def score_results(truth: Truth, paths: Sequence[Path]) -> Scores:
    """Scores results files on the nine subsets of the benchmark.

    Args:
      truth: of ``read_annotations``.
      paths: KAIST text or COCO JSON, of different file names.

    Returns:
      by file name, ordered by the miss rate of ``reasonable-all``, then by the name of the subset.

    Raises:
      InputError: a file cannot be read or is malformed.
    """
    kept = {image.image_id for image in truth.images}
    scores = {}
    for path in paths:
        detections = read_results(path, truth.image_ids)
        detections = {image_id: found for image_id, found in detections.items() if image_id in kept}
        scores[path.name] = score_subsets(truth.images, detections, KAIST_SUBSETS)
    first = KAIST_SUBSETS[0].name
    return {name: scores[name] for name in curves.by_miss_rate({name: one[first] for name, one in scores.items()})}


def format_scores(truth: Truth, scores: Scores) -> str:
    """The tables of one truth as text: miss rates in percent, then recall in percent with people and images."""
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
            tables.format_table(miss_rates, ["miss rate, %", *SHORT_NAMES]),
            *warnings,
            "",
            tables.format_table(recall + counts, ["recall, %", *SHORT_NAMES]),
            *warnings,
        ]
    )


def write_scores(folder: Path, truth: Truth, scores: Scores) -> None:
    """Writes ``scores.json`` and ``miss_rate.png``, the curves of all, day and night, into a folder.

    Args:
      folder: made if missing. Each file in it appears complete or not at all.
      truth: for the title.
      scores: of ``score_results``; rates become percent, null where a subset has no people.

    Raises:
      InputError: the folder cannot be written.
    """
    plain = {name: {subset: _plain(one) for subset, one in row.items()} for name, row in scores.items()}
    panels = {
        condition: {name: row[subset.name] for name, row in scores.items()}
        for condition, subset in zip(CONDITIONS, KAIST_REASONABLE, strict=True)
    }
    title = "\n".join([truth.heading, *truth.notes, *(f"warning: {text}" for text in truth.warnings)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _whole(folder / "scores.json") as path:
            path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        with _whole(folder / "miss_rate.png") as path:
            curves.miss_rate_panels(panels, path, title)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error


def _from_files(name: str, heading: str, read: kaist_truths.Truths, image_ids: Sequence[str] | None = None) -> Truth:
    image_ids = list(read.by_id) if image_ids is None else image_ids
    warnings = []
    if left_out := len(image_ids) - len(read.by_id):
        warnings.append(
            f"{left_out:,} of {len(image_ids):,} images are left out, with what was detected in them; "
            "not comparable with scores on all images"
        )
    counts = Counter(finding.kind for finding in read.findings)
    for kind in (kaist_truths.MISSING, kaist_truths.UNREADABLE):
        del counts[kind]
    found = [", ".join(f"{kind}: {count:,}" for kind, count in counts.items())] if counts else []
    images = [_image_truth(image_id, annotations) for image_id, annotations in read.by_id.items()]
    return Truth(name, heading, image_ids, images, [*_compare(read.by_id), *found], warnings)


def _image_truth(image_id: str, annotations: Sequence[Annotation]) -> ImageTruth:
    return ImageTruth(
        image_id=image_id,
        condition=frames.condition(image_id),
        boxes=np.array([one.box for one in annotations], np.float64).reshape(-1, 4),
        labels=[one.label for one in annotations],
        occlusion=np.array([one.occlusion for one in annotations], int),
        ignore=np.array([one.ignore for one in annotations], bool),
    )


def _compare(by_id: Mapping[str, Sequence[Annotation]]) -> list[str]:
    """One line where boxes are those of the improved annotations, whatever the files are called."""
    equal, videos = kaist_truths.improved_videos(by_id)
    return [f"boxes: equal to the improved test annotations in {equal} of {videos} videos"] if equal else []


def _read_folder(root: Path, image_ids: Sequence[str], allow_incomplete: bool) -> list[Truth]:
    wanted = set(image_ids)
    found = [folder for folder in folders.index_annotations(root) if wanted & folder.frames()]
    if not found:
        raise InputError(
            f"{root}: holds annotations of none of the {len(image_ids):,} images, {frames.shorten(image_ids, 2)}. "
            "Looked for .xml and .txt files of their names, as set06/V000/I00019.xml or set06_V000_I00019.txt, and for "
            "the dataset_info.json of a prepared data set; name the folder that has them with --annotations"
        )
    if len(found) > 1:
        listing = "\n".join(f"  {root / one.name}: {len(wanted & one.frames()):,} images" for one in found)
        raise InputError(f"{root}: holds several sets of annotations. Name one of them with --annotations:\n{listing}")
    annotated, path = found[0], root / found[0].name
    if annotated.is_paired:
        read = {
            modality: kaist_truths.read_truths(annotated.files[modality], image_ids, keep_rows=True)
            for modality in MODALITIES
        }
    else:
        files = {image_id: file for by_id in annotated.files.values() for image_id, file in by_id.items()}
        read = {"": kaist_truths.read_truths(files, image_ids)}
    if not allow_incomplete or not all(one.by_id for one in read.values()):
        problems = [
            f"{modality} {finding.kind}: {finding.text}".lstrip()
            for modality, one in read.items()
            for finding in one.findings
            if finding.kind in (kaist_truths.MISSING, kaist_truths.UNREADABLE)
        ]
        raise_if_any(
            problems,
            f"{path}, annotations of {len(image_ids):,} images",
            "Add or repair these files; or leave the images out, for scores that compare with no others, with "
            "--allow_incomplete.",
        )
    if annotated.is_paired:
        return [_from_files(name, f"{path}: {PAIRED_NAMES[name]}", one, image_ids) for name, one in read.items()]
    # A folder may hold one modality's half of a paired set.
    boxes = "".join(f": {modality} boxes" for modality in annotated.files if modality)
    return [_from_files(path.resolve().name, f"{path}{boxes}", read[""], image_ids)]


def _read_prepared(folder: Path) -> list[Truth]:
    # Only here: everything else does without it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        source = records.open_split(builder, "test")
        names = {folder.resolve().name: "objects"}
        if "objects_lwir" in builder.info.features:
            names = {"visible": "objects", "lwir": "objects_lwir"}
        read = {name: read_truths(source, objects).images for name, objects in names.items()}
        warnings = list((builder.info.metadata or {}).get("warnings", ()))
    except InputError:
        raise
    except Exception as error:  # the parsers below raise whatever they stumble upon
        raise InputError(f"{folder}: not readable as a prepared data set ({error}); prepare it again") from error
    truths = []
    for name, images in read.items():
        by_id = {}
        for place, image in enumerate(images):
            image_id = frames.parse_name(image.image_id)
            if image_id is None:
                raise InputError(
                    f"{folder}: record {place} of the test split is {image.image_id!r}, no frame of KAIST; expected "
                    "one like set06/V000/I00019. Name a data set prepared from KAIST"
                )
            rows = zip(image.labels, image.boxes.tolist(), image.occlusion.tolist(), image.ignore.tolist(), strict=True)
            by_id[image_id] = [Annotation(label, tuple(box), *rest) for label, box, *rest in rows]
        heading = f"{folder}: {PAIRED_NAMES[name]}" if len(read) > 1 else str(folder)
        image_ids = [image.image_id for image in images]
        truths.append(Truth(name, heading, image_ids, images, _compare(by_id), warnings))
    return truths


def _plain(score: Score) -> dict[str, float | int | None]:
    return {
        "miss_rate_percent": percent_or_none(score.miss_rate),
        "recall_percent": percent_or_none(score.recall),
        "people": score.people,
        "images": score.images,
    }


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes ``path`` if that succeeds."""
    # In the same folder, since only there is the final step a rename; with the ending, which says the format.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        action="append",
        required=True,
        help="COCO file, folder of annotation files, or folder of a prepared data set; may be given several times",
    )
    parser.add_argument(
        "--results", type=Path, action="append", required=True, help="of one method each, KAIST text or COCO JSON"
    )
    parser.add_argument("--output", type=Path, help="folder for scores.json and miss_rate.png")
    parser.add_argument(
        "--images",
        type=Path,
        help="image list that takes the place of the test split, for folders of annotation files; results files count "
        "its images by their names",
    )
    parser.add_argument(
        "--allow_incomplete", action="store_true", help="leave out images without a readable annotation file"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Scores, prints, then writes; raises InputError for a user's mistake."""
    paths: dict[str, Path] = {}
    for path in options.results:
        if path.name in paths:
            raise InputError(
                f"{paths[path.name]} and {path}: methods are named by their results file; rename one of these"
            )
        paths[path.name] = path
    if options.images and not any(map(is_annotation_folder, options.annotations)):
        raise InputError(
            f"--images={options.images}: COCO files and prepared data sets say themselves which images they hold; "
            "--images goes with a folder of annotation files"
        )
    listed = frames.read_list(options.images) if options.images else None
    truths = [
        truth for path in options.annotations for truth in read_annotations(path, listed, options.allow_incomplete)
    ]
    scored = [score_results(truth, options.results) for truth in truths]
    print("\n\n\n".join(map(format_scores, truths, scored)), flush=True)
    if options.output is None:
        return
    names = _unique([truth.name for truth in truths]) if len(truths) > 1 else [""]
    for name, truth, scores in zip(names, truths, scored, strict=True):
        write_scores(options.output / name, truth, scores)
    print(f"\nscores and curves: {options.output}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    options = parse(arguments)
    try:
        run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
