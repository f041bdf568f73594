"""Caltech's results format: a folder with one text file per video, ``setXX/VYYY.txt``.

A line is ``frame,x,y,w,h,score``. Frames count from 1, so the test image ``I00029`` is frame 30. Boxes are x, y, width,
height in pixels.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcrl_jax.annotations.caltech import frames
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.image_names import listed_images
from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.evaluation.result_rows import Row, parse_text, read_file
from dcrl_jax.evaluation.results import sort_detections, to_detections
from dcrl_jax.files import write_atomically

COLUMNS = "frame,x,y,width,height,score"


def write_caltech(
    folder: str | os.PathLike, detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> None:
    """Write one file per video; a video without detections gets an empty file.

    Reading the files returns exactly the same numbers. Each file is written completely or not at all.

    Args:
        folder: the folder of the files, created if needed.
        detections: detections by image id.
        image_ids: all images that were processed, such as ``set06/V000/I00029``.

    Raises:
        InputError: an image id is not in the list, or a detection is not finite or has a negative size.
    """
    lines: dict[str, list[str]] = {frames.video_of(image_id): [] for image_id in image_ids}
    for index, box, score in sort_detections(detections, image_ids):
        image_id = image_ids[index]
        row = [str(frames.number_of(image_id) + 1), *map(repr, box), repr(score)]
        lines[frames.video_of(image_id)].append(",".join(row) + "\n")
    for video, rows in lines.items():
        write_atomically(Path(folder) / f"{video}.txt", "".join(rows))


def read_caltech(folder: str | os.PathLike, image_ids: Sequence[str]) -> Results:
    """Read the files of all videos of a list of images.

    Args:
        folder: has one file per video. As in the toolbox, commas or spaces separate the numbers.
        image_ids: the images whose detections are returned; rows of other frames are skipped. ``images.txt`` beside the
            folder or in it may name a part of them, as for ``read_results``.

    Returns:
        Detections by image id, in the order of the files; images without detections are left out.

    Raises:
        InputError: a video's file is missing or malformed, or none of its rows is of one of the images.
    """
    folder = Path(folder)
    listed = listed_images(folder, image_ids)
    images = None if listed is None or len(listed) == len(image_ids) else frozenset(listed.values())
    wanted = set(image_ids) if images is None else images
    videos = list(dict.fromkeys(frames.video_of(image_id) for image_id in image_ids if image_id in wanted))
    missing = [f"{video}.txt: no such file" for video in videos if not (folder / f"{video}.txt").is_file()]
    raise_if_any(
        missing,
        f"{folder}, results of {len(videos)} videos",
        "Expected a file setXX/VYYY.txt for each video, an empty one where nothing was found.",
    )
    by_image: dict[str, list[Sequence[float]]] = {}
    for video in videos:
        path = folder / f"{video}.txt"
        rows = [
            (frames.image_id(video, _number(row) - 1), row.values)
            for row in parse_text(read_file(path, f"lines of {COLUMNS}"), path, COLUMNS)
        ]
        kept = [(image_id, values) for image_id, values in rows if image_id in wanted]
        if rows and not kept:
            first = frames.number_of(next(image_id for image_id in image_ids if frames.video_of(image_id) == video))
            raise InputError(
                f"{path}: {len(rows)} rows, none of a test image; frames are counted from 1, so that the first test "
                f"image, I{first:05d}, is frame {first + 1}"
            )
        for image_id, values in kept:
            by_image.setdefault(image_id, []).append(values)
    return Results({image_id: to_detections(rows) for image_id, rows in by_image.items()}, images)


def _number(row: Row) -> int:
    if not isinstance(row.image, int) or row.image < 1:
        raise InputError(f"{row.place}: frame {str(row.image)[:40]!r}; expected its number, 1 for the first frame")
    return row.image
