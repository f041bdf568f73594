"""The Caltech command: rules by hand, every kind of annotations and results, and the published values."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from caltech_files import NOWHERE, write_vbb

from dcrl_jax.annotations.caltech import frames
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import caltech, scorer
from dcrl_jax.evaluation.caltech_results import read_caltech, write_caltech
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, score
from dcrl_jax.evaluation.results import write_coco_json, write_kaist_text
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, assign_roles

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "caltech"


# ---- Rules, one at a time


def roles(boxes, labels=None, occlusion=None):
    """One letter an annotation: p person, i ignore region, - dropped."""
    count = len(boxes)
    found = assign_roles(
        CALTECH_REASONABLE,
        np.asarray(boxes, float),
        labels or ["person"] * count,
        np.asarray(occlusion or [0] * count),
        np.zeros(count, bool),
    )
    return "".join("p" if p else "i" if i else "-" for p, i in zip(*found, strict=True))


def test_people_of_50_pixels_and_more_count():
    assert roles([[100, 100, 20, height] for height in (49.999, 50, 300)]) == "ipp"


def test_people_who_are_visible_to_65_percent_count():
    # None, partial (at least 65 %) and heavy occlusion.
    assert roles([[100, 100, 20, 60]] * 3, occlusion=[0, 1, 2]) == "ppi"


def test_only_people_doubtful_people_and_ignored_ones_absorb_and_other_labels_vanish():
    labels = ["person", "person?", "people", "ignore", "person-fa", "cyclist", "unpaired"]
    assert roles([[100, 100, 20, 60]] * 7, labels) == "piii---"


@pytest.mark.parametrize(
    ("box", "role"),
    [
        ([5, 5, 20, 60], "p"),
        ([4.9, 5, 20, 60], "i"),
        ([5, 4.9, 20, 60], "i"),
        ([615, 415, 20, 60], "p"),
        ([615.1, 415, 20, 60], "i"),
        ([615, 415.1, 20, 60], "i"),
    ],
)
def test_people_who_leave_the_border_are_ignored(box, role):
    assert roles([box]) == role


def truth(*rows):
    """Of one image: rows of label, x, y, w, h."""
    boxes = np.array([row[1:] for row in rows], float).reshape(-1, 4)
    return ImageTruth("a", "day", boxes, [row[0] for row in rows], np.zeros(len(rows), int), np.zeros(len(rows), bool))


def outcome(truths, *rows):
    """What becomes of detections in the order of their scores: t true, i ignored, f false positive."""
    table = np.array(rows, float).reshape(-1, 4)
    detections = {"a": ImageDetections(table, np.linspace(0.9, 0.1, len(table)))}
    found = match([truths], detections, CALTECH_REASONABLE)
    return "".join(
        "t" if true else "i" if ignored else "f"
        for true, ignored in zip(found.is_true_positive, found.is_ignored, strict=True)
    )


def test_people_and_detections_get_the_ratio_041_about_their_centres():
    # 100 tall, so 41 wide. As they are, 80 and 30 wide, their overlap would be 30 of 80, less than half.
    person = ("person", 100, 100, 80, 100)
    assert outcome(truth(person), [125, 100, 30, 100]) == "t"
    # As they are, 41 of 80 pixels would do; with the ratio their centres are 19.5 apart.
    assert outcome(truth(("person", 100, 100, 41, 100)), [100, 100, 80, 100]) == "f"


def test_the_border_is_judged_before_boxes_get_their_ratio():
    # 100 tall and 20 wide at the border: with the ratio it is 41 wide and begins at -5.5.
    assert outcome(truth(("person", 5, 100, 20, 100)), [-5.5, 100, 41, 100]) == "t"


def test_ignore_regions_keep_their_width():
    # 200 wide and 60 tall; with the ratio it would be 24.6 wide, about x = 200.
    region = ("people", 100, 100, 200, 60)
    assert outcome(truth(region), [110, 100, 24.6, 60], [270, 100, 24.6, 60]) == "ii"


def test_detections_below_40_pixels_are_dropped():
    person = ("person", 100, 100, 20.5, 50)
    # 39.9 of 50 pixels would match, with a share of 0.64 of the union; so does 40.
    assert outcome(truth(person), [102, 100, 16.4, 39.9]) == ""
    assert outcome(truth(person), [102, 100, 16.4, 40]) == "t"
    # Nor do dropped ones stand in the way of others, or count as false.
    assert outcome(truth(person), [400, 100, 16.4, 39.9], [102, 100, 20.5, 50]) == "t"


def test_nobody_is_found_before_the_first_point():
    # The first detection is false in one of one image: from there on fppi is 1, and only the last point reaches it.
    detections = {"a": ImageDetections(np.array([[400.0, 100, 20, 60], [100, 100, 24.6, 60]]), np.array([0.9, 0.8]))}
    found = score([truth(("person", 100, 100, 24.6, 60))], detections, CALTECH_REASONABLE)
    assert found.miss_at_reference.tolist() == [1.0] * 8 + [0.0]


# ---- Results in Caltech's format


IDS = ["set06/V000/I00029", "set06/V000/I00059", "set07/V001/I00029"]


def detections_of(*rows):
    table = np.array(rows, float)
    return ImageDetections(table[:, :4], table[:, 4])


def test_results_are_written_by_video_with_frames_from_1_and_read_back_exactly(tmp_path):
    found = {
        IDS[1]: detections_of([10.1, 20, 30, 60.3, 0.25], [1 / 3, 2, 3, 4, 0.5]),
        IDS[0]: detections_of([1, 2, 3, 4, -67.25]),
    }
    write_caltech(tmp_path / "mine", found, IDS)
    assert (tmp_path / "mine" / "set06" / "V000.txt").read_text() == (
        "30,1.0,2.0,3.0,4.0,-67.25\n60,0.3333333333333333,2.0,3.0,4.0,0.5\n60,10.1,20.0,30.0,60.3,0.25\n"
    )
    assert (tmp_path / "mine" / "set07" / "V001.txt").read_text() == ""
    assert sorted(path.name for path in (tmp_path / "mine").rglob("*.txt")) == ["V000.txt", "V001.txt"]
    read = read_caltech(tmp_path / "mine", IDS)
    assert list(read) == IDS[:2]
    np.testing.assert_array_equal(read[IDS[1]].boxes, found[IDS[1]].boxes[::-1])
    np.testing.assert_array_equal(read[IDS[1]].scores, [0.5, 0.25])


def write(folder, **videos):
    for name, text in videos.items():
        path = folder / f"{name.replace('_', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_numbers_may_be_parted_by_spaces_and_rows_of_other_frames_are_passed_over(tmp_path):
    folder = write(tmp_path / "mine", set06_V000="29,1,2,3,4,0.5\n  30 1 2 3 4\t0.25\n31,1,2,3,4,1\n\n", set07_V001="")
    read = read_caltech(folder, IDS)
    assert list(read) == IDS[:1]
    assert read[IDS[0]].boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ({"set06_V000": ""}, r"mine, results of 2 videos: 1 problem\n  set07/V001.txt: no such file\n.*an empty one"),
        (
            {"set06_V000": "29,1,2,3,4,0.5\n59,1,2,3,4,0.5\n", "set07_V001": ""},
            r"V000\.txt: 2 rows, none of a test image; frames are counted from 1, .* I00029, is frame 30",
        ),
        ({"set06_V000": "30,1,2,3,4\n", "set07_V001": ""}, r"V000\.txt:1: 5 values in .*; expected 6: frame,x,y"),
        ({"set06_V000": "30.5,1,2,3,4,1\n", "set07_V001": ""}, r"V000\.txt:1: frame '30.5'; expected a whole number"),
        ({"set06_V000": "30,1,2,nan,4,1\n", "set07_V001": ""}, r"V000\.txt:1: x, y, .*; expected finite numbers"),
        ({"set06_V000": "30,1,2,-3,4,1\n", "set07_V001": ""}, r"V000\.txt:1: box .* has a negative size"),
    ],
    ids=["missing", "from 0", "five", "half", "NaN", "negative"],
)
def test_malformed_results_are_named(tmp_path, videos, message):
    with pytest.raises(InputError, match=message):
        read_caltech(write(tmp_path / "mine", **videos), IDS)


# ---- The command on small annotations


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(frames, "TEST_IMAGES", {"set06/V000": 2, "set07/V001": 1})
    monkeypatch.setattr(frames, "VIDEOS", {"train": (), "test": ("set06/V000", "set07/V001")})


PERSON = (100, 100, 24.6, 60)


@pytest.fixture
def original(tmp_path, small):
    """A person in each image, one of whom is hidden."""
    for video, length in (("set06/V000", 61), ("set07/V001", 30)):
        posv = (100, 100, 24.6, 20) if video == "set07/V001" else NOWHERE
        write_vbb(tmp_path / "annotations" / f"{video}.vbb", [[("person", PERSON, posv)]] * length)
    return tmp_path / "annotations"


@pytest.fixture
def mine(tmp_path, small):
    """Finds the first of them, and somebody where nobody is."""
    found = {IDS[0]: detections_of([*PERSON, 0.9]), IDS[2]: detections_of([400, 100, 24.6, 60, 0.1])}
    write_caltech(tmp_path / "mine", found, IDS)
    return tmp_path / "mine"


def lines(printed):
    return [line for line in printed.splitlines() if line]


def test_table_of_a_case_worked_by_hand(original, mine, tmp_path, capsys):
    caltech.main([f"--annotations={original}", f"--results={mine}", f"--output={tmp_path}/out"])
    printed = lines(capsys.readouterr().out)
    assert printed[0] == str(original)
    assert printed[1].startswith("original annotations, checksum of the boxes ")
    # One of two is missed at every point.
    assert printed[2:] == [
        "labels: 3 person",
        "miss rate, %  reasonable",
        "------------  ----------",
        "mine               50.00",
        "recall, %  reasonable",
        "---------  ----------",
        "mine            50.00",
        "people              2",
        "images              3",
        f"scores and curves: {tmp_path}/out",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["miss_rate.png", "scores.json"]


def test_results_by_the_places_of_images_score_the_same(original, mine, tmp_path):
    truth = caltech.read_annotations(original)
    found = read_caltech(mine, truth.image_ids)
    write_kaist_text(tmp_path / "mine.txt", found, truth.image_ids)
    write_coco_json(tmp_path / "mine.json", found, truth.image_ids)
    scores = scorer.score_results(truth, [mine, tmp_path / "mine.txt", tmp_path / "mine.json"])
    assert [row["caltech-reasonable"].miss_rate for row in scores.values()] == [pytest.approx(0.5)] * 3


def test_new_annotations_are_texts_in_a_folder(tmp_path, mine, capsys):
    folder = tmp_path / "anno_test"
    folder.mkdir()
    for image_id in IDS:
        (folder / f"{image_id.replace('/', '_')}.jpg.txt").write_text(
            "% bbGt version=3\nperson 100 100 25 60 0 0 0 0 0 0 0\n"
        )
    caltech.main([f"--annotations={folder}", f"--results={mine}"])
    printed = lines(capsys.readouterr().out)
    assert printed[1].startswith("new annotations, checksum of the boxes ")
    assert printed[-2:] == ["people              3", "images              3"]


def test_missing_annotations_are_an_error_or_a_warning_beside_every_score(original, mine, capsys):
    (original / "set07" / "V001.vbb").unlink()
    with pytest.raises(InputError, match=r"1 problem\n  annotation missing: set07/V001\.vbb\n.*--allow_incomplete"):
        caltech.read_annotations(original)
    caltech.main([f"--annotations={original}", f"--results={mine}", "--allow_incomplete"])
    warning = (
        "warning: 1 of 3 images are left out, with what was detected in them; not comparable with scores on all images"
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed.count(warning) == 2
    assert printed[-2] == "images              2"


def test_both_kinds_in_one_folder_and_neither_are_refused(original, tmp_path):
    (original / "set06_V000_I00029.txt").write_text("% bbGt version=3\n")
    with pytest.raises(InputError, match="holds annotations of both, original and new ones: name the folder of one"):
        caltech.read_annotations(original)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds annotations of none of the test images"):
        caltech.read_annotations(tmp_path / "empty")


def test_mistake_ends_with_one_message_and_status_1():
    command = [sys.executable, "-m", "dcrl_jax.evaluation.caltech", "--annotations=absent.mat", "--results=absent"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: absent.mat: cannot be read (No such file or directory)\n"


def test_importing_it_loads_no_jax():
    code = "import sys; from dcrl_jax.evaluation import caltech; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- The published files


METHODS = ("CompACT-Deep", "RPN+BF", "MS-CNN")
PUBLISHED = {  # log-average miss rate in percent, reasonable
    "gt-Reasonable.mat": {"RPN+BF": 9.577, "MS-CNN": 9.952, "CompACT-Deep": 11.748},
    "gt-new-Reasonable.mat": {"RPN+BF": 7.284, "MS-CNN": 8.084, "CompACT-Deep": 9.154},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The detections of three methods, written in Caltech's format."""
    root = tmp_path_factory.mktemp("published")
    image_ids = frames.test_frames()
    for name in METHODS:
        if not (REAL / f"dt-{name}.mat").is_file():
            pytest.skip(f"needs {REAL}/dt-{name}.mat")
        cells = scipy.io.loadmat(REAL / f"dt-{name}.mat")["dt"].ravel()
        tables = [np.asarray(cell, float).reshape(-1, 5) for cell in cells]
        found = {
            image_id: ImageDetections(table[:, :4], table[:, 4])
            for image_id, table in zip(image_ids, tables, strict=True)
        }
        write_caltech(root / name, found, image_ids)
    return [root / name for name in METHODS]


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_results_score_as_published_the_best_first(published, name):
    if not (REAL / name).is_file():
        pytest.skip(f"needs {REAL / name}")
    truth = caltech.read_annotations(REAL / name)
    scores = scorer.score_results(truth, published)
    found = {method: round(100 * row["caltech-reasonable"].miss_rate, 3) for method, row in scores.items()}
    assert found == PUBLISHED[name]
    assert list(found) == list(PUBLISHED[name])
    (one, *_) = scores["MS-CNN"].values()
    assert (one.people, one.images) == ({"gt-Reasonable.mat": 1014, "gt-new-Reasonable.mat": 912}[name], 4024)
    assert truth.notes[0].startswith("a truth of the toolbox, in which it is decided who counts; checksum ")
