"""Pairs without labels and the teacher's detections in place of their annotations."""

import jax
import numpy as np
import pytest
from training_cases import write_pairs

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.training import unlabelled

DETECTIONS = {
    "street/0": ImageDetections(
        np.array([[4.0, 2, 5, 12], [20, 3, 4, 9], [1, 1, 3, 7], [9, 9, 0.5, 4]]), np.array([0.3, 0.5, 0.09, 0.9])
    ),
    "street/1": ImageDetections(np.zeros((0, 4)), np.zeros(0)),
}


@pytest.fixture
def config(tiny_config, tmp_path):
    config = tiny_config("student")
    config.data.update(unlabelled=str(write_pairs(tmp_path / "pairs")), data_dir=str(tmp_path / "data"))
    return config


def open_pairs(config, monkeypatch, detections=DETECTIONS, saved=None):
    monkeypatch.setattr(unlabelled, "_detect", lambda *_: detections)
    return unlabelled.open_unlabelled(config, None, saved)


def test_detections_become_people_and_regions_to_ignore(config, tmp_path, monkeypatch, capsys):
    records = open_pairs(config, monkeypatch)
    assert len(records) == 2
    objects = records[0]["objects"]
    # By descending score; the last box is less than a pixel wide, and the third a score below both limits.
    assert objects["box"].tolist() == [[20, 3, 4, 9], [4, 2, 5, 12]]
    assert objects["label"] == ["person", "ignore"]
    assert objects["ignore"].tolist() == [False, True]
    assert records[1]["objects"]["box"].shape == (0, 4)
    assert records[1]["lwir"] == (tmp_path / "pairs" / "thermal" / "street" / "1.png").read_bytes()
    assert "the teacher sees 1 people, and 1 regions to ignore" in capsys.readouterr().out
    config.data.max_boxes = 1
    assert open_pairs(config, monkeypatch)[0]["objects"]["label"] == ["person"]


def test_pairs_without_labels_follow_the_others():
    joined = unlabelled.JoinedRecords("ab", "c")
    assert [joined[index] for index in range(len(joined))] == ["a", "b", "c"]


def test_resumed_run_takes_the_detections_of_its_first_start(config, tmp_path, monkeypatch):
    first, path = open_pairs(config, monkeypatch), tmp_path / "unlabelled.json"
    unlabelled.save_detections(first, path)
    again = open_pairs(config, monkeypatch, "must not be asked for", path)
    for index in range(2):
        jax.tree.map(np.testing.assert_array_equal, again[index]["objects"], first[index]["objects"])
    write_pairs(tmp_path / "more", 3)
    config.data.update(unlabelled=str(tmp_path / "more"), data_dir=str(tmp_path / "data of more"))
    with pytest.raises(InputError, match=r"on 2 pairs, but config.data.unlabelled now holds 3, or others"):
        open_pairs(config, monkeypatch, saved=path)
    for content in ("[]", "{", '{"street/0": [[1, 2]]}', '{"street/0": 7, "street/1": "x"}'):
        path.write_text(content)
        with pytest.raises(InputError, match=r"unlabelled.json: the teacher's detections .* cannot be read"):
            open_pairs(config, monkeypatch, saved=path)
    with pytest.raises(InputError, match=r"nothing.json: the teacher's detections .* cannot be read"):
        open_pairs(config, monkeypatch, saved=tmp_path / "nothing.json")


def test_cameras_are_those_of_the_labelled_pairs(config, monkeypatch):
    config.data.options.lwir_to_visible = "nine"
    with pytest.raises(InputError, match=r"lwir_to_visible"):
        open_pairs(config, monkeypatch)
