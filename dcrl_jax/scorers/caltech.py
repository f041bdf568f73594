"""The Caltech benchmark: scores of results on one or several sets of test annotations.

    python -m dcrl_jax.evaluation.caltech --annotations=CALTECH/annotations --results=mine --results=theirs
    python -m dcrl_jax.evaluation.caltech --annotations=gt-Reasonable.mat --results=mine --output=scores

Annotations are a folder with the original .vbb files or with the new text files, a ground truth file of the toolbox
such as gt-Reasonable.mat, or a prepared data set. Results are a folder of files setXX/VYYY.txt with lines
frame,x,y,w,h,score, where frames count from 1; or a text or COCO file, or a folder with a file per image. Names in the
results, or in images.txt beside them, decide which image is meant, and otherwise its index among the annotated images.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcrl_jax.annotations.caltech import folders, frames, truths
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import checksum
from dcrl_jax.command_line import exit_on_error
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.caltech_results import read_caltech
from dcrl_jax.evaluation.overlaps import ImageTruth, Results
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE
from dcrl_jax.evaluation.truths import is_prepared, read_prepared, to_truths
from dcrl_jax.scorers import common
from dcrl_jax.scorers.common import AnnotationSet

SIZE = (frames.WIDTH_PX, frames.HEIGHT_PX)
SUBSETS = (CALTECH_REASONABLE,)
# For truth files of the toolbox: it applied the limits of height and border before it changed the boxes' aspect ratio.
TOOLBOX_SUBSETS = (CALTECH_REASONABLE._replace(min_height_px=0.0, border=None),)


def read_annotations(path: Path, allow_incomplete: bool = False) -> AnnotationSet:
    """Read test annotations of any kind; the path's content decides which.

    Args:
        path: a .mat file of the toolbox, a folder of annotation files, or the folder of a prepared data set.
        allow_incomplete: leave out images whose annotations are missing or unreadable, with a warning.

    Raises:
        InputError: no annotations or two kinds of them, or a malformed file. If several annotation files are missing or
            unreadable, the message counts them and names the first ones.
    """
    if not path.is_dir():
        return _read_toolbox(path)
    return _read_prepared(path) if is_prepared(path) else _read_folder(path, allow_incomplete)


def _read_toolbox(path: Path) -> AnnotationSet:
    tables = truths.read_toolbox(path)
    images = [
        ImageTruth(image_id, "day", rows[:, :4], ["person"] * len(rows), np.zeros(len(rows), int), rows[:, 4] > 0)
        for image_id, rows in zip(frames.test_frames(), tables, strict=True)
    ]
    crc = zlib.crc32(np.concatenate(tables).tobytes())
    note = f"ground truth of the toolbox, which already decides who counts; checksum {crc:08x}"
    return AnnotationSet(path.stem, str(path), frames.test_frames(), images, TOOLBOX_SUBSETS, [note], size=SIZE)


def _read_prepared(folder: Path) -> AnnotationSet:
    prepared = read_prepared(folder, "test")
    images = prepared.images["objects"]
    image_ids = [image.image_id for image in images]
    known = set(frames.test_frames())
    for index, image_id in enumerate(image_ids):
        if image_id not in known:
            raise InputError(
                f"{folder}: record {index} of the test split is {image_id!r}, no test image of Caltech; expected one "
                "like set06/V000/I00029. Name a data set prepared from Caltech"
            )
    notes = [f"annotations: {prepared.source}"] if prepared.source else []
    name = folder.resolve().name
    return AnnotationSet(name, str(folder), image_ids, images, SUBSETS, notes, prepared.warnings, SIZE)


def _read_folder(root: Path, allow_incomplete: bool) -> AnnotationSet:
    files = folders.index(root)
    image_ids = frames.test_frames()
    has_vbb = not files.vbb.keys().isdisjoint(frames.VIDEOS["test"])
    has_texts = not files.texts.keys().isdisjoint(image_ids)
    if has_vbb == has_texts:
        problem = "both original and new annotations" if has_vbb else "no annotations of test images"
        raise InputError(
            f"{root}: holds {problem}. Looked for set06/V000.vbb (original), set06_V000_I00029.jpg.txt "
            "(new) and the dataset_info.json of a prepared data set; name the folder of one kind with --annotations"
        )
    kind = "original" if has_vbb else "new"
    by_id, findings = {}, []
    for video, images in frames.TEST_IMAGES.items():
        numbers = frames.numbers(images * frames.TEST_SKIP, frames.TEST_SKIP)
        by_number, video_findings = truths.read_video(video, numbers, files, kind)
        by_id |= {frames.image_id(video, number): annotations for number, annotations in by_number.items()}
        findings += video_findings
    if not allow_incomplete or not by_id:
        raise_if_any(
            [f"{finding.kind}: {finding.text}" for finding in findings],
            f"{root}, annotations of {len(image_ids):,} images",
            common.INCOMPLETE,
        )
    images, repeated = to_truths((image_id, "day", annotations) for image_id, annotations in by_id.items())
    labels = Counter(label for image in images for label in image.labels)
    notes = [
        f"{kind} annotations, checksum of the boxes {checksum(list(by_id.values())):08x}",
        "labels: " + ", ".join(f"{count:,} {label}" for label, count in labels.most_common()),
        *repeated,
    ]
    warnings = common.left_out_warnings(len(image_ids), len(images))
    return AnnotationSet(root.resolve().name, str(root), image_ids, images, SUBSETS, notes, warnings, SIZE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = common.make_parser(
        __doc__,
        annotations="folder of .vbb files or of the new text files, .mat file of the toolbox, or folder of a prepared "
        "data set; may be repeated",
        results="folder of setXX/VYYY.txt, text or COCO file of one method; may be repeated",
    )
    parser.add_argument("--allow_incomplete", action="store_true", help="leave out images without readable annotations")
    options = parser.parse_args(arguments)
    with exit_on_error():
        common.check_names(options.results)
        all_annotations = [read_annotations(path, options.allow_incomplete) for path in options.annotations]
        scored = [common.score_files(annotations, options.results, _read) for annotations in all_annotations]
        common.print_and_write(scored, SUBSETS, options.output)


def _read(path: Path, annotations: AnnotationSet) -> Results:
    """Read a folder of videos, or results of another form."""
    has_videos = any((path / f"{video}.txt").is_file() for video in frames.TEST_IMAGES)
    return (read_caltech if has_videos else read_results)(path, annotations.image_ids)


if __name__ == "__main__":
    main()
