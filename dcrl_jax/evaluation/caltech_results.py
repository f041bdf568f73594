"""Caltech's own format of results: a folder of text files, ``setXX/VYYY.txt``, one for each video.

A line is ``frame,x,y,w,h,score``. Frames are counted from 1, so that the test image ``I00029`` is frame 30. Boxes are
x, y, width, height in pixels.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcrl_jax.annotations.caltech import frames
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.evaluation.results import in_order, parse_text, read_file, to_detections
from dcrl_jax.files import write_atomically

COLUMNS = "frame,x,y,width,height,score"


def write_caltech(
    folder: str | os.PathLike, detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> None:
    """Writes the files of all videos; one in which nothing was found is empty.

    Numbers are written so that reading gives them back exactly. Each file appears complete or not at all.

    Args:
        folder: made if missing.
        detections: by image id.
        image_ids: all images that were looked at, such as ``set06/V000/I00029``.

    Raises:
        InputError: detections of an image that is not in the list, or that are not finite, or of negative size.
    """
    lines: dict[str, list[str]] = {frames.video_of(image_id): [] for image_id in image_ids}
    for place, box, score in in_order(detections, image_ids):
        image_id = image_ids[place]
        row = [str(frames.number_of(image_id) + 1), *map(repr, box), repr(score)]
        lines[frames.video_of(image_id)].append(",".join(row) + "\n")
    for video, rows in lines.items():
        write_atomically(Path(folder) / f"{video}.txt", "".join(rows))


def read_caltech(folder: str | os.PathLike, image_ids: Sequence[str]) -> dict[str, ImageDetections]:
    """Reads the files of the videos that some images are of.

    Args:
        folder: with a file for each video. Numbers may be parted by commas or by spaces, as the toolbox takes both.
        image_ids: whose detections are wanted; rows of other frames are passed over.

    Returns:
        detections by image id, in the order of the files; images without any are left out.

    Raises:
        InputError: a video's file is missing or malformed, or it has rows but none of the images.
    """
    folder = Path(folder)
    wanted = set(image_ids)
    videos = list(dict.fromkeys(map(frames.video_of, image_ids)))
    missing = [f"{video}.txt: no such file" for video in videos if not (folder / f"{video}.txt").is_file()]
    raise_if_any(
        missing,
        f"{folder}, results of {len(videos)} videos",
        "Expected a file setXX/VYYY.txt for each video, an empty one where nothing was found.",
    )
    by_image: dict[str, list[list[float]]] = {}
    for video in videos:
        path = folder / f"{video}.txt"
        text = read_file(path, f"lines of {COLUMNS}")
        text = "\n".join(",".join(line.replace(",", " ").split()) for line in text.split("\n"))
        rows = [(frames.image_id(video, number - 1), values) for _, number, values in parse_text(text, path, COLUMNS)]
        kept = [(image_id, values) for image_id, values in rows if image_id in wanted]
        if rows and not kept:
            first = frames.number_of(next(one for one in image_ids if frames.video_of(one) == video))
            raise InputError(
                f"{path}: {len(rows)} rows, none of a test image; frames are counted from 1, so that the first test "
                f"image, I{first:05d}, is frame {first + 1}"
            )
        for image_id, values in kept:
            by_image.setdefault(image_id, []).append(values)
    return {image_id: to_detections(rows) for image_id, rows in by_image.items()}
