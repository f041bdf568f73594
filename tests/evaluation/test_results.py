"""Results files: round trips, and one message for each way of being malformed."""

import json
from pathlib import Path

import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.evaluation.results import read_results, write_coco_json, write_kaist_text

IMAGE_IDS = ["x", "y", "z"]
KAIST_RESULTS = Path(__file__).resolve().parents[3] / "shared" / "kaist" / "results"


def example():
    return {
        "z": ImageDetections(np.float32([[1.1, 2.2, 3.3, 4.4]]), np.float32([0.1])),
        "x": ImageDetections(np.array([[5.0, 6, 7, 8], [1 / 3, 0, 2e-7, 4]]), np.array([0.25, 0.75])),
        "y": ImageDetections(np.zeros((0, 4)), np.zeros(0)),
    }


@pytest.mark.parametrize("write", [write_kaist_text, write_coco_json])
def test_round_trip_is_exact_and_by_falling_score(tmp_path, write):
    path = tmp_path / "deep" / "results"
    write(path, example(), IMAGE_IDS)
    read = read_results(path, IMAGE_IDS)
    assert list(read) == ["x", "z"]
    np.testing.assert_array_equal(read["x"].boxes, [[1 / 3, 0, 2e-7, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(read["x"].scores, [0.75, 0.25])
    np.testing.assert_array_equal(read["z"].boxes, example()["z"].boxes.astype(np.float64))
    assert [entry.name for entry in path.parent.iterdir()] == ["results"]


def test_text_counts_images_from_one(tmp_path):
    path = tmp_path / "results.txt"
    write_kaist_text(path, {"y": ImageDetections(np.array([[1, 2.5, 3, 4]]), np.array([0.5]))}, IMAGE_IDS)
    assert path.read_text() == "2,1.0,2.5,3.0,4.0,0.5\n"


def test_json_counts_images_from_zero(tmp_path):
    path = tmp_path / "results.json"
    write_coco_json(path, {"y": ImageDetections(np.array([[1, 2.5, 3, 4]]), np.array([0.5]))}, IMAGE_IDS)
    assert json.loads(path.read_text()) == [
        {"image_id": 1, "category_id": 1, "bbox": [1.0, 2.5, 3.0, 4.0], "score": 0.5}
    ]


@pytest.mark.parametrize("write", [write_kaist_text, write_coco_json])
def test_no_detections_give_a_file_without_any(tmp_path, write):
    write(tmp_path / "results", {}, IMAGE_IDS)
    assert read_results(tmp_path / "results", IMAGE_IDS) == {}


def test_empty_file_has_no_detections(tmp_path):
    path = tmp_path / "results.txt"
    path.write_text("")
    assert read_results(path, IMAGE_IDS) == {}


def test_blank_lines_spaces_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "results.txt"
    path.write_bytes(b"\xef\xbb\xbf3, 1, 2, 3, 4, 5e-1\r\n\r\n1.0,1,2,3,4,0.25\r\n")
    read = read_results(path, IMAGE_IDS)
    assert (read["z"].boxes.tolist(), read["z"].scores.tolist()) == ([[1, 2, 3, 4]], [0.5])
    assert read["x"].scores.tolist() == [0.25]


GOOD_LINE = "1,1,2,3,4,0.5\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,1,2,3,4", "5 values"),
        ("1,1,2,3,4,0.5,7", "7 values"),
        ("1 1 2 3 4 0.5", "1 values"),
        ("1,1,2,3,four,0.5", "not a line of numbers"),
        ("1,1,2,3,,0.5", "not a line of numbers"),
        ("1_0,1,2,3,4,0.5", "not a line of numbers"),
        ("0,1,2,3,4,0.5", r"image 0; expected 1\.\.3"),
        ("4,1,2,3,4,0.5", r"image 4; expected 1\.\.3"),
        ("1.5,1,2,3,4,0.5", "whole number"),
        ("nan,1,2,3,4,0.5", "whole number"),
        ("1,1,2,3,4,nan", "finite"),
        ("1,1,2,inf,4,0.5", "finite"),
        ("1,1,2,3,-4,0.5", "negative size"),
        ("set06/V000/I00019,1,2,3,4,0.5", "not a line of numbers"),
    ],
)
def test_malformed_line_is_named_with_file_and_number(tmp_path, line, message):
    path = tmp_path / "results.txt"
    path.write_text(GOOD_LINE + "\n" + line + "\n" + GOOD_LINE)
    with pytest.raises(InputError, match=message) as caught:
        read_results(path, IMAGE_IDS)
    assert str(caught.value).startswith(f"{path}:3: ")


GOOD_ENTRY = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, r"image 3; expected 0\.\.2"),
        ({"image_id": "0"}, "image_id"),
        ({"image_id": 0.5}, "image_id"),
        ({"image_id": True}, "image_id"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"bbox": [1, 2, 3, None]}, "bbox"),
        ({"bbox": [1, 2, -3, 4]}, "negative size"),
        ({"score": float("nan")}, "finite"),
        ({"score": 10**400}, "finite"),
        ({"category_id": 3}, "category_id 3"),
    ],
)
def test_malformed_entry_is_named_with_file_and_number(tmp_path, change, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([GOOD_ENTRY, {**GOOD_ENTRY, **change}]))
    with pytest.raises(InputError, match=message) as caught:
        read_results(path, IMAGE_IDS)
    assert str(caught.value).startswith(f"{path}: entry 2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[\n{,\n]", ":2: not valid JSON"),
        (b'{"annotations": []}', ":1: a JSON object"),
        (b"[7]", "entry 1 is 7"),
        (b"[" * 100_000, "JSON"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_file_that_is_neither_format_is_refused(tmp_path, content, message):
    path = tmp_path / "results"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_results(path, IMAGE_IDS)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing_here"):
        read_results(tmp_path / "nothing_here", IMAGE_IDS)


@pytest.mark.parametrize("write", [write_kaist_text, write_coco_json])
@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ({"other": ImageDetections(np.zeros((1, 4)), np.zeros(1))}, "'other'"),
        ({"x": ImageDetections(np.full((1, 4), np.nan), np.zeros(1))}, "not finite"),
        ({"x": ImageDetections(np.full((1, 4), -1.0), np.zeros(1))}, "negative size"),
        ({"x": ImageDetections(np.zeros((3, 4)), np.zeros(2))}, "3 detected boxes but 2 scores"),
    ],
)
def test_failed_writing_leaves_the_file_before_it(tmp_path, write, detections, message):
    path = tmp_path / "results"
    path.write_text("as it was")
    with pytest.raises(InputError, match=message):
        write(path, detections, IMAGE_IDS)
    assert path.read_text() == "as it was"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("method", ["MSDS-RCNN", "MBNet", "MLPD"])
@pytest.mark.parametrize("write", [write_kaist_text, write_coco_json])
def test_published_results_survive_a_round_trip(tmp_path, method, write):
    source = KAIST_RESULTS / f"{method}_result.txt"
    if not source.is_file():
        pytest.skip(f"needs {source}")
    image_ids = [str(number) for number in range(2252)]
    first = read_results(source, image_ids)
    write(tmp_path / "results", first, image_ids)
    second = read_results(tmp_path / "results", image_ids)
    assert first.keys() == second.keys()
    for image_id, (boxes, scores) in first.items():
        order = np.argsort(-scores, kind="stable")
        np.testing.assert_array_equal(second[image_id].boxes, boxes[order])
        np.testing.assert_array_equal(second[image_id].scores, scores[order])
