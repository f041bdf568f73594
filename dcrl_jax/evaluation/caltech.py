"""The Caltech benchmark: scores of results on one or several sets of test annotations.

    python -m dcrl_jax.evaluation.caltech --annotations=CALTECH/annotations --results=mine --results=theirs
    python -m dcrl_jax.evaluation.caltech --annotations=gt-Reasonable.mat --results=mine --output=scores

Annotations are a folder with the original .vbb files, or with the new texts; a truth of the toolbox, such as
gt-Reasonable.mat; or a prepared data set. Results are a folder of files setXX/VYYY.txt with lines frame,x,y,w,h,score,
frames counted from 1; or a text or COCO file that names an image by its place among the annotated images.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcrl_jax.annotations.caltech import folders, frames, truths
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import checksum
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import scorer
from dcrl_jax.evaluation.caltech_results import read_caltech
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE
from dcrl_jax.evaluation.scorer import Benchmark, Truth, is_prepared, read_prepared


def read_any(path: Path, image_ids: Sequence[str]) -> dict[str, ImageDetections]:
    """Reads results: a folder in Caltech's format, or a file by the images' places; raises InputError."""
    return read_caltech(path, image_ids) if path.is_dir() else read_results(path, image_ids)


CALTECH = Benchmark((CALTECH_REASONABLE,), {"reasonable": CALTECH_REASONABLE.name}, read_any)
# Heights and the border are judged by the boxes as they were before they got their aspect ratio.
DECIDED = CALTECH._replace(subsets=(CALTECH_REASONABLE._replace(min_height_px=0.0, border=None),))


def read_annotations(path: Path, allow_incomplete: bool = False) -> Truth:
    """Reads test annotations of whatever kind, told apart by looking.

    Args:
        path: a .mat file of the toolbox, a folder of annotation files, or that of a prepared data set.
        allow_incomplete: leave images out whose annotations are missing or unreadable, and warn.

    Raises:
        InputError: there is nothing of the kind, both kinds are there, or something about a file; of missing and
            unreadable ones all are counted and the first named.
    """
    if not path.is_dir():
        return _read_toolbox(path)
    return _read_prepared(path) if is_prepared(path) else _read_folder(path, allow_incomplete)


def _read_toolbox(path: Path) -> Truth:
    rows = truths.read_toolbox(path)
    images = [
        ImageTruth(image_id, "day", row[:, :4], ["person"] * len(row), np.zeros(len(row), int), row[:, 4] > 0)
        for image_id, row in zip(frames.test_frames(), rows, strict=True)
    ]
    number = zlib.crc32(np.concatenate(rows).tobytes())
    note = f"a truth of the toolbox, in which it is decided who counts; checksum {number:08x}"
    return Truth(path.stem, str(path), frames.test_frames(), images, [note], [], DECIDED)


def _read_prepared(folder: Path) -> Truth:
    prepared = read_prepared(folder, "test")
    images = prepared.images["objects"]
    image_ids = [image.image_id for image in images]
    known = set(frames.test_frames())
    for place, image_id in enumerate(image_ids):
        if image_id not in known:
            raise InputError(
                f"{folder}: record {place} of the test split is {image_id!r}, no test image of Caltech; expected one "
                "like set06/V000/I00029. Name a data set prepared from Caltech"
            )
    notes = [f"annotations: {prepared.annotations}"] if prepared.annotations else []
    return Truth(folder.resolve().name, str(folder), image_ids, images, notes, prepared.warnings, CALTECH)


def _read_folder(root: Path, allow_incomplete: bool) -> Truth:
    files = folders.index(root)
    image_ids = frames.test_frames()
    has_vbb = not files.vbb.keys().isdisjoint(frames.VIDEOS["test"])
    has_texts = not files.texts.keys().isdisjoint(image_ids)
    if has_vbb == has_texts:
        found = "both, original and new ones: name the folder of one" if has_vbb else "none of the test images"
        raise InputError(
            f"{root}: holds annotations of {found}. Looked for set06/V000.vbb (original), set06_V000_I00029.jpg.txt "
            "(new) and the dataset_info.json of a prepared data set; name the folder that has them with --annotations"
        )
    kind = "original" if has_vbb else "new"
    by_id, findings = {}, []
    for video, images in frames.TEST_IMAGES.items():
        numbers = frames.numbers(images * frames.TEST_SKIP, frames.TEST_SKIP)
        read = truths.read_video(video, numbers, files, kind)
        by_id |= {frames.image_id(video, number): found for number, found in read.by_number.items()}
        findings += read.findings
    if not allow_incomplete or not by_id:
        raise_if_any(
            [f"{finding.kind}: {finding.text}" for finding in findings],
            f"{root}, annotations of {len(image_ids):,} images",
            "Add or repair these files; or leave the images out, for scores that compare with no others, with "
            "--allow_incomplete.",
        )
    images = [scorer.image_truth(image_id, "day", found) for image_id, found in by_id.items()]
    labels = Counter(label for image in images for label in image.labels)
    notes = [
        f"{kind} annotations, checksum of the boxes {checksum(list(by_id.values())):08x}",
        "labels: " + ", ".join(f"{count:,} {label}" for label, count in labels.most_common()),
    ]
    warnings = []
    if left_out := len(image_ids) - len(by_id):
        warnings.append(
            f"{left_out:,} of {len(image_ids):,} images are left out, with what was detected in them; not comparable "
            "with scores on all images"
        )
    return Truth(root.resolve().name, str(root), image_ids, images, notes, warnings, CALTECH)


def _read_truths(options):
    return [read_annotations(path, options.allow_incomplete) for path in options.annotations]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = scorer.parser(
        __doc__,
        "folder of .vbb files or of the new texts, .mat file of the toolbox, or folder of a prepared data set; may be "
        "given several times",
        "of one method each, a folder of setXX/VYYY.txt; or a text or COCO file",
    )
    parser.add_argument("--allow_incomplete", action="store_true", help="leave out images without readable annotations")
    scorer.main(parser, _read_truths, arguments)


if __name__ == "__main__":
    main()
