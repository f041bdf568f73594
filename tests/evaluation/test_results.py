"""Results files: round trips, and one message for each way of being malformed."""

import json

import numpy as np
import pytest
from scoring_cases import make_detections, make_truth

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.caltech_results import read_caltech, write_caltech
from dcrl_jax.evaluation.miss_rate import score
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.results import read_categories, read_results, write_coco_json, write_kaist_text
from dcrl_jax.evaluation.rules import Subset

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
    with pytest.raises(InputError, match="entry 1: image 7; expected the id of one of the 3 annotated images, 1 to 3"):
        read_results(path, IMAGE_IDS, [1, 2, 3])


def test_numbers_without_gaps_have_a_first_one(tmp_path):
    write_coco_json(tmp_path / "results", {"y": make_detections([1, 2.5, 3, 4, 0.5])}, IMAGE_IDS, [31, 32, 33])
    for numbers, first in (([31, 32, 33], 31), ([7, 32, 12], None)):
        assert read_results(tmp_path / "results", IMAGE_IDS, numbers).first_number == first


def test_categories_are_read_apart(tmp_path):
    rows = [(0, 2, 0.5), (0, "car", 0.25), (2, 2.0, 0.125), (1, None, 1)]
    entries = [
        {"image_id": image, "category_id": category, "bbox": [1, 2, 3, 4], "score": score}
        for image, category, score in rows
    ]
    (tmp_path / "results").write_text(json.dumps(entries))
    found = read_categories(tmp_path / "results", IMAGE_IDS)
    assert {key: [(name, *rows.scores) for name, rows in result.items()] for key, result in found.items()} == {
        2: [("x", 0.5), ("z", 0.125)],
        "car": [("x", 0.25)],
        None: [("y", 1)],
    }
    write_kaist_text(tmp_path / "results", {}, IMAGE_IDS)
    assert read_categories(tmp_path / "results", IMAGE_IDS) == {None: {}}


def test_list_of_own_numbers_is_no_list_of_names(tmp_path):
    write_coco_json(tmp_path / "results", {"y": make_detections([1, 2.5, 3, 4, 0.5])}, IMAGE_IDS, [1, 2, 3])
    (tmp_path / "images.txt").write_text("3\n2\n")
    found = read_results(tmp_path / "results", ["2", "3", "1"], [1, 2, 3])
    assert list(found) == ["3"]
    assert found.images == {"3", "1"}


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


ROWS = [("z", [[1, 2, 3, 4]], [0.5]), ("x", [[1, 2, 3, 4]], [0.25])]


@pytest.mark.parametrize(
    "content",
    [
        "3 1 2 3 4 0.5\n1\t1\t2\t3\t4\t0.25\n",
        "image_id, x, y, w, h, confidence\n3,1,2,3,4,0.5\n1,1,2,3,4,0.25\n",
        "# by a detector\n% Image X1 Y1 X2 Y2 Score\n3 1 2 4 6 0.5\n# night\n1 1 2 4 6 0.25\n",
        'score,xmin,ymin,xmax,ymax,"file_name"\n0.5,1,2,4,6,"C:\\images\\z.png"\n0.25,1,2,4,6,x_lwir.jpg\n',
        json.dumps([{"image_id": name, "bbox": [1, 2, 3, 4], "score": 0.5 / n} for n, name in enumerate("zx", 1)]),
        json.dumps([{"image_id": str(i), "bbox": [1, 2, 3, 4], "score": 0.25 + i / 8} for i in (2, 0)]),
        # The name decides, not the number.
        json.dumps(
            [{"image_id": 1, "file_name": f"a/{name}.png", "bbox": [1, 2, 3, 4], "score": 0.5} for name in "zx"]
        ),
    ],
)
def test_names_and_columns_are_understood(tmp_path, content):
    (tmp_path / "results").write_text(content)
    found = read_results(tmp_path / "results", IMAGE_IDS)
    assert [(name, boxes.tolist()) for name, (boxes, _) in found.items()] == [row[:2] for row in ROWS]
    assert found["z"].scores.tolist() == [0.5]


@both_formats
def test_list_beside_results_gives_numbers_their_meaning(tmp_path, write):
    path, source = tmp_path / "results", tmp_path / "images.txt"
    detections = {name: make_detections([1, 2, 3, 4, 0.5]) for name in "zx"}
    write(path, detections, ["z", "y", "x"])
    source.write_text("\ufeffz.png\r\ny.png\r\n\r\nx.png", encoding="utf-8")
    read = read_results(path, IMAGE_IDS)
    assert (list(read), read.images, read.first_number) == (["z", "x"], {"x", "y", "z"}, None)
    # A part of the images: only their people count.
    truths = [make_truth(name, (1, 2, 3, 4)) for name in IMAGE_IDS]
    write(path, {"z": detections["z"]}, ["y", "z"])
    source.write_text("y\nz\n")
    read = read_results(path, IMAGE_IDS)
    assert (list(read), read.images) == (["z"], {"y", "z"})
    assert score(truths, read, Subset("anyone"))[1:5] == (pytest.approx(0.5), 0.5, 2, 2)
    for names, message in (
        ("x\nstreet\nx\n", r"images\.txt: names that are none of the 3 images: 1 problem\n  .*images\.txt:2: 'street'"),
        ("x\ny\nx.png\n", r"images\.txt:3: x\.png is the image of .*images\.txt:1; list each image once"),
        ("y\n", r"results.*: image \d; expected .+, since .*images\.txt has 1 names"),
        ("\n", r"images\.txt: lists no images; expected the names of those in results, or remove the list"),
    ):
        source.write_text(names)
        with pytest.raises(InputError, match=message):
            read_results(path, IMAGE_IDS)
    source.write_text("y\nz\n")
    path.write_text("x,1,2,3,4,0.5\n")
    with pytest.raises(InputError, match=r"results: detections in 1 images that .*images\.txt does not list, first x"):
        read_results(path, IMAGE_IDS)


FRAMES = ["set06/V000/I00019", "set06/V000/I00039", "set06/V000/I00059"]


def test_folder_has_a_file_of_corners_per_image(tmp_path):
    folder = tmp_path / "det"
    folder.mkdir()
    texts = ("person 1 2 4 6 0.5\nPerson 5 6 7 8 0.25\n", "", "label,x,y,w,h,score\npedestrian,1,2,3,4,1\n")
    for name, content in zip(FRAMES, texts, strict=True):
        (folder / f"{name.replace('/', '_')}_visible.txt").write_text(content)
    read = read_results(folder, FRAMES)
    assert {name: boxes.tolist() for name, (boxes, _) in read.items()} == {
        FRAMES[0]: [[1, 2, 3, 4], [5, 6, 2, 2]],
        FRAMES[2]: [[1, 2, 3, 4]],
    }
    assert (read.images, read.first_number, read.warnings) == (None, None, [])
    # An image without a file counts, unless a list says which were processed.
    (folder / "set06_V000_I00039_visible.txt").unlink()
    (warning,) = read_results(folder, FRAMES).warnings
    assert warning.startswith("1 of 3 images have no file and count as images without detections")
    (folder / "images.txt").write_text(f"{FRAMES[0]}\n{FRAMES[2]}\n")
    read = read_results(folder, FRAMES)
    assert (read.images, read.warnings) == ({FRAMES[0], FRAMES[2]}, [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("set06/V000/I00019.txt", "person 1 2 4 6\n", r"I00019\.txt:1: 5 values in .*; expected 6: label,x1,y1,x2,y2"),
        ("set06/V000/I00019.txt", "cyclist 1 2 4 6 1\n", r"I00019\.txt:1: label 'cyclist'; expected 'person'"),
        ("set06/V000/I00019.txt", "person 4 2 1 6 1\n", r"I00019\.txt:1: .*negative size; expected label,x1,y1,x2,y2"),
        ("set06/V000/I00020.txt", "", r"det: names that are none of the 3 images: 1 problem\n  .*I00020\.txt: 'set06/"),
        ("notes.json", "", "det: has no text files; expected one per image with lines of label,x1,y1,x2,y2,score"),
    ],
)
def test_malformed_folder_is_refused(tmp_path, name, content, message):
    path = tmp_path / "det" / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_results(tmp_path / "det", FRAMES)
    if content.startswith("cyclist"):
        (tmp_path / "det" / "set06_V000_I00019_lwir.txt").touch()
        with pytest.raises(InputError, match="both have results of set06/V000/I00019; keep one of them"):
            read_results(tmp_path / "det", FRAMES)


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
        (text("1,1,2,1e7,4,0.5"), r":3: box \[1.0, 2.0, 10000000.0, 4.0\] is larger than any image; expected image,x"),
        (text("1e300,1,2,3,4,0.5"), ":3: image '1e300'; expected a whole number, 1 for the first image"),
        (
            entry(bbox=[-1e7, 2, 3, 4]),
            ": entry 2: box .* is larger than any image; expected x,y,width,height in pixels",
        ),
        (
            entry(image_id="9" * 5000),
            r": names that are none of the 3 images: 1 problem\n  .*results: entry 2: '9{80}'",
        ),
        (entry(image_id=1e300), r": entry 2: image_id 1e\+300; expected .*\(whole"),
        (entry(category_id="a" * 9999), ": entry 2: category_id 'a{39}; expected 1, pedestrians only"),
        (
            entry()[:-1] + b',\n{"image_id": 0, "bbox": [1, 2, 3, 4], "score": 1, "score": 2}]',
            ":2: not valid JSON in entry 3: 'score' is there 2 times in the object that ends here",
        ),
        (b'[{"other": ' + b"[" * 100_000, ":1: not valid JSON in entry 1: nested too deeply"),
        (entry(image_id=3), r": entry 2: image 3; expected 0\.\.2"),
        (entry(image_id="street"), r": names that are none of the 3 images: 1 problem\n  .*results: entry 2: 'street'"),
        (entry(image_id=None), ": entry 2: image_id None; expected finite numbers in image_id"),
        (entry(image_id="00"), ": names that are none of the 3 images"),
        (text("street,1,2,3,4,0.5"), r": names that are none of the 3 images: 1 problem\n  .*results:3: 'street'"),
        (text("image,x,y,w,h,score"), ":3: .*not a line of numbers"),
        (text("1;1;2;3;4;0.5"), ":3: 1 values"),
        (b"image,x,y,score\n1,2,3,4\n", ":1: columns 'image,x,y,score'; expected image,x,y,width,height,score"),
        (b"image x1 y1 x2 y2 score\n1 5 5 4 9 0.5\n", ":2: .* negative size; expected image,x1,y1,x2,y2,score"),
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
        (b"\xff\xfe\x00", ":1: is not a text file; expected lines of image,x,y,width,height,score or COCO JSON"),
        (text("1,1,2,3,4,0.5\0"), r":3: has the control character '\\x00'; expected lines of image,x"),
        (None, r": cannot be read \(No such file"),
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
        (("0,1,2,3,4,1\n", ""), r"V000\.txt:1: frame '0'; expected its number, 1 for the first frame"),
        (("30.5,1,2,3,4,1\n", ""), r"V000\.txt:1: frame '30.5'; expected a whole number"),
    ],
    ids=["missing", "from 0", "five", "zero", "half"],
)
def test_malformed_caltech_results_are_refused(tmp_path, texts, message):
    with pytest.raises(InputError, match=message):
        read_caltech(write_videos(tmp_path / "mine", *texts), CALTECH_IDS)
