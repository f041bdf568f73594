"""NightOwls' files for the tests: annotations of the real form, small image files."""

import functools
import json

import cv2
import numpy as np

NAMES = ("pedestrian", "bicycledriver", "motorbikedriver", "ignore")
CATEGORIES = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]


def image(number, daytime="night", width=1024, height=640, **changes):
    """Return an entry of ``images``."""
    entry = {"id": number, "file_name": f"58c{number}.png", "width": width, "height": height, "daytime": daytime}
    return entry | {"recordings_id": None, "timestamp": 1598649939} | changes


def annotation(number, box, category=1, **changes):
    """Return an entry of ``annotations``."""
    entry = {"id": 7000000 + number, "image_id": number, "category_id": category, "bbox": list(box)}
    entry |= {"area": box[2] * box[3], "occluded": False, "difficult": None, "truncated": False, "ignore": 0}
    return entry | {"pose_id": 1, "tracking_id": 7000001} | changes


def write_annotations(path, images, annotations, **changes):
    """Write the JSON file of a split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES} | changes))
    return path


@functools.cache
def png(width=1024, height=640, grey=0):
    """Return a small file of a large image."""
    return cv2.imencode(".png", np.full((height, width, 3), grey, np.uint8))[1].tobytes()


def write_copy(root):
    """Write a copy of three training and two validation images."""
    train = [image(3, "day"), image(1, "night"), image(2, "dawn")]
    boxes = [annotation(3, (10, 20, 30, 60)), annotation(3, (-5, 20, 30, 60), occluded=True)]
    boxes += [annotation(1, (500, 100, 400, 300), 4), annotation(1, (7, 8, 30, 60), 2)]
    validation = [image(11, "night"), image(12, "night")]
    people = [annotation(11, (10, 20, 30, 60), occluded=None), annotation(12, (2000, 20, 30, 60))]
    for split, images, entries in (("training", train, boxes), ("validation", validation, people)):
        write_annotations(root / f"nightowls_{split}.json", images, entries)
        (root / f"nightowls_{split}").mkdir()
        for entry in images:
            (root / f"nightowls_{split}" / entry["file_name"]).write_bytes(png(grey=entry["id"]))
    return root
