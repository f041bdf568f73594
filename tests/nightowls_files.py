"""NightOwls' annotations for the tests, in the real form; images of a small size."""

import functools
import json

import cv2
import numpy as np

CATEGORIES = [
    {"id": number, "name": name}
    for number, name in enumerate(("pedestrian", "bicycledriver", "motorbikedriver", "ignore"), start=1)
]


def image(number, daytime="night", width=1024, height=640, **changes):
    """An entry of ``images``."""
    entry = {"id": number, "file_name": f"58c{number}.png", "width": width, "height": height, "daytime": daytime}
    return entry | {"recordings_id": None, "timestamp": 1598649939} | changes


def annotation(number, box, category=1, **changes):
    """An entry of ``annotations``."""
    entry = {"id": 7000000 + number, "image_id": number, "category_id": category, "bbox": list(box)}
    entry |= {"area": box[2] * box[3], "occluded": False, "difficult": None, "truncated": False, "ignore": 0}
    return entry | {"pose_id": 1, "tracking_id": 7000001} | changes


def write_annotations(path, images, annotations, **changes):
    """Writes the JSON file of a split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES} | changes))
    return path


@functools.cache
def png(width=1024, height=640, grey=0):
    """A small file of a large image."""
    return cv2.imencode(".png", np.full((height, width, 3), grey, np.uint8))[1].tobytes()
