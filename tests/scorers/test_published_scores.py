"""Published results have their published scores."""

import numpy as np
import pytest
import scipy.io
from scorer_cases import REASONABLE, ROOT

from dcrl_jax.annotations.caltech.frames import test_frames as caltech_frames
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.scorers import caltech, common, kaist


def published(*names):
    """Return the paths of published files; skip the test if one is missing."""
    paths = [ROOT.parent / "shared" / name for name in names]
    for path in paths:
        if not path.is_file():
            pytest.skip(f"needs {path}")
    return paths


KAIST = {  # log-average miss rate in percent: reasonable all, day, night; the best method first
    "MLPD_result.txt": [7.58, 7.95, 6.95],
    "MBNet_result.txt": [8.13, 8.28, 7.86],
    "MSDS-RCNN_result.txt": [11.34, 10.53, 12.94],
}


def test_kaist_results_on_the_improved_annotations():
    path, *results = published("kaist/KAIST_annotation.json", *(f"kaist/results/{name}" for name in reversed(KAIST)))
    (annotations,) = kaist.read_annotations(path)
    assert annotations.notes == ["boxes, labels and flags: equal to the improved test annotations in 16 of 16 videos"]
    found = {path.name: read_results(path, annotations.image_ids) for path in results}
    scores = common.score_methods(annotations, found)
    percent = {name: [round(100 * row[subset].miss_rate, 2) for subset in REASONABLE] for name, row in scores.items()}
    assert list(percent.items()) == list(KAIST.items())
    for row in scores.values():
        # All, day and night; near, medium and far; no, partial and heavy occlusion.
        assert [score.people for score in row.values()] == [1455, 989, 466, 201, 1683, 807, 2612, 438, 226]
        assert [score.images for score in row.values()] == [2252, 1455, 797] + [2252] * 6


CALTECH = {  # people, and log-average miss rates in percent, reasonable; the best method first
    "gt-Reasonable.mat": (1014, {"RPN+BF": 9.577, "MS-CNN": 9.952, "CompACT-Deep": 11.748}),
    "gt-new-Reasonable.mat": (912, {"RPN+BF": 7.284, "MS-CNN": 8.084, "CompACT-Deep": 9.154}),
}


def test_caltech_results_on_the_original_and_the_new_annotations():
    methods = ("CompACT-Deep", "RPN+BF", "MS-CNN")
    paths = published(*(f"caltech/{name}" for name in CALTECH), *(f"caltech/dt-{name}.mat" for name in methods))
    results = {}
    for name, path in zip(methods, paths[2:], strict=True):
        rows = [np.asarray(cell, float).reshape(-1, 5) for cell in scipy.io.loadmat(path)["dt"].ravel()]
        found = [ImageDetections(table[:, :4], table[:, 4]) for table in rows]
        results[name] = dict(zip(caltech_frames(), found, strict=True))
    for path, (people, expected) in zip(paths, CALTECH.values(), strict=False):
        scores = common.score_methods(caltech.read_annotations(path), results)
        percent = {name: round(100 * row["caltech-reasonable"].miss_rate, 3) for name, row in scores.items()}
        assert list(percent.items()) == list(expected.items())
        assert {(score.people, score.images) for row in scores.values() for score in row.values()} == {(people, 4024)}
