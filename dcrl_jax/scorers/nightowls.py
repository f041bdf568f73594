"""The NightOwls benchmark: scores of results files on the validation split.

    python -m dcrl_jax.evaluation.nightowls --annotations=nightowls_validation.json --results=mine.json --output=scores

Annotations are the JSON file of a split or a prepared data set. Results are COCO JSON, a list of entries with image_id
(the data set's own image number, or the file's name), category_id 1, bbox [x, y, w, h] and score; or a text file that
names an image by its index. Names in images.txt beside the results give such indexes a meaning.

The subsets are those of the official evaluation. Its script has two faults that this scorer does not repeat: after
dropping small detections it uses the overlaps of the wrong detections, and for a reference point below the first point
of a curve it reads the last point. By the official rules, areas that the data set marks as ignored absorb no
detections; with --ignore_areas they do.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dcrl_jax.annotations import nightowls
from dcrl_jax.command_line import exit_on_error
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import Results
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import NIGHTOWLS_SUBSETS
from dcrl_jax.evaluation.truths import is_prepared, read_prepared, to_truths
from dcrl_jax.scorers import common
from dcrl_jax.scorers.common import AnnotationSet

SIZE = (1024, 640)  # width and height of the images in pixels
SUBSETS_WITH_AREAS = tuple(subset._replace(ignore_labels=frozenset({"ignore"})) for subset in NIGHTOWLS_SUBSETS)


def read_annotations(path: Path, ignore_areas: bool = False) -> AnnotationSet:
    """Read the annotations of a split.

    Args:
        path: its JSON file, or the folder of a prepared data set, whose validation split is read.
        ignore_areas: whether areas that are marked as ignored absorb detections.

    Raises:
        InputError: no annotations, or a malformed file.
    """
    warnings, repeated, file_names = [], [], None
    if not path.is_dir():
        read = nightowls.read(path)
        images, repeated = to_truths((str(image.number), image.condition, image.objects) for image in read)
        file_names = [image.file_name for image in read]
    elif is_prepared(path):
        prepared = read_prepared(path, "validation")
        images, warnings = prepared.images["objects"], prepared.warnings
    else:
        raise InputError(
            f"{path}: a folder, and not that of a prepared data set; name nightowls_validation.json with --annotations"
        )
    for image in images:
        if not image.image_id.isdecimal():
            raise InputError(
                f"{path}: the id of image {image.image_id!r} is no number; name a data set prepared from NightOwls"
            )
    conditions = Counter(image.condition for image in images)
    notes = [
        "images: " + ", ".join(f"{count:,} {condition}" for condition, count in conditions.most_common()),
        *repeated,
    ]
    if ignore_areas:
        notes.append("ignored areas absorb detections, which is not the official evaluation")
    return AnnotationSet(
        path.resolve().stem,
        str(path),
        [image.image_id for image in images],
        images,
        SUBSETS_WITH_AREAS if ignore_areas else NIGHTOWLS_SUBSETS,
        notes,
        warnings,
        SIZE,
        file_names=file_names,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = common.make_parser(
        __doc__,
        annotations="nightowls_validation.json, or folder of a prepared data set; may be repeated",
        results="COCO JSON of one method, by the data set's own image numbers; may be repeated",
    )
    parser.add_argument("--ignore_areas", action="store_true", help="ignored areas absorb detections")
    options = parser.parse_args(arguments)
    with exit_on_error():
        common.check_names(options.results)
        all_annotations = [read_annotations(path, options.ignore_areas) for path in options.annotations]
        scored = [common.score_files(annotations, options.results, _read) for annotations in all_annotations]
        common.print_and_write(scored, NIGHTOWLS_SUBSETS, options.output)


def _read(path: Path, annotations: AnnotationSet) -> Results:
    numbers = [int(image_id) for image_id in annotations.image_ids]
    return read_results(path, annotations.image_ids, numbers, annotations.file_names)


if __name__ == "__main__":
    main()
