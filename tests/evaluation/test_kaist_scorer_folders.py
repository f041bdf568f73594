"""The KAIST command on folders of annotation files, paired ones among them."""

import json

import pytest
from kaist_scorer_cases import IDS, PERSON, SUBSETS, fails, lines, main, rates, write_coco, write_results, write_tree

from dcrl_jax.annotations.kaist import frames
from dcrl_jax.evaluation import kaist


def test_folder_of_files_scores_as_the_same_boxes_in_one_file(tmp_path, two_of_three, listed, capsys):
    folder = write_tree(tmp_path / "kaist" / "annotations")
    # Of another split, so the folder holds one set of test annotations only.
    write_tree(tmp_path / "kaist" / "training", ["set00/V000/I00001"])
    main([tmp_path / "kaist", write_coco(tmp_path / "truth.json")], two_of_three, f"--images={listed}")
    printed = capsys.readouterr().out
    assert lines(printed)[0] == str(folder)
    found = rates(printed)["two.txt"]
    # Miss rates, then recall, of each truth.
    assert found[:2] == found[2:]
    assert found[0][:3] == ["33.33", "50.00", "0.00"]


def test_images_of_a_folder_are_the_test_split_unless_they_are_listed(tmp_path, listed):
    folder = write_tree(tmp_path / "annotations", frames.split_frames("test"))
    (truth,) = kaist.read_annotations(folder)
    assert truth.image_ids == [image.image_id for image in truth.images] == frames.split_frames("test")
    assert (truth.name, truth.heading, truth.notes, truth.warnings) == ("annotations", str(folder), [], [])
    (truth,) = kaist.read_annotations(folder, frames.read_list(listed))
    assert [(image.image_id, image.condition) for image in truth.images] == [
        (IDS[0], "day"),
        (IDS[1], "day"),
        (IDS[2], "night"),
    ]


def test_missing_and_unreadable_frames_are_counted_and_the_first_twenty_named(tmp_path, two_of_three, capsys):
    folder = write_tree(tmp_path / "annotations")
    (folder / f"{IDS[1]}.txt").write_text("person 1 2 3\n")
    message = fails(capsys, folder, two_of_three).splitlines()
    # 2,252 images, of which two can be read.
    assert message[0] == f"error: {folder}, annotations of 2,252 images: 2250 problems"
    assert message[1].startswith(f"  annotation unreadable: {folder}/{IDS[1]}.txt: 4 fields in the first line")
    assert message[2] == "  annotation missing: set06/V000/I00059"
    assert message[20] == "  annotation missing: set06/V000/I00419"
    assert message[21] == "  and 2,230 more"
    assert "--allow_incomplete" in message[22]
    assert len(message) == 23


def test_incomplete_annotations_leave_images_out_where_that_is_allowed(tmp_path, listed, capsys):
    folder = write_tree(tmp_path / "annotations", [IDS[0], IDS[2]])
    # What is found in the second image counts neither way, and the third image goes on being number 3.
    results = write_results(tmp_path / "found.txt", (2, (300, 200, 25, 60), 0.9), (3, PERSON, 0.8))
    assert "annotation missing: set06/V000/I00039" in fails(capsys, folder, results, f"--images={listed}")
    main(folder, results, f"--images={listed}", "--allow_incomplete", f"--output={tmp_path}/out")
    printed = lines(capsys.readouterr().out)
    warning = "warning: 1 of 3 images are left out, with what was detected in them; not comparable with scores on all"
    tables = [place for place, line in enumerate(printed) if line.startswith(("found.txt", "images"))]
    assert [printed[place + 1].startswith(warning) for place in tables] == [True, False, True]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["found.txt"]
    assert [scores[name]["miss_rate_percent"] for name in SUBSETS[:3]] == pytest.approx([50, 100, 0], abs=1e-6)
    assert [scores[name]["images"] for name in SUBSETS[:3]] == [2, 1, 1]


def test_nothing_readable_is_an_error_even_where_incomplete_is_allowed(tmp_path, two_of_three, listed, capsys):
    folder = write_tree(tmp_path / "annotations", IDS[:1])
    (folder / f"{IDS[0]}.txt").write_text("person 1 2 3\n")
    assert "3 problems" in fails(capsys, folder, two_of_three, f"--images={listed}", "--allow_incomplete")


def test_several_sets_below_a_folder_are_named_and_one_is_asked_for(tmp_path, two_of_three, listed, capsys):
    for name in ("improved", "original"):
        write_tree(tmp_path / "kaist" / name)
    message = fails(capsys, tmp_path / "kaist", two_of_three, f"--images={listed}")
    assert message == (
        f"error: {tmp_path}/kaist: holds several sets of annotations. Name one of them with --annotations:\n"
        f"  {tmp_path}/kaist/improved: 3 images\n  {tmp_path}/kaist/original: 3 images\n"
    )
    main(tmp_path / "kaist" / "improved", two_of_three, f"--images={listed}")
    assert rates(capsys.readouterr().out)["two.txt"][0][0] == "33.33"


def test_two_files_of_one_frame_are_refused(tmp_path, two_of_three, listed, capsys):
    write_tree(tmp_path / "kaist")
    write_tree(tmp_path / "other", box=(300, 100, 25, 60))
    both, visible = (tmp_path / "kaist" / name for name in ("set06/V000/I00019.txt", "set06/V000/visible/I00019.txt"))
    visible.parent.mkdir()
    (tmp_path / "other" / f"{IDS[0]}.txt").rename(visible)
    message = fails(capsys, tmp_path / "kaist", two_of_three, f"--images={listed}")
    assert message == f"error: {both} and {visible} both annotate {IDS[0]}; keep one of them\n"


def test_folder_without_test_annotations_says_what_was_looked_for(tmp_path, two_of_three, capsys):
    write_tree(tmp_path / "kaist", ["set00/V000/I00001"])
    message = fails(capsys, tmp_path / "kaist", two_of_three)
    assert "holds annotations of none of the 2,252 images, set06/V000/I00019, set06/V000/I00039, and 2,250" in message
    assert "set06_V000_I00019.txt" in message
    assert "dataset_info.json" in message


@pytest.mark.parametrize(("name", "text"), [("absent.json", None), ("list.csv", "a,b\n")])
def test_what_is_no_annotation_at_all_is_refused(tmp_path, two_of_three, capsys, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    expected = "cannot be read (No such file" if text is None else ":1: not valid JSON, as COCO annotations are"
    assert expected in fails(capsys, tmp_path / name, two_of_three)


def test_image_list_goes_with_a_folder_of_files_alone(tmp_path, two_of_three, listed, capsys):
    message = fails(capsys, write_coco(tmp_path / "truth.json"), two_of_three, f"--images={listed}")
    assert message.startswith(f"error: --images={listed}: COCO files and prepared data sets say themselves")


def test_findings_are_one_line_of_counts(tmp_path, listed):
    folder = write_tree(tmp_path / "annotations", label="tram")
    (folder / f"{IDS[1]}.txt").write_text("person 1 2 0 4 0 0 0 0 0 0 0\n")
    (folder / f"{IDS[2]}.txt").write_text(
        "<annotation><object><name>person</name><label>lwir</label><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox>"
        "</object></annotation>"
    )
    (truth,) = kaist.read_annotations(folder, frames.read_list(listed))
    assert truth.notes == ["unknown label: 1, box of no size: 1, object of one modality only: 1"]
    assert [len(image.labels) for image in truth.images] == [1, 0, 0]


# ---- Paired annotations


def write_paired(root):
    write_tree(root / "visible", suffix=".txt")
    write_tree(root / "lwir", box=(200, *PERSON[1:]))
    return root


def test_paired_set_is_scored_on_the_boxes_of_either_image(tmp_path, two_of_three, listed, capsys):
    root = write_paired(tmp_path / "annotations")
    warm = write_results(tmp_path / "warm.txt", *((number, (200, *PERSON[1:]), 0.7) for number in (1, 2, 3)))
    main(root, [two_of_three, warm], f"--images={listed}", f"--output={tmp_path}/out")
    printed = capsys.readouterr().out
    headings = [line for line in lines(printed) if line.startswith(str(tmp_path))]
    assert headings == [f"{root}: visible boxes (MR^R)", f"{root}: lwir boxes (MR^T)"]
    all_rates = {
        name: {
            method: row["reasonable-all"]["miss_rate_percent"]
            for method, row in json.loads((tmp_path / "out" / name / "scores.json").read_text()).items()
        }
        for name in ("visible", "lwir")
    }
    assert all_rates == {
        "visible": {"two.txt": pytest.approx(100 / 3), "warm.txt": 100},
        "lwir": {"two.txt": 100, "warm.txt": pytest.approx(0, abs=1e-6)},
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"visible", "lwir"}
    assert (tmp_path / "out" / "lwir" / "miss_rate.png").stat().st_size > 10_000
    # Each table has its own best method first.
    assert [line.split()[0] for line in lines(printed) if ".txt" in line] == [
        *("two.txt", "warm.txt") * 2,
        *("warm.txt", "two.txt") * 2,
    ]


def test_rows_of_no_size_are_kept_in_paired_sets(tmp_path, listed):
    root = write_paired(tmp_path / "annotations")
    (root / "lwir" / f"{IDS[0]}.txt").write_text("person 1 2 0 4 0 0 0 0 0 0 0\nperson 1 2 3 70 0 0 0 0 0 0 0\n")
    visible, lwir = kaist.read_annotations(root, frames.read_list(listed))
    assert (visible.name, lwir.name) == ("visible", "lwir")
    assert lwir.images[0].boxes.tolist() == [[1, 2, 0, 4], [1, 2, 3, 70]]
    assert lwir.images[0].ignore.tolist() == [True, False]
    assert (visible.notes, lwir.notes) == ([], ["box of no size: 1"])


def test_each_modality_of_a_paired_set_names_what_it_lacks(tmp_path, two_of_three, listed, capsys):
    root = write_paired(tmp_path / "annotations")
    (root / "lwir" / f"{IDS[1]}.txt").unlink()
    assert f"  lwir annotation missing: {IDS[1]}\n" in fails(capsys, root, two_of_three, f"--images={listed}")
    visible, lwir = kaist.read_annotations(root, frames.read_list(listed), allow_incomplete=True)
    assert (len(visible.images), len(lwir.images), len(lwir.image_ids)) == (3, 2, 3)
    assert (len(visible.warnings), len(lwir.warnings)) == (0, 1)


def test_one_half_of_a_paired_set_says_which(tmp_path, listed):
    root = write_paired(tmp_path / "annotations")
    for image_id in IDS:
        (root / "visible" / f"{image_id}.txt").unlink()
    (truth,) = kaist.read_annotations(root, frames.read_list(listed))
    assert (truth.name, truth.heading) == ("annotations", f"{root}: lwir boxes")


# ---- What the boxes are


@pytest.mark.parametrize(
    ("equal", "notes"),
    [
        (16, ["boxes: equal to the improved test annotations in 16 of 16 videos"]),
        (3, ["boxes: equal to the improved test annotations in 3 of 16 videos"]),
        (0, []),
    ],
)
@pytest.mark.parametrize("kind", ["coco", "folder"])
def test_boxes_that_equal_the_improved_ones_are_said_to(tmp_path, monkeypatch, listed, kind, equal, notes):
    seen = []
    monkeypatch.setattr(kaist.kaist_truths, "improved_videos", lambda by_id: seen.append(by_id) or (equal, 16))
    path = tmp_path / "original"
    truths = (
        kaist.read_annotations(write_coco(path))
        if kind == "coco"
        else kaist.read_annotations(write_tree(path), frames.read_list(listed))
    )
    assert [truth.notes for truth in truths] == [notes]
    assert [truth.heading for truth in truths] == [str(path)]
    assert [one[0].box for one in seen[0].values()] == [PERSON] * 3
