"""Pairs without labels and the teacher's detections in place of their annotations."""

import json

import numpy as np
import pytest
from training_cases import write_pairs

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.training import unlabelled

DETECTIONS = {
    "street/0": ImageDetections(
        np.array([[4.0, 2, 5, 12], [20, 3, 4, 9], [1, 1, 3, 7], [9, 9, 0, 4]]), np.array([0.3, 0.5, 0.09, 0.9])
    ),
    "street/1": ImageDetections(np.zeros((0, 4)), np.zeros(0)),
}


@pytest.fixture
def config(tiny_config, tmp_path):
    config = tiny_config("student")
    config.data.update(unlabelled=str(write_pairs(tmp_path / "pairs")), data_dir=str(tmp_path / "data"))
    return config


def add(config, tmp_path, monkeypatch, detections=DETECTIONS, workdir="run"):
    monkeypatch.setattr(unlabelled, "_detect", lambda *_: detections)
    return unlabelled.add_unlabelled(["annotated"], config, None, tmp_path / workdir)


def test_detections_become_people_and_regions_to_ignore(config, tmp_path, monkeypatch, capsys):
    source = add(config, tmp_path, monkeypatch)
    assert len(source) == 3
    assert source[0] == "annotated"
    objects = source[1]["objects"]
    # By descending score; the last box has no width, and the third a score below both limits.
    assert objects["box"].tolist() == [[20, 3, 4, 9], [4, 2, 5, 12]]
    assert objects["label"] == ["person", "ignore"]
    assert objects["ignore"].tolist() == [False, True]
    assert source[2]["objects"]["box"].shape == (0, 4)
    assert source[2]["lwir"] == (tmp_path / "pairs" / "thermal" / "street" / "1.png").read_bytes()
    assert "the teacher sees 1 people, and 1 regions to ignore" in capsys.readouterr().out
    config.data.max_boxes = 1
    assert add(config, tmp_path, monkeypatch)[1]["objects"]["label"] == ["person"]


def test_resumed_run_takes_the_detections_of_its_first_start(config, tmp_path, monkeypatch):
    first = add(config, tmp_path, monkeypatch)
    again = add(config, tmp_path, monkeypatch, detections="must not be asked for")
    assert json.dumps(first[1]["objects"], default=repr) == json.dumps(again[1]["objects"], default=repr)
    write_pairs(tmp_path / "more", 3)
    config.data.update(unlabelled=str(tmp_path / "more"), data_dir=str(tmp_path / "data of more"))
    with pytest.raises(InputError, match=r"on 2 pairs, but config.data.unlabelled now holds 3, or others"):
        add(config, tmp_path, monkeypatch)


def test_cameras_are_those_of_the_labelled_pairs(config, tmp_path, monkeypatch):
    config.data.options.lwir_to_visible = "nine"
    with pytest.raises(InputError, match=r"lwir_to_visible"):
        add(config, tmp_path, monkeypatch)
