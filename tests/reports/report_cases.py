"""A small split with known mistakes, and an evaluation of it."""

from types import SimpleNamespace

import cv2
import numpy as np
from scoring_cases import make_detections

from dcrl_jax.evaluation.coco_ap import Category, coco_scores
from dcrl_jax.evaluation.evaluate import Bench, Evaluation, ParallelNetwork, subsets_of
from dcrl_jax.evaluation.miss_rate import score_subsets
from dcrl_jax.evaluation.rules import CONDITIONS, KAIST_SCALE, everyone
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.structures import MODALITIES

HEIGHT, WIDTH = 100, 120
# An image id that must appear as text only.
EVIL = "night/<script>alert(1)</script><b>&\"'$\\frac{$.png"


def make_record(image_id, condition, people, grey):
    """Return a record with a plain grey visible image and a thermal image that is 100 levels brighter."""
    count = len(people)
    boxes = np.array(people, np.float32).reshape(-1, 4)
    visible = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
    return {
        "image_id": image_id,
        "condition": condition,
        "visible": cv2.imencode(".png", visible)[1].tobytes(),
        "lwir": cv2.imencode(".png", visible[..., 0] + 100)[1].tobytes(),
        "objects": {"box": boxes, "label": ["person"] * count, "occlusion": [0] * count, "ignore": [False] * count},
    }


GREYS = {"day/found": 10, "day/empty": 20, "day/missed": 30, EVIL: 40}
RECORDS = [
    # A found person and a missed one; nobody; three missed people; a missed person.
    make_record("day/found", 0, [[10, 30, 16, 40], [60, 30, 16, 30]], 10),
    make_record("day/empty", 0, [], 20),
    make_record("day/missed", 0, [[40, 20, 16, 50], [2, 2, 16, 26], [100, 2, 16, 24]], 30),
    make_record(EVIL, 1, [[40, 20, 16, 60]], 40),
]
DETECTIONS = {
    "day/found": make_detections([10, 30, 16, 40, 0.9]),
    "day/empty": make_detections([50, 40, 16, 40, 0.25], [80, 40, 16, 40, 0.75]),
    "day/missed": make_detections(),
    EVIL: make_detections([90, 20, 16, 50, 0.8125]),
}
MU = (0.25, 0.5, 0.375, 0.75)  # weights of the thermal image
WEIGHTS = {record["image_id"]: np.array([1 - mu, mu], np.float32) for record, mu in zip(RECORDS, MU, strict=True)}


def evaluate(config, modalities=MODALITIES, warnings=(), detections=DETECTIONS, records=RECORDS):
    """Return the evaluation of a teacher, or of a detector of visible images, and its bench."""
    is_pair = len(modalities) > 1
    records = records if is_pair else [{k: v for k, v in record.items() if k != "lwir"} for record in records]
    network = ParallelNetwork(SimpleNamespace(modalities=modalities), None)
    bench = Bench(config, None, records, read_truths(records), network, warnings)
    subsets, truths = subsets_of(config), bench.truths.images
    scores = score_subsets(truths, detections, subsets)
    coco = coco_scores(truths, {"people": Category(everyone(), detections)}, CONDITIONS, by_size=False)
    evaluation = Evaluation(
        scores=scores,
        coco={condition: score.mean for condition, score in coco.items()},
        blanked_scores=dict.fromkeys(modalities, scores) if is_pair else {},
        detections=detections,
        image_weights=WEIGHTS if is_pair else {},
        modality_weights={"all": [0.53125, 0.46875], "day": [0.625, 0.375]} if is_pair else {},
        further_scores=score_subsets(truths, detections, KAIST_SCALE) if is_pair else {},
        warnings=warnings,
    )
    return evaluation, bench
