"""The KAIST command: all kinds of annotations, and what is refused."""

import json
import shutil

import pytest
from scorer_cases import IDS, PERSON, REASONABLE, fails, lines, rates, run_kaist, write_coco, write_results
from scoring_cases import make_truth

from dcrl_jax.annotations.kaist import frames
from dcrl_jax.scorers import kaist

MOVED = (200, *PERSON[1:])  # the person of the thermal image, where it differs


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let the test split be three images."""
    monkeypatch.setattr(frames, "split_frames", lambda split: list(IDS))


def test_tables_of_a_case_worked_by_hand(tmp_path, two_of_three, capsys):
    path = write_coco(tmp_path / "truth.json")
    run_kaist(path, [write_results(tmp_path / "nothing.txt"), two_of_three])
    nothing = (
        "warning: nothing.txt: no detections in 3 of 3 images, which have 3 of the 3 people; if these were not "
        "processed, list the images that were in images.txt beside the results"
    )
    # One of three is missed at all nine points, one of two by day and nobody by night; nobody is near, far or occluded.
    assert lines(capsys.readouterr().out) == [
        str(path),
        "miss rate, %     all     day   night  near  medium  far    none  partial  heavy",
        "------------  ------  ------  ------  ----  ------  ---  ------  -------  -----",
        "two.txt        33.33   50.00    0.00     -   33.33    -   33.33        -      -",
        "nothing.txt   100.00  100.00  100.00     -  100.00    -  100.00        -      -",
        nothing,
        "recall, %      all    day   night  near  medium  far   none  partial  heavy",
        "-----------  -----  -----  ------  ----  ------  ---  -----  -------  -----",
        "two.txt      66.67  50.00  100.00     -   66.67    -  66.67        -      -",
        "nothing.txt   0.00   0.00    0.00     -    0.00    -   0.00        -      -",
        "people           3      2       1     0       3    0      3        0      0",
        "images           3      2       1     3       3    3      3        3      3",
        nothing,
    ]


def write_tree(folder, ids=IDS, box=PERSON, label="person"):
    """Write bbGt files with one person each, in folders of videos."""
    for image_id in ids:
        path = folder / f"{image_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("% bbGt version=3\n" + f"{label} {' '.join(map(str, box))} 0 0 0 0 0 0 0\n")
    return folder


def test_images_are_the_test_split_unless_they_are_listed(tmp_path, two_of_three, capsys):
    folder = write_tree(tmp_path / "kaist" / "annotations")
    # Of another split, so the folder has only one set of test annotations.
    write_tree(tmp_path / "kaist" / "training", ["set00/V000/I00001"])
    (annotations,) = kaist.read_annotations(tmp_path / "kaist")
    assert (annotations.name, annotations.heading) == ("annotations", str(folder))
    assert (annotations.image_ids, annotations.notes, annotations.warnings) == (list(IDS), [], [])
    images = [(image.image_id, image.condition, image.boxes.tolist()) for image in annotations.images]
    assert images == [(image_id, frames.condition(image_id), [list(PERSON)]) for image_id in IDS]
    (tmp_path / "list.txt").write_text("\n".join([*IDS[1:], "set06/V000/I00001"]))
    run_kaist(folder, two_of_three, f"--images={tmp_path}/list.txt", "--allow_incomplete")
    # The results count the images of the list by their names.
    assert rates(capsys.readouterr().out)["images"][0][:3] == ["2", "1", "1"]


def test_missing_and_unreadable_files_are_counted_and_named(tmp_path, two_of_three, capsys):
    folder = write_tree(tmp_path / "annotations", IDS[:2])
    (folder / f"{IDS[1]}.txt").write_text("person 1 2 3\n")
    heading, unreadable, missing, remedy = fails(capsys, folder, two_of_three).splitlines()
    assert heading == f"error: {folder}, annotations of 3 images: 2 problems"
    assert unreadable.startswith(f"  annotation unreadable: {folder}/{IDS[1]}.txt: 4 fields in the first line")
    assert missing == "  annotation missing: set09/V000/I00019"
    assert "--allow_incomplete" in remedy


def test_incomplete_annotations_leave_out_images_if_allowed(tmp_path, capsys, no_curves):
    folder = write_tree(tmp_path / "annotations", [IDS[0], IDS[2]])
    # Detections in the second image count neither way, and the third image is still number 3.
    results = write_results(tmp_path / "found.txt", (2, (300, 200, 25, 60), 0.9), (3, PERSON, 0.8))
    run_kaist(folder, results, "--allow_incomplete", f"--output={tmp_path}/out")
    printed = lines(capsys.readouterr().out)
    warning = "warning: 1 of 3 images are left out, with what was detected in them; not comparable with scores on all"
    ends = [index for index, line in enumerate(printed) if line.startswith(("found.txt", "images"))]
    assert [printed[index + 1].startswith(warning) for index in ends] == [True, False, True]
    assert no_curves[0][1].splitlines()[1].startswith(warning)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["found.txt"]
    assert [scores[name]["miss_rate_percent"] for name in REASONABLE] == pytest.approx([50, 100, 0], abs=1e-6)
    assert [scores[name]["images"] for name in REASONABLE] == [2, 1, 1]


def test_unusable_annotations_are_refused(tmp_path, two_of_three, capsys):
    def message(path, *options):
        return fails(capsys, path, two_of_three, *options)

    training = write_tree(tmp_path / "training", ["set00/V000/I00001"])
    expected = (
        "annotations of none of the 3 images, set06/V000/I00019, set06/V000/I00039, and 1 more. Looked for .xml and "
        ".txt files with their names, such as set06/V000/I00019.xml or set06_V000_I00019.txt, and for the "
        "dataset_info.json"
    )
    assert f"error: {training}: holds {expected}" in message(training)
    unreadable = write_tree(tmp_path / "unreadable", IDS[:1], label="person 1 2 3\n")
    assert "3 problems" in message(unreadable, "--allow_incomplete")
    for name in ("improved", "original"):
        write_tree(tmp_path / "several" / name)
    assert message(tmp_path / "several") == (
        f"error: {tmp_path}/several: holds several sets of annotations. Name one of them with --annotations:\n"
        f"  {tmp_path}/several/improved: 3 images\n  {tmp_path}/several/original: 3 images\n"
    )
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    coco = write_coco(tmp_path / "truth.json")
    expected = f"--images={tmp_path}/list.txt: COCO files and prepared data sets name their images themselves"
    assert expected in message(coco, f"--images={tmp_path}/list.txt")


def test_findings_are_one_line_of_counts(tmp_path):
    folder = write_tree(tmp_path / "annotations", label="tram")
    (folder / f"{IDS[1]}.txt").write_text("person 1 2 0 4 0 0 0 0 0 0 0\n")
    (annotations,) = kaist.read_annotations(folder)
    assert annotations.notes == ["unknown label: 2, box of no size: 1", "labels that do not count: 'tram': 2"]
    assert [len(image.labels) for image in annotations.images] == [1, 0, 1]


@pytest.mark.parametrize("box", [PERSON, [side / 640 for side in PERSON]], ids=["label", "box"])
def test_annotations_with_nobody_who_counts_are_refused(tmp_path, two_of_three, capsys, box):
    label = "Pedestrian" if box == PERSON else "person"
    folder = write_tree(tmp_path / "annotations", box=box, label=label)
    message = fails(capsys, folder, two_of_three)
    assert f"nobody counts in reasonable-all. Labels found: 3 '{label}'; 0 objects are marked as ignored" in message
    assert (
        f"the tallest box has {box[3]:g} pixels. People who count have the label 'person' and are at least 55"
        in message
    )


def test_list_of_a_part_limits_the_score_to_it_with_a_warning(tmp_path, two_of_three, capsys, no_curves):
    path, part = write_coco(tmp_path / "truth.json"), tmp_path / "part" / "part.txt"
    part.parent.mkdir()
    (part.parent / "images.txt").write_text("set09_V000_I00019_lwir.png\nset06_V000_I00039_visible.jpg\n")
    write_results(part, (1, PERSON, 0.9))
    run_kaist(path, [part, two_of_three], f"--output={tmp_path}/out")
    printed = lines(capsys.readouterr().out)
    warning = (
        "warning: part.txt: scored on 2 of 3 images, those that images.txt names; not comparable with scores on all"
    )
    assert [line.startswith(warning) for line in printed].count(True) == 2
    assert no_curves[0][1].splitlines()[1].startswith(warning)
    counts = {line[:18].strip(): line.split()[-9:-6] for line in printed if line.startswith(("people", "images"))}
    assert counts == {
        "people, part.txt": ["2", "1", "1"],
        "images, part.txt": ["2", "1", "1"],
        "people, two.txt": ["3", "2", "1"],
        "images, two.txt": ["3", "2", "1"],
    }
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [scores["part.txt"][name]["miss_rate_percent"] for name in REASONABLE] == pytest.approx(
        [50, 100, 0], abs=1e-6
    )
    assert scores["part.txt"]["reasonable-all"]["remarks"][0].startswith(warning)


def test_repeated_detections_count_as_false_with_a_warning(tmp_path, two_of_three, capsys):
    two_of_three.write_text(two_of_three.read_text() + f"1,{','.join(map(str, PERSON))},0.90\n")
    run_kaist(write_coco(tmp_path / "truth.json"), two_of_three)
    warning = "warning: two.txt: 1 of 4 detections repeat another one of the same image, box and score, and count as"
    assert [line.startswith(warning) for line in lines(capsys.readouterr().out)].count(True) == 2


def test_results_of_a_part_without_a_list_have_a_warning(tmp_path, capsys):
    path, results = write_coco(tmp_path / "truth.json"), write_results(tmp_path / "half.txt", (1, PERSON, 0.9))
    run_kaist(path, results)
    warning = "warning: half.txt: no detections in 2 of 3 images, which have 2 of the 3 people; if these were"
    assert [line.startswith(warning) for line in lines(capsys.readouterr().out)].count(True) == 2
    # A list tells that these images were processed.
    (tmp_path / "images.txt").write_text("\n".join(IDS))
    run_kaist(path, results)
    assert "warning" not in capsys.readouterr().out


def test_hint_at_another_reading_changes_no_score(tmp_path, capsys):
    x, y, width, height = PERSON
    corners = [(i, (x, y, x + width, y + height), 0.9) for i in (1, 2, 3)]
    run_kaist(write_coco(tmp_path / "truth.json"), write_results(tmp_path / "corners.txt", *corners))
    printed = capsys.readouterr().out
    assert rates(printed)["corners.txt"][0][:3] == ["100.00"] * 3
    hint = (
        "hint: corners.txt: the miss rate on reasonable-all would be 0.00 % instead of 100.00 % if its boxes are "
        "corners x1,y1,x2,y2; if so, write boxes as x,y,width,height in pixels of the images"
    )
    assert lines(printed).count(hint) == 2


@pytest.fixture
def paired(tmp_path):
    write_tree(tmp_path / "annotations" / "visible")
    write_tree(tmp_path / "annotations" / "lwir", box=MOVED)
    return tmp_path / "annotations"


def test_paired_set_is_scored_on_the_boxes_of_each_image(tmp_path, paired, two_of_three, capsys):
    run_kaist(paired, [two_of_three, write_results(tmp_path / "warm.txt", *((i, MOVED, 0.7) for i in (1, 2, 3)))])
    printed = capsys.readouterr().out
    headings = [line for line in lines(printed) if line.startswith(str(tmp_path))]
    assert headings == [f"{paired}: visible boxes (MR^R)", f"{paired}: lwir boxes (MR^T)"]
    # Miss rate and recall on the visible boxes, then on the thermal ones.
    all_day_and_night = {name: [row[0] for row in rows] for name, rows in rates(printed).items()}
    assert all_day_and_night["two.txt"] == ["33.33", "66.67", "100.00", "0.00"]
    assert all_day_and_night["warm.txt"] == ["100.00", "0.00", "0.00", "100.00"]
    # Each table has its own best method first.
    methods = [line.split()[0] for line in lines(printed) if ".txt" in line]
    assert methods == ["two.txt", "warm.txt"] * 2 + ["warm.txt", "two.txt"] * 2


def test_paired_sets_keep_rows_without_size(paired):
    (paired / "lwir" / f"{IDS[0]}.txt").write_text("person 1 2 0 4 0 0 0 0 0 0 0\nperson 1 2 3 70 0 0 0 0 0 0 0\n")
    visible, lwir = kaist.read_annotations(paired)
    assert (visible.name, lwir.name) == ("visible", "lwir")
    assert lwir.images[0].boxes.tolist() == [[1, 2, 0, 4], [1, 2, 3, 70]]
    assert lwir.images[0].ignore.tolist() == [True, False]
    assert (visible.notes, lwir.notes) == ([], ["box of no size: 1"])


def test_missing_file_or_half_of_a_paired_set_is_named(paired, two_of_three, capsys):
    (paired / "lwir" / f"{IDS[1]}.txt").unlink()
    assert f"  lwir annotation missing: {IDS[1]}\n" in fails(capsys, paired, two_of_three)
    visible, lwir = kaist.read_annotations(paired, allow_incomplete=True)
    assert (len(visible.images), len(lwir.images), len(lwir.image_ids)) == (3, 2, 3)
    assert (len(visible.warnings), len(lwir.warnings)) == (0, 1)
    shutil.rmtree(paired / "visible")
    (annotations,) = kaist.read_annotations(paired, allow_incomplete=True)
    assert (annotations.name, annotations.heading) == ("annotations", f"{paired}: lwir boxes")


def truths_of(box):
    return [make_truth(image_id, box, condition=frames.condition(image_id)) for image_id in IDS]


def test_prepared_pairs_are_two_sets_with_the_warnings_of_the_data_set(prepare):
    warnings = ["copied in haste", "at night"]
    folder = prepare(kaist, "test", None, warnings, objects=truths_of(PERSON), objects_lwir=truths_of(MOVED))
    visible, lwir = kaist.read_annotations(folder)
    assert [(one.name, one.heading, one.images[0].boxes[0, 0]) for one in (visible, lwir)] == [
        ("visible", f"{folder}: visible boxes (MR^R)", 100),
        ("lwir", f"{folder}: lwir boxes (MR^T)", 200),
    ]
    assert visible.warnings == lwir.warnings == warnings


def test_boxes_of_the_improved_annotations_are_recognised_in_all_forms(prepare, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(kaist.truths, "improved_videos", lambda by_id: seen.append(by_id) or (3, 16))
    monkeypatch.setattr(kaist.truths, "improved_roles", lambda by_id: 3)
    prepared = prepare(kaist, "test", objects=truths_of(PERSON))
    for path in (prepared, write_coco(tmp_path / "file"), write_tree(tmp_path / "folder")):
        (annotations,) = kaist.read_annotations(path)
        assert annotations.notes == [
            "boxes, labels and flags: equal to the improved test annotations in 3 of 16 videos"
        ]
        assert (annotations.name, annotations.heading) == (path.name, str(path))
        assert (annotations.image_ids, annotations.warnings) == (list(IDS), [])
    assert seen == [{image_id: [("person", PERSON, 0, False)] for image_id in IDS}] * 3
    monkeypatch.setattr(kaist.truths, "improved_roles", lambda by_id: 1)
    (annotations,) = kaist.read_annotations(path)
    (warning,) = annotations.warnings
    assert annotations.notes == []
    assert "in 3 of 16 videos, but boxes, labels and flags together only in 1: other people count" in warning
