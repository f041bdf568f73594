"""Results files: round trips, and one message for each way of being malformed."""

import json

import numpy as np
import pytest
from scoring_cases import make_detections

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.caltech_results import read_caltech, write_caltech
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.results import read_results, write_coco_json, write_kaist_text

IMAGE_IDS = ["x", "y", "z"]
both_formats = pytest.mark.parametrize("write", [write_kaist_text, write_coco_json])


@both_formats
def test_round_trip_is_exact_and_by_descending_score(tmp_path, write):
    path = tmp_path / "deep" / "results"
    detections = {
        "z": ImageDetections(np.float32([[1.1, 2.2, 3.3, 4.4]]), np.float32([0.1])),
        "x": make_detections([5, 6, 7, 8, 0.25], [1 / 3, 0, 2e-7, 4, 0.75]),
        "y": make_detections(),
    }
    write(path, detections, IMAGE_IDS)
    read = read_results(path, IMAGE_IDS)
    assert list(read) == ["x", "z"]
    np.testing.assert_array_equal(read["x"].boxes, [[1 / 3, 0, 2e-7, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(read["x"].scores, [0.75, 0.25])
    np.testing.assert_array_equal(read["z"].boxes, detections["z"].boxes.astype(np.float64))
    assert [entry.name for entry in path.parent.iterdir()] == ["results"]
    write(path, {}, IMAGE_IDS)
    assert read_results(path, IMAGE_IDS) == {}


def test_text_counts_images_from_one_and_json_from_zero_or_by_number(tmp_path):
    path, detections = tmp_path / "results", {"y": make_detections([1, 2.5, 3, 4, 0.5])}
    write_kaist_text(path, detections, IMAGE_IDS)
    assert path.read_text() == "2,1.0,2.5,3.0,4.0,0.5\n"
    for numbers, number in ((None, 1), ([31, 7, 12], 7)):
        write_coco_json(path, detections, IMAGE_IDS, numbers)
        entry = {"image_id": number, "category_id": 1, "bbox": [1.0, 2.5, 3.0, 4.0], "score": 0.5}
        assert json.loads(path.read_text()) == [entry]
        assert list(read_results(path, IMAGE_IDS, numbers)) == ["y"]
    with pytest.raises(InputError, match=r"entry 1: image 7; expected 0\.\.2, since the split has 3 images"):
        read_results(path, IMAGE_IDS)
    with pytest.raises(InputError, match="entry 1: image 7; expected the id of one of the 3 annotated images"):
        read_results(path, IMAGE_IDS, [1, 2, 3])


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf3, 1, 2, 3, 4, 5e-1\r\n\r\n1.0,1,2,3,4,0.25\r\n",
        b'\xef\xbb\xbf [{"image_id": 2, "bbox": [1, 2, 3, 4], "score": 5e-1},'
        b' {"image_id": 0.0, "bbox": [1, 2, 3, 4], "score": 0.25, "category_id": 1.0, "area": 12}]',
        b"",
    ],
    ids=["text", "JSON", "empty"],
)
def test_variants_of_both_formats_are_read(tmp_path, content):
    (tmp_path / "results").write_bytes(content)
    found = read_results(tmp_path / "results", IMAGE_IDS)
    read = [(name, boxes.tolist(), scores.tolist()) for name, (boxes, scores) in found.items()]
    assert read == ([("z", [[1, 2, 3, 4]], [0.5]), ("x", [[1, 2, 3, 4]], [0.25])] if content else [])


def text(line):
    return f"1,1,2,3,4,0.5\n\n{line}\n1,1,2,3,4,0.5\n".encode()


def entry(**change):
    first = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    return json.dumps([first, first | change]).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text("1,1,2,3,4"), ":3: .*5 values"),
        (text("1,1,2,3,four,0.5"), ":3: .*not a line of numbers"),
        (text("1_0,1,2,3,4,0.5"), ":3: .*not a line of numbers"),
        (text("\u0661,1,2,3,4,0.5"), ":3: .*not a line of numbers"),
        (text("0,1,2,3,4,0.5"), r":3: .*image 0; expected 1\.\.3"),
        (text("1.5,1,2,3,4,0.5"), ":3: .*whole number"),
        (text("1,1,2,3,4,nan"), ":3: .*finite"),
        (text("1,1,2,inf,4,0.5"), ":3: .*finite"),
        (text("1,1,2,3,-4,0.5"), ":3: .*negative size"),
        (entry(image_id=3), r": entry 2: image 3; expected 0\.\.2"),
        (entry(image_id="0"), ": entry 2, image_id: .*got `str`; expected finite numbers in"),
        (entry(image_id=0.5), r": entry 2: image_id 0.5; expected .*\(whole"),
        (entry(image_id=True), ": entry 2, image_id: .*got `bool`"),
        (entry(bbox=[1, 2, 3]), ": entry 2, bbox: .*length 4"),
        (entry(bbox=[1, 2, 3, None]), r": entry 2, bbox\[3\]: .*got `null`"),
        (entry(bbox=[1, 2, -3, 4]), ": entry 2: .*negative size"),
        (entry(score=float("nan")), ":1: not valid JSON in entry 2: .*; expected finite numbers"),
        (entry(score=10**400), ": entry 2, score: .*out of range"),
        (entry(score=1e301), ": entry 2, score: "),
        (entry(category_id=3), ": entry 2: category_id 3; expected 1"),
        (b'[{"image_id": 1}]', ": entry 1: .*missing required field `bbox`"),
        (b"[7]", ": entry 1: .*got `int`"),
        (b"[\n{,\n]", ":2: not valid JSON in entry 1"),
        (entry()[:-60].replace(b"}, ", b"},\n"), ":2: not valid JSON in entry 2: .*truncated"),
        (b'{"annotations": []}', ":1: a JSON object; expected COCO results"),
        (b"[" * 100_000, ": entry 1: .*got `array`"),
        (b"\xff\xfe\x00", r": not a text file \(byte 0\)"),
        (None, r": cannot be read: No such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_file_is_refused_with_file_and_place(tmp_path, content, message):
    path = tmp_path / "results"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}{message}"):
        read_results(path, IMAGE_IDS)


@both_formats
@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ({"other": make_detections([0] * 5)}, "'other'"),
        ({"x": make_detections([np.nan] * 5)}, "not finite"),
        ({"x": make_detections([-1] * 5)}, "negative size"),
        ({"x": ImageDetections(np.zeros((3, 4)), np.zeros(2))}, "3 detected boxes but 2 scores"),
    ],
    ids=["image", "NaN", "negative", "lengths"],
)
def test_failed_write_keeps_the_former_file(tmp_path, write, detections, message):
    path = tmp_path / "results"
    path.write_text("as it was")
    with pytest.raises(InputError, match=message):
        write(path, detections, IMAGE_IDS)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("results", "as it was")]


# ---- Caltech's folders

CALTECH_IDS = ["set06/V000/I00029", "set06/V000/I00059", "set07/V001/I00029"]


def write_videos(folder, *texts):
    """Write the files of both videos; None: no file."""
    for video, text in zip(("set06/V000", "set07/V001"), texts, strict=True):
        path = folder / f"{video}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    return folder


def test_caltech_round_trip_by_video_with_frames_from_1(tmp_path):
    rows = make_detections([10.1, 20, 30, 60.3, 0.25], [1 / 3, 2, 3, 4, 0.5])
    write_caltech(tmp_path, {CALTECH_IDS[1]: rows, CALTECH_IDS[0]: make_detections([1, 2, 3, 4, -67.25])}, CALTECH_IDS)
    assert (tmp_path / "set06" / "V000.txt").read_text() == (
        "30,1.0,2.0,3.0,4.0,-67.25\n60,0.3333333333333333,2.0,3.0,4.0,0.5\n60,10.1,20.0,30.0,60.3,0.25\n"
    )
    assert (tmp_path / "set07" / "V001.txt").read_text() == ""
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["V000.txt", "V001.txt"]
    read = read_caltech(tmp_path, CALTECH_IDS)
    assert list(read) == CALTECH_IDS[:2]
    np.testing.assert_array_equal(read[CALTECH_IDS[1]].boxes, rows.boxes[::-1])
    np.testing.assert_array_equal(read[CALTECH_IDS[1]].scores, [0.5, 0.25])
    # Rows may have spaces; rows of other frames are skipped.
    read = read_caltech(write_videos(tmp_path, "29,1,2,3,4,0.5\n  30 1 2 3 4\t0.25\n31,1,2,3,4,1\n\n", ""), CALTECH_IDS)
    assert {name: boxes.tolist() for name, (boxes, _) in read.items()} == {CALTECH_IDS[0]: [[1, 2, 3, 4]]}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("", None), r"mine, results of 2 videos: 1 problem\n  set07/V001.txt: no such file\n.*an empty one"),
        (
            ("29,1,2,3,4,0.5\n59,1,2,3,4,0.5\n", ""),
            r"V000\.txt: 2 rows, none of a test image; frames are counted from 1, .* I00029, is frame 30",
        ),
        (("30,1,2,3,4\n", ""), r"V000\.txt:1: 5 values in .*; expected 6: frame,x,y"),
        (("30.5,1,2,3,4,1\n", ""), r"V000\.txt:1: frame '30.5'; expected a whole number"),
    ],
    ids=["missing", "from 0", "five", "half"],
)
def test_malformed_caltech_results_are_refused(tmp_path, texts, message):
    with pytest.raises(InputError, match=message):
        read_caltech(write_videos(tmp_path / "mine", *texts), CALTECH_IDS)
