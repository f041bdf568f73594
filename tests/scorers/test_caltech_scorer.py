"""The Caltech command: all kinds of annotations and results."""

import numpy as np
import pytest
import scipy.io
from caltech_files import NOWHERE, TEST_IMAGES, VIDEOS, write_vbb
from caltech_files import TEST as IDS
from scorer_cases import lines
from scoring_cases import make_detections, make_truth

from dcrl_jax.annotations.caltech import frames
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.caltech_results import read_caltech, write_caltech
from dcrl_jax.evaluation.results import write_coco_json, write_kaist_text
from dcrl_jax.scorers import caltech

PERSON = (100, 100, 24.6, 60)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let the test split be three images."""
    monkeypatch.setattr(frames, "TEST_IMAGES", TEST_IMAGES)
    monkeypatch.setattr(frames, "VIDEOS", VIDEOS)


@pytest.fixture
def original(tmp_path):
    """A person in each image; the last one is occluded."""
    for video, length in (("set06/V000", 61), ("set07/V001", 30)):
        posv = (100, 100, 24.6, 20) if video == "set07/V001" else NOWHERE
        write_vbb(tmp_path / "annotations" / f"{video}.vbb", [[("person", PERSON, posv)]] * length)
    return tmp_path / "annotations"


@pytest.fixture
def mine(tmp_path):
    """Results that find the first person, and a false alarm in each other image."""
    alarm = make_detections([400, 100, 24.6, 60, 0.1])
    found = {IDS[0]: make_detections([*PERSON, 0.9]), IDS[1]: alarm, IDS[2]: alarm}
    write_caltech(tmp_path / "mine", found, IDS)
    return tmp_path / "mine"


def run(capsys, annotations, *results):
    caltech.main([f"--annotations={annotations}", *(f"--results={path}" for path in results)])
    return lines(capsys.readouterr().out)


def test_tables_of_a_case_worked_by_hand_in_three_formats_of_results(original, mine, tmp_path, capsys):
    found = read_caltech(mine, IDS)
    write_kaist_text(tmp_path / "mine.txt", found, IDS)
    write_coco_json(tmp_path / "mine.json", found, IDS)
    printed = run(capsys, original, mine, tmp_path / "mine.txt", tmp_path / "mine.json")
    assert printed[0] == str(original)
    assert printed[1].startswith("original annotations, checksum of the boxes ")
    # One of two is missed at every point.
    assert printed[2:] == [
        "labels: 3 person",
        "miss rate, %  reasonable",
        "------------  ----------",
        *(f"{name:12}       50.00" for name in ("mine", "mine.txt", "mine.json")),
        "recall, %  reasonable",
        "---------  ----------",
        *(f"{name:9}       50.00" for name in ("mine", "mine.txt", "mine.json")),
        "people              2",
        "images              3",
    ]


def test_names_decide_in_a_folder_of_images_and_a_list_limits_the_score(original, mine, tmp_path, capsys):
    expected = run(capsys, original, mine)[4:6]
    (tmp_path / "det").mkdir()
    for image_id, text in zip(IDS, ("person 100 100 124.6 160 0.9\n", "", "person 400 100 424.6 160 0.1"), strict=True):
        (tmp_path / "det" / f"{image_id.replace('/', '_')}.jpg.txt").write_text(text)
    assert run(capsys, original, tmp_path / "det")[4:6] == [line.replace("mine", "det ") for line in expected]
    # Only the video of the listed images is needed.
    (mine / "set07" / "V001.txt").unlink()
    (tmp_path / "images.txt").write_text(f"{IDS[0]}\n")
    printed = run(capsys, original, mine)
    assert printed[5] == "mine                0.00"
    assert printed[6].startswith("warning: mine: scored on 1 of 3 images, those that images.txt names; not comparable")


def test_new_annotations_are_text_files_in_a_folder(tmp_path, mine, capsys):
    folder = tmp_path / "anno_test"
    folder.mkdir()
    for image_id in IDS:
        text = "% bbGt version=3\nperson 100 100 25 60 0 0 0 0 0 0 0\n"
        (folder / f"{image_id.replace('/', '_')}.jpg.txt").write_text(text)
    printed = run(capsys, folder, mine)
    assert printed[1].startswith("new annotations, checksum of the boxes ")
    assert printed[-2:] == ["people              3", "images              3"]


def test_missing_annotations_are_an_error_or_a_warning_beside_every_score(original, mine, capsys):
    (original / "set07" / "V001.vbb").unlink()
    with pytest.raises(InputError, match=r"1 problem\n  annotation missing: set07/V001\.vbb\n.*--allow_incomplete"):
        caltech.read_annotations(original)
    caltech.main([f"--annotations={original}", f"--results={mine}", "--allow_incomplete"])
    printed = capsys.readouterr().out.splitlines()
    warning = "warning: 1 of 3 images are left out, with what was detected in them; not comparable with scores on all"
    assert printed.count(f"{warning} images") == 2
    assert printed[-2] == "images              2"


def test_ground_truth_of_the_toolbox_already_decides_who_counts(tmp_path, mine, capsys):
    cells = np.empty((1, 3), object)
    # x, y, width, height, ignore: a person, a person below the limits of height and border, and an ignore region.
    cells[0, :] = [np.array([[*PERSON, 0.0]]), np.array([[0, 0, 16.4, 40, 0.0]]), np.array([[400, 100, 24.6, 60, 1.0]])]
    scipy.io.savemat(tmp_path / "gt.mat", {"gt": cells})
    printed = run(capsys, tmp_path / "gt.mat", mine)
    assert printed[1].startswith("ground truth of the toolbox, which already decides who counts; checksum ")
    assert printed[4] == "mine               50.00"
    assert printed[-2:] == ["people              2", "images              3"]


def test_folder_with_both_kinds_or_none_is_refused(original, tmp_path):
    (original / "set06_V000_I00029.txt").write_text("% bbGt version=3\n")
    with pytest.raises(InputError, match="holds both original and new annotations"):
        caltech.read_annotations(original)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no annotations of test images"):
        caltech.read_annotations(tmp_path / "empty")


def test_prepared_data_set_is_scored_with_its_notes_and_warnings(prepare, mine, capsys):
    truths = [make_truth(image_id, PERSON) for image_id in IDS]
    folder = prepare(caltech, "test", "new annotations", ["in haste"], objects=truths)
    printed = run(capsys, folder, mine)
    assert printed[:2] == [str(folder), "annotations: new annotations"]
    assert printed[4:6] == ["mine               66.67", "warning: in haste"]
