"""Small copies of KAIST for the tests: stand-in images of the real size, annotations of a line or two."""

import functools
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from datasets.kaist import open_builder

TRAIN = ("set00/V000/I00001", "set00/V000/I00003", "set03/V000/I00001")
TEST = ("set06/V000/I00019", "set09/V000/I00019", "set09/V000/I00039")
VIDEO_TREE = "images/{video}/{modality}/{frame}.jpg"
BBGT = "% bbGt version=3\nperson 10 20 30 60 1 0 0 0 0 0 0\npeople 200 100 50 70 0 0 0 0 0 0 0\n"
BBGT_ROWS = [("person", [10, 20, 30, 60], 1, False), ("people", [200, 100, 50, 70], 0, False)]


@functools.cache
def encoded(suffix=".jpg", width=640, height=512, channels=3):
    """A file that is an image, of some kilobytes."""
    grey = np.add.outer(np.arange(height), np.arange(width)) // 8 % 256
    return cv2.imencode(suffix, np.repeat(grey[..., None], channels, 2).astype(np.uint8))[1].tobytes()


def picture(image_id, modality, suffix=".jpg"):
    """The file of one image; behind its end stands whose it is, so that no two are alike."""
    return encoded(suffix, channels=3 if modality == "visible" else 1) + f"{image_id} {modality}".encode()


def place(root, layout, image_id, modality=""):
    """The path of one file in a layout."""
    video, _, frame = image_id.rpartition("/")
    names = {
        "video": video,
        "frame": frame,
        "flat": image_id.replace("/", "_"),
        "split": "train" if image_id < "set06" else "test",
        "modality": modality,
        "infrared": "infrared" if modality == "lwir" else modality,
    }
    return root / layout.format(**names)


def write(path, content):
    """Writes text or bytes, with the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_images(root, layout=VIDEO_TREE, image_ids=TRAIN + TEST):
    """Writes the pairs of some frames."""
    for image_id in image_ids:
        for modality in ("visible", "lwir"):
            path = place(root, layout, image_id, modality)
            write(path, picture(image_id, modality, path.suffix))


def make_annotations(root, text=BBGT, layout="annotations/{video}/{frame}.txt", image_ids=TRAIN + TEST, modality=""):
    """Writes the annotations of some frames, all of the same text."""
    for image_id in image_ids:
        write(place(root, layout, image_id, modality), text)


def list_options(folder, train=TRAIN, test=TEST):
    """Writes image lists; returns the options that name them."""
    write(folder / "train.txt", "\n".join(train))
    write(folder / "test.txt", "\n".join(test))
    return {"train_list": str(folder / "train.txt"), "test_list": str(folder / "test.txt")}


def open_copy(folder, train=TRAIN, test=TEST, **options):
    """The builder of a small copy, with lists of its own and its data in ``folder/data``."""
    return open_builder(str(folder / "data"), **list_options(folder, train, test), **options)


def run(builder, manual_dir):
    """Prepares with a builder."""
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return builder


def prepare(folder, **options):
    """Prepares the copy in ``folder/raw``."""
    return run(open_copy(folder, **options), folder / "raw")


def read(builder, split):
    """All records in their order, images as their bytes."""
    skip = tfds.decode.SkipDecoding()
    return list(builder.as_data_source(split, decoders={"visible": skip, "lwir": skip}))


def names(records):
    """The image ids of records."""
    return [record["image_id"].decode() for record in records]


def rows(record, key="objects"):
    """The objects of a record: label, box, occlusion, ignore."""
    objects = record[key]
    columns = (
        [label.decode() for label in objects["label"]],
        [box.tolist() for box in objects["box"]],
        [int(level) for level in objects["occlusion"]],
        [bool(ignore) for ignore in objects["ignore"]],
    )
    return list(zip(*columns, strict=True))


def files(folder: Path):
    """All files below a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
