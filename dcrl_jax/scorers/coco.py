"""COCO's average precision: scores of results on the annotations of any data set, as papers on LLVIP or FLIR give them.

    python -m dcrl_jax.evaluation.coco --annotations=test.json --results=mine.json --results=theirs.json
    python -m dcrl_jax.evaluation.coco --annotations=test.json --results=mine.json --categories=all --output=scores

Annotations are a COCO file or a prepared data set. Results are COCO JSON, whose image_id is the annotation file's own
id or the image's name; a text file with lines image,x,y,w,h,score; or a folder with a file per image. Names in them, or
in images.txt beside them, decide which image is meant, and then numbers in the results count this list. Numbers that
cannot be so are taken as ids, or else as the numbers that are the names of the images, with a warning. If the list has
a part of the images, by names or ids, scores are taken on this part. Text files count the images, in the order of their
ids, from 1.

People are the objects named person or pedestrian or, where there are neither, people; --person_labels names others.
People of any height and occlusion count. Crowds and ignored people, and objects named people, person?, cyclist or
ignore, need not be found, and a detection on one counts neither way. With --categories=all each category is scored for
itself, by the category_id of the annotation file, and the mean is the mAP of papers; --categories=person,car chooses.

AP and AR are means over the overlaps 0.5, 0.55 ... 0.95; APs, APm and APl are on small (up to 32 x 32 pixels), medium
(up to 96 x 96) and large boxes. The 100 strongest detections of an image and category count. Scores may have any scale.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax import files, tables
from dcrl_jax.command_line import exit_on_error
from dcrl_jax.disk_errors import not_written
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.coco_ap import Category, CocoScore, CocoScores, coco_scores
from dcrl_jax.evaluation.miss_rate import percent_or_none
from dcrl_jax.evaluation.rules import assign_roles
from dcrl_jax.progress import progress_bar
from dcrl_jax.scorers import common
from dcrl_jax.scorers.coco_annotations import PEOPLE, CocoAnnotations, read_annotations
from dcrl_jax.scorers.coco_results import merge_results, read_coco_results
from dcrl_jax.scorers.common import ScoredSet

# The titles of COCO's figures, by field of CocoScore.
FIGURES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "APs",
    "ap_medium": "APm",
    "ap_large": "APl",
    "ar": "AR",
}


class CocoScored(NamedTuple):
    """The scores of all methods on one set of annotations."""

    annotated: CocoAnnotations
    scores: dict[str, CocoScores]  # by method, the highest AP first
    together: ScoredSet  # all categories as one: miss rates, and remarks on the methods


def score_files(annotated: CocoAnnotations, paths: Sequence[Path]) -> CocoScored:
    """Read and score the results of several methods; their names are those of the files.

    Raises:
        InputError: results cannot be read.
    """
    results = {path.name: read_coco_results(path, annotated) for path in paths}
    merged = {name: merge_results(list(read.categories.values())) for name, read in results.items()}
    together = common.score_results(annotated.annotations, merged)
    remarks = {name: [*results[name].remarks(name), *together.remarks[name]] for name in results}
    images = annotated.annotations.images
    scores = {}
    for name in progress_bar(list(results), "COCO AP", len(results), "methods", leave=False):
        found = results[name].categories
        categories = {key: Category(subset, found[key]) for key, subset in annotated.subsets.items()}
        scores[name] = coco_scores(images, categories)["all"]
    ordered = sorted(scores, key=lambda name: scores[name].mean.ap, reverse=True)
    return CocoScored(annotated, {name: scores[name] for name in ordered}, together._replace(remarks=remarks))


def format_scores(scored: CocoScored) -> str:
    """Return the tables as text: a row of figures by method, and of all categories a table by method."""
    annotations, is_people = scored.annotated.annotations, scored.annotated.is_people
    # A category without objects has no figures.
    counted = max(sum(score.objects > 0 for score in scores.categories.values()) for scores in scored.scores.values())
    title = "COCO, %" if is_people else f"COCO, mean of {counted} categories, %"
    rows = [
        [name, *_percent(scores.mean), *([_miss_rate(scored, name)] if is_people else [])]
        for name, scores in scored.scores.items()
    ]
    table = tables.format_table(rows, [title, *FIGURES.values(), *(["miss rate"] if is_people else [])])
    parts = ["\n".join([table, *scored.together.all_remarks()])]
    for name, scores in () if is_people else scored.scores.items():
        rows = [[key, *_percent(score), score.objects] for key, score in scores.categories.items()]
        parts.append(tables.format_table(rows, [name, *FIGURES.values(), "objects"]))
    heading = "\n".join([annotations.heading, *annotations.notes, _describe(scored.annotated)])
    return "\n\n".join([heading, *parts])


def _describe(annotated: CocoAnnotations) -> str:
    """Return the numbers of images and of the objects that count, and the names of people."""
    annotations = annotated.annotations
    (subset,) = annotations.subsets
    roles = [assign_roles(subset, *image[2:]) for image in annotations.images]
    counted, ignored = (int(sum(mask.sum() for mask in masks)) for masks in zip(*roles, strict=True))
    names = f" ({', '.join(sorted(subset.person_labels))})" if annotated.is_people else ""
    regions = f" and {ignored:,} ignore regions" if ignored else ""
    return f"{counted:,} {annotations.noun}{names}{regions} in {len(annotations.images):,} images"


def write_scores(folder: Path, scored: CocoScored) -> None:
    """Write ``scores.json`` into a folder, which is created if needed; the file is written completely or not at all.

    Figures are in percent, null where no object counts. With people there is the miss rate, with all categories
    the figures of each.

    Raises:
        InputError: the folder is not writable.
    """
    warnings = [f"warning: {text}" for text in scored.annotated.annotations.warnings]
    content = {}
    for name, scores in scored.scores.items():
        entry: dict[str, object] = _plain(scores.mean)
        if scored.annotated.is_people:
            entry |= {"miss_rate_percent": _miss_rate(scored, name)}
        else:
            entry |= {"categories": {key: _plain(score) for key, score in scores.categories.items()}}
        remarks = [*warnings, *scored.together.remarks[name]]
        content[name] = entry | ({"remarks": remarks} if remarks else {})
    try:
        files.write_atomically(folder / "scores.json", json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(not_written(folder, error, "give another --output")) from error


def _percent(score: CocoScore) -> list[float | None]:
    return [percent_or_none(getattr(score, field)) for field in FIGURES]


def _plain(score: CocoScore) -> dict[str, object]:
    figures: dict[str, object] = {f"{field}_percent": percent_or_none(getattr(score, field)) for field in FIGURES}
    return figures | {"objects": score.objects, "images": score.images}


def _miss_rate(scored: CocoScored, name: str) -> float | None:
    (score,) = scored.together.scores[name].values()
    return percent_or_none(score.miss_rate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = common.make_parser(
        __doc__,
        annotations="COCO file, or folder of a prepared data set; may be repeated",
        results="COCO JSON, text file, or folder of a text file per image, of one method; may be repeated",
        output="folder for scores.json",
    )
    parser.add_argument(
        "--person_labels",
        help="names of people in the annotations, separated by commas; by default person and pedestrian or, without "
        "these, people",
    )
    parser.add_argument(
        "--categories",
        default=PEOPLE,
        help="people (the default), all, or names separated by commas: each of these categories and the mean is scored",
    )
    parser.add_argument("--split", default="test", help="split of a prepared data set, by default test")
    options = parser.parse_args(arguments)
    with exit_on_error():
        common.check_names(options.results)
        categories = None if options.categories == PEOPLE else options.categories.split(",")
        labels = options.person_labels.split(",") if options.person_labels else None
        if categories and labels:
            raise InputError("--person_labels and --categories: give one of them; categories are scored by their names")
        annotations = [read_annotations(path, labels, categories, options.split) for path in options.annotations]
        scored_sets = [score_files(annotated, options.results) for annotated in annotations]
        common.print_text("\n\n\n".join(map(format_scores, scored_sets)))
        if options.output:
            folders = common.output_folders(options.output, [annotated.annotations for annotated in annotations])
            for folder, scored in zip(folders, scored_sets, strict=True):
                write_scores(folder, scored)
            common.print_text(f"\nscores: {options.output}")


if __name__ == "__main__":
    main()
