"""The NightOwls benchmark: scores of results files on the validation split.

    python -m dcrl_jax.evaluation.nightowls --annotations=nightowls_validation.json --results=mine.json --output=scores

Annotations are the JSON file of a split, or a prepared data set. Results are COCO JSON: a list of entries with
image_id, the image's own number, category_id 1, bbox [x, y, w, h] and score; or a text file that names an image by its
place.

Subsets are those of the official evaluation. It matches detections with the overlaps of others where it has left small
ones out, and reads the last point of a curve before its first; here they are scored by the rules. In it the areas that
the data set marks as ignored absorb no detections; --ignore_areas lets them.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dcrl_jax.annotations import nightowls
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import scorer
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import NIGHTOWLS_SUBSETS
from dcrl_jax.evaluation.scorer import Benchmark, Truth, is_prepared, read_prepared


def read_numbered(path: Path, image_ids: Sequence[str]) -> dict[str, ImageDetections]:
    """Reads results whose JSON names images by their own numbers, which are the ids; raises InputError."""
    return read_results(path, image_ids, [int(image_id) for image_id in image_ids])


NIGHTOWLS = Benchmark(
    subsets=NIGHTOWLS_SUBSETS,
    panels={subset.short_name: subset.name for subset in NIGHTOWLS_SUBSETS},
    read_results=read_numbered,
)
WITH_AREAS = NIGHTOWLS._replace(
    subsets=tuple(subset._replace(ignore_labels=frozenset({"ignore"})) for subset in NIGHTOWLS_SUBSETS)
)


def read_annotations(path: Path, ignore_areas: bool = False) -> Truth:
    """Reads the annotations of a split.

    Args:
        path: its JSON file, or the folder of a prepared data set, whose validation split is read.
        ignore_areas: whether areas that are marked as ignored absorb detections.

    Raises:
        InputError: there is nothing of the kind, or something about the file.
    """
    warnings = []
    if not path.is_dir():
        images = [scorer.image_truth(str(one.number), one.condition, one.objects) for one in nightowls.read(path)]
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
                f"{path}: the image {image.image_id!r} has no number; name a data set prepared from NightOwls"
            )
    hours = Counter(image.condition for image in images)
    notes = ["images: " + ", ".join(f"{count:,} {hour}" for hour, count in hours.most_common())]
    if ignore_areas:
        notes.append("ignored areas absorb detections, which is not the official evaluation")
    benchmark = WITH_AREAS if ignore_areas else NIGHTOWLS
    return Truth(path.resolve().stem, str(path), [one.image_id for one in images], images, notes, warnings, benchmark)


def _read_truths(options):
    return [read_annotations(path, options.ignore_areas) for path in options.annotations]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = scorer.parser(
        __doc__,
        "nightowls_validation.json, or folder of a prepared data set; may be given several times",
        "of one method each, COCO JSON by the images' own numbers",
    )
    parser.add_argument("--ignore_areas", action="store_true", help="ignored areas absorb detections")
    scorer.main(parser, _read_truths, arguments)


if __name__ == "__main__":
    main()
