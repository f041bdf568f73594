"""Small copies of KAIST: images of the real size, annotations of a line or two."""

import functools

import cv2
import numpy as np
from prepared_data import prepare

from datasets.kaist import open_builder

TRAIN = ("set00/V000/I00001", "set00/V000/I00003", "set03/V000/I00001")
TEST = ("set06/V000/I00019", "set09/V000/I00019", "set09/V000/I00039")
VIDEO_TREE = "images/{video}/{modality}/{frame}.jpg"
ANNOTATIONS = "annotations/{video}/{frame}.txt"
# The warning about a set of test annotations without a complete video.
DOUBT = (
    "test annotations: {} has all test frames of no video, so it cannot be told whether these are the original or the "
    "improved annotations"
)
BBGT = "% bbGt version=3\nperson 10 20 30 60 1 0 0 0 0 0 0\npeople 200 100 50 70 0 0 0 0 0 0 0\n"


@functools.cache
def encoded(suffix=".jpg", width=640, height=512, channels=3):
    """Return an image file of some kilobytes."""
    grey = np.add.outer(np.arange(height), np.arange(width)) // 8 % 256
    return cv2.imencode(suffix, np.repeat(grey[..., None], channels, 2).astype(np.uint8))[1].tobytes()


def picture(image_id, modality, suffix=".jpg"):
    """Return the file of one image; its name after the end of the image makes every file different."""
    return encoded(suffix, channels=3 if modality == "visible" else 1) + f"{image_id} {modality}".encode()


def place(root, layout, image_id, modality=""):
    """Return the path of one file in a layout."""
    video, _, frame = image_id.rpartition("/")
    parts = {"video": video, "frame": frame, "flat": image_id.replace("/", "_"), "modality": modality}
    parts["split"] = "train" if image_id < "set06" else "test"
    return root / layout.format(**parts, infrared="infrared" if modality == "lwir" else modality)


def write(path, content):
    """Write text or bytes, and create the parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_images(root, layout=VIDEO_TREE, image_ids=TRAIN + TEST):
    """Write the pairs of some frames."""
    for image_id in image_ids:
        for modality in ("visible", "lwir"):
            path = place(root, layout, image_id, modality)
            write(path, picture(image_id, modality, path.suffix))


def make_annotations(root, text=BBGT, layout=ANNOTATIONS, image_ids=TRAIN + TEST):
    """Write the annotations of some frames, all with the same text."""
    for image_id in image_ids:
        write(place(root, layout, image_id), text)


def make_copy(root):
    """Write the pairs and annotations of all frames, and return the folder."""
    make_images(root)
    make_annotations(root)
    return root


def list_options(folder, train=TRAIN, test=TEST):
    """Write image lists, and return the options that name them."""
    write(folder / "train.txt", "\n".join(train))
    write(folder / "test.txt", "\n".join(test))
    return {"train_list": str(folder / "train.txt"), "test_list": str(folder / "test.txt")}


def open_copy(folder, train=TRAIN, test=TEST, **options):
    """Return the builder of a small copy with its own lists, and prepared data in ``folder/data``."""
    return open_builder(str(folder / "data"), **list_options(folder, train, test), **options)


def prepare_copy(folder, **options):
    """Prepare the copy in ``folder/raw``."""
    return prepare(open_copy(folder, **options), folder / "raw")
