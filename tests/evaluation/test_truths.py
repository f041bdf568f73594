"""Annotations of prepared records: what is read and what is not."""

import cv2
import numpy as np

from dcrl_jax.evaluation.truths import read_truths


def objects(*rows):
    """Return rows of label, box, occlusion and ignore in the form of TFDS."""
    labels, boxes, occlusion, ignore = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        "label": [label.encode() for label in labels],
        "box": np.asarray(boxes, np.float32).reshape(-1, 4),
        "occlusion": np.asarray(occlusion, np.int32),
        "ignore": np.asarray(ignore, bool),
    }


def record(image_id, condition, size=(6, 4), **features):
    encoded = cv2.imencode(".png", np.zeros((*size[::-1], 3), np.uint8))[1].tobytes()
    # Only the header, because images are not decoded.
    return {"image_id": image_id.encode(), "visible": encoded[:60], "condition": condition, **features}


def test_annotations_conditions_and_sizes_are_those_of_the_records():
    first = objects(("person", (1.5, 2, 3, 40), 1, False), ("people", (-5, 6, 7, 8), 0, True))
    source = [
        record("a", 0, objects=first),
        record("b", 1, (900, 500), objects=objects()),
        record("c", 2, objects=first),
    ]
    truths = read_truths(source)
    assert truths.sizes == [(6, 4), (900, 500), (6, 4)]
    day, night, dawn = truths.images
    assert (day.image_id, day.condition, day.labels) == ("a", "day", ["person", "people"])
    assert (day.boxes.dtype, day.boxes.tolist()) == (np.float64, [[1.5, 2, 3, 40], [-5, 6, 7, 8]])
    assert (day.occlusion.tolist(), day.ignore.tolist()) == ([1, 0], [False, True])
    assert (night.image_id, night.condition, night.labels, night.boxes.shape) == ("b", "night", [], (0, 4))
    assert dawn.condition == "dawn"
    assert read_truths([]) == ([], [])


def test_another_feature_of_the_record_is_read_by_its_name():
    visible = objects(("person", (10, 20, 30, 40), 0, False))
    lwir = objects(("unpaired", (12, 20, 30, 40), 2, True))
    (truth,) = read_truths([record("a", 0, objects=visible, objects_lwir=lwir)], "objects_lwir").images
    assert (truth.labels, truth.boxes[0, 0], truth.occlusion[0], truth.ignore[0]) == (["unpaired"], 12, 2, True)
