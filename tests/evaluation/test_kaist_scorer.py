"""The KAIST command: each kind of annotations, what it prints, writes and refuses, and published results."""

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets import records
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import kaist, scorer
from dcrl_jax.evaluation.results import read_results, write_coco_json, write_kaist_text

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "kaist"

IDS = ("set06/V000/I00019", "set06/V000/I00039", "set09/V000/I00019")
PERSON = (100, 100, 25, 60)
SUBSETS = (
    "reasonable-all",
    "reasonable-day",
    "reasonable-night",
    "scale-near",
    "scale-medium",
    "scale-far",
    "occlusion-none",
    "occlusion-partial",
    "occlusion-heavy",
)


def write_coco(path, ids=IDS, boxes=(PERSON, PERSON, PERSON)):
    """One person an image."""
    content = {
        "images": [{"id": place, "im_name": image_id} for place, image_id in enumerate(ids)],
        "annotations": [
            {"image_id": place, "category_id": 1, "bbox": box, "occlusion": 0, "ignore": 0}
            for place, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_tree(folder, ids=IDS, box=PERSON, suffix=".txt", label="person"):
    """bbGt files in folders of videos, one person each."""
    for image_id in ids:
        path = folder / f"{image_id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("% bbGt version=3\n" + f"{label} {' '.join(map(str, box))} 0 0 0 0 0 0 0\n")
    return folder


def write_results(path, *rows):
    """Rows of image (from 1), box and score."""
    path.write_text("".join(f"{image},{','.join(map(str, box))},{score}\n" for image, box, score in rows))
    return path


@pytest.fixture
def two_of_three(tmp_path):
    """Finds the first person and the third."""
    return write_results(tmp_path / "two.txt", (1, PERSON, 0.9), (3, PERSON, 0.8))


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    return tmp_path / "list.txt"


def main(annotations, results, *options):
    many = [f"--annotations={path}" for path in ([annotations] if isinstance(annotations, Path) else annotations)]
    many += [f"--results={path}" for path in ([results] if isinstance(results, Path) else results)]
    kaist.main([*many, *options])


def fails(capsys, *arguments):
    """The message of a command that ends with status 1."""
    with pytest.raises(SystemExit) as stopped:
        main(*arguments)
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    return printed.err


def rates(printed):
    """The numbers of every row of the tables, by the row's name, in order."""
    found = {}
    for line in printed.splitlines():
        name, *values = line.split() or [""]
        if len(values) == 9 and all(re.fullmatch(r"-|[\d.]+", value) for value in values):
            found.setdefault(name, []).append(values)
    return found


def lines(printed):
    return [line for line in printed.splitlines() if line]


def test_tables_of_a_case_worked_by_hand(tmp_path, two_of_three, capsys):
    path = write_coco(tmp_path / "truth.json")
    nothing = write_results(tmp_path / "nothing.txt")
    main(path, [nothing, two_of_three])
    printed = capsys.readouterr().out
    # One of three is missed at all nine points, one of two by day and nobody by night; nobody is near, far or hidden.
    assert lines(printed) == [
        str(path),
        "miss rate, %     all     day   night  near  medium  far    none  partial  heavy",
        "------------  ------  ------  ------  ----  ------  ---  ------  -------  -----",
        "two.txt        33.33   50.00    0.00     -   33.33    -   33.33        -      -",
        "nothing.txt   100.00  100.00  100.00     -  100.00    -  100.00        -      -",
        "recall, %      all    day   night  near  medium  far   none  partial  heavy",
        "-----------  -----  -----  ------  ----  ------  ---  -----  -------  -----",
        "two.txt      66.67  50.00  100.00     -   66.67    -  66.67        -      -",
        "nothing.txt   0.00   0.00    0.00     -    0.00    -   0.00        -      -",
        "people           3      2       1     0       3    0      3        0      0",
        "images           3      2       1     3       3    3      3        3      3",
    ]


def test_coco_results_and_text_results_score_the_same_and_equal_scores_keep_their_order(tmp_path, two_of_three):
    (truth,) = kaist.read_annotations(write_coco(tmp_path / "truth.json"))
    write_coco_json(tmp_path / "same.json", read_results(two_of_three, truth.image_ids), truth.image_ids)
    scores = scorer.score_results(truth, [tmp_path / "same.json", two_of_three])
    assert list(scores) == ["same.json", "two.txt"]
    first, second = ([row[name].miss_rate for name in SUBSETS] for row in scores.values())
    np.testing.assert_array_equal(first, second)
    assert first[0] == pytest.approx(1 / 3)


def test_two_results_files_of_one_name_are_refused(tmp_path, two_of_three, capsys):
    (tmp_path / "other").mkdir()
    other = write_results(tmp_path / "other" / "two.txt")
    message = fails(capsys, write_coco(tmp_path / "truth.json"), [two_of_three, other])
    assert (
        message == f"error: {two_of_three} and {other}: methods are named by their results file; rename one of these\n"
    )


def test_malformed_results_are_named(tmp_path, capsys):
    results = write_results(tmp_path / "far.txt", (4, PERSON, 0.5))
    assert "far.txt:1: image 4; expected 1..3" in fails(capsys, write_coco(tmp_path / "truth.json"), results)


# ---- What is written


def test_output_of_one_truth_is_scores_and_a_figure_in_the_folder_itself(tmp_path, two_of_three, capsys):
    main(write_coco(tmp_path / "truth.json"), two_of_three, f"--output={tmp_path}/deep/out")
    out = tmp_path / "deep" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["miss_rate.png", "scores.json"]
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores) == ["two.txt"]
    assert tuple(scores["two.txt"]) == SUBSETS
    expected = {"miss_rate_percent": 100 / 3, "recall_percent": 200 / 3, "people": 3, "images": 3}
    assert scores["two.txt"]["reasonable-all"] == pytest.approx(expected)
    nobody = {"miss_rate_percent": None, "recall_percent": None, "people": 0, "images": 3}
    assert scores["two.txt"]["scale-near"] == nobody
    height, width, _ = cv2.imread(str(out / "miss_rate.png")).shape
    assert width > 2 * height > 1000
    assert capsys.readouterr().out.endswith(f"\n\nscores and curves: {out}\n")


def test_figure_has_a_panel_for_all_day_and_night_and_says_what_the_heading_says(tmp_path, two_of_three, monkeypatch):
    path = write_coco(tmp_path / "truth.json")
    (truth,) = kaist.read_annotations(path)
    truth = truth._replace(notes=["boxes: so"], warnings=["few"])
    scores = scorer.score_results(truth, [two_of_three])
    seen = {}
    monkeypatch.setattr(scorer.curves, "miss_rate_panels", lambda panels, path, title: seen.update(p=panels, t=title))
    with pytest.raises(InputError, match="cannot be written"):
        scorer.write_scores(tmp_path / "out", truth, scores)
    assert seen["t"] == f"{path}\nboxes: so\nwarning: few"
    assert {name: panel["two.txt"].subset.name for name, panel in seen["p"].items()} == {
        "all": "reasonable-all",
        "day": "reasonable-day",
        "night": "reasonable-night",
    }


def test_several_truths_have_a_folder_each_by_names_of_their_own(tmp_path, two_of_three, capsys):
    paths = [write_coco(tmp_path / name / "truth.json") for name in "ab"] + [write_coco(tmp_path / "visible.json")]
    main(paths, two_of_three, f"--output={tmp_path}/out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/*/*")} == {
        f"{name}/{file}" for name in ("truth", "truth-2", "visible") for file in ("miss_rate.png", "scores.json")
    }
    assert [line for line in lines(capsys.readouterr().out) if line.endswith(".json")] == [str(one) for one in paths]


def test_files_are_written_whole_or_not_at_all(tmp_path, two_of_three, capsys, monkeypatch):
    path, out = write_coco(tmp_path / "truth.json"), tmp_path / "out"
    out.mkdir()
    (out / "miss_rate.png").write_bytes(b"of an earlier run")

    def full_disk(panels, path, title):
        Path(path).write_bytes(b"half of a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scorer.curves, "miss_rate_panels", full_disk)
    with pytest.raises(SystemExit):
        main(path, two_of_three, f"--output={out}")
    message = capsys.readouterr().err
    assert message == f"error: {out}: cannot be written (No space left on device); choose another --output\n"
    assert sorted(one.name for one in out.iterdir()) == ["miss_rate.png", "scores.json"]
    assert (out / "miss_rate.png").read_bytes() == b"of an earlier run"


def test_nothing_is_written_where_anything_cannot_be_scored(tmp_path, two_of_three, capsys):
    paths = [write_coco(tmp_path / "good.json"), write_coco(tmp_path / "short.json", IDS[:2], [PERSON] * 2)]
    assert "two.txt:2: image 3; expected 1..2" in fails(capsys, paths, two_of_three, f"--output={tmp_path}/out")
    assert not (tmp_path / "out").exists()


# ---- Folders of annotation files


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
    assert message[21] == "  ... and 2230 more"
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
    assert "holds annotations of none of the 2,252 images, set06/V000/I00019, set06/V000/I00039 and 2,250" in message
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
    assert truth.notes == ["unknown label: 1, box of no size: 1, object of one modality alone: 1"]
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


# ---- Prepared data sets


class ScorerKaist(tfds.core.GeneratorBasedBuilder):
    """The three images with a person each, 100 pixels further right in the thermal one, and two warnings."""

    VERSION = tfds.core.Version("1.0.0")
    paired, ids = True, IDS

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=records.features(paired=self.paired),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(warnings=["copied in haste", "at night"] if self.paired else []),
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        png = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
        for place, image_id in enumerate(self.ids):
            x, *rest = PERSON
            boxes = {"objects": PERSON, "objects_lwir": (x + 100, *rest)}
            objects = {
                name: [{"box": np.float32(box), "label": "person", "occlusion": 0, "ignore": False}]
                for name, box in boxes.items()
                if name in self.info.features
            }
            images = {name: io.BytesIO(png) for name in ("visible", "lwir")}
            yield place, {"image_id": image_id, "condition": frames.condition(image_id), **images, **objects}


class ScorerKaistPlain(ScorerKaist):
    """As it is, with the boxes of the visible image alone."""

    paired = False


class ScorerStreet(ScorerKaistPlain):
    """Images of something else."""

    ids = ("set06/V000/I00019", "street")


@pytest.fixture
def prepare(tmp_path, capsys):
    """Prepares a data set and returns its folder; what TFDS says of it is dropped."""

    def prepare(builder_class):
        builder = builder_class(data_dir=tmp_path / "data", file_format="array_record")
        builder.download_and_prepare()
        capsys.readouterr()
        return Path(builder.data_path)

    return prepare


def test_prepared_paired_data_are_two_truths_with_the_warnings_of_the_data_set(prepare, two_of_three, capsys):
    folder = prepare(ScorerKaist)
    main(folder, two_of_three)
    printed = lines(capsys.readouterr().out)
    headings = [place for place, line in enumerate(printed) if line.startswith(str(folder))]
    assert [printed[place] for place in headings] == [
        f"{folder}: visible boxes (MR^R)",
        f"{folder}: lwir boxes (MR^T)",
    ]
    for place, miss_rates, recall in zip(headings, ("33.33 50.00 0.00", "100.00 " * 3), ("66.67", "0.00"), strict=True):
        block = printed[place + 1 : place + 13]
        assert block[2].split()[1:4] == miss_rates.split()
        assert block[3:5] == ["warning: copied in haste", "warning: at night"]
        assert block[7].split()[:2] == ["two.txt", recall]
        assert block[8].split()[:4] == ["people", "3", "2", "1"]
        assert block[10:] == ["warning: copied in haste", "warning: at night"]


def test_prepared_data_of_one_truth_are_named_by_their_folder(prepare, monkeypatch):
    seen = []
    monkeypatch.setattr(kaist.kaist_truths, "improved_videos", lambda by_id: seen.append(by_id) or (1, 2))
    folder = prepare(ScorerKaistPlain)
    (truth,) = kaist.read_annotations(folder)
    assert (truth.name, truth.heading, truth.warnings) == ("1.0.0", str(folder), [])
    assert truth.image_ids == list(IDS)
    assert truth.notes == ["boxes: equal to the improved test annotations in 1 of 2 videos"]
    assert seen == [{image_id: [("person", PERSON, 0, False)] for image_id in IDS}]


def test_prepared_data_of_something_else_are_refused(prepare, two_of_three, capsys):
    assert "record 1 of the test split is 'street', no frame of KAIST" in fails(
        capsys, prepare(ScorerStreet), two_of_three
    )


def test_damaged_prepared_data_are_refused(prepare, two_of_three, capsys):
    folder = prepare(ScorerKaistPlain)
    for file in folder.glob("*array_record*"):
        file.write_bytes(b"")
    assert f"{folder}: not readable as a prepared data set" in fails(capsys, folder, two_of_three)
    (folder / "dataset_info.json").write_text("{")
    assert f"{folder}: not readable as a prepared data set" in fails(capsys, folder, two_of_three)


# ---- The command itself


def test_running_it_loads_no_jax(tmp_path, two_of_three):
    path = write_coco(tmp_path / "truth.json")
    code = (
        "import sys; from dcrl_jax.evaluation import kaist\n"
        f"kaist.main(['--annotations={path}', '--results={two_of_three}', '--output={tmp_path}/out'])\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert (tmp_path / "out" / "scores.json").is_file()


def test_mistake_ends_with_one_message_on_stderr_and_status_1(tmp_path):
    command = [sys.executable, "-m", "dcrl_jax.evaluation.kaist", "--annotations=absent.json", "--results=absent.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: absent.json: cannot be read (No such file or directory)\n"


def test_unknown_flag_is_a_matter_of_the_parser(capsys):
    with pytest.raises(SystemExit) as stopped:
        kaist.main(["--annotation=a", "--results=b"])
    assert stopped.value.code == 2
    assert "--annotations" in capsys.readouterr().err


# ---- The published files


METHODS = ("MSDS-RCNN", "MBNet", "MLPD")
PUBLISHED = {  # log-average miss rate in percent on the improved annotations: reasonable all, day, night
    "MSDS-RCNN_result.txt": [11.34, 10.53, 12.94],
    "MBNet_result.txt": [8.13, 8.28, 7.86],
    "MLPD_result.txt": [7.58, 7.95, 6.95],
}


@pytest.fixture(scope="module")
def published():
    paths = [REAL / "KAIST_annotation.json", *(REAL / "results" / f"{name}_result.txt" for name in METHODS)]
    for path in paths:
        if not path.is_file():
            pytest.skip(f"needs {path}")
    (truth,) = kaist.read_annotations(paths[0])
    return truth, paths[1:], scorer.score_results(truth, paths[1:])


def to_percent(scores):
    return {name: [round(100 * row[subset].miss_rate, 2) for subset in SUBSETS[:3]] for name, row in scores.items()}


def test_published_results_score_as_published_the_best_first(published):
    truth, _, scores = published
    assert truth.notes == ["boxes: equal to the improved test annotations in 16 of 16 videos"]
    assert to_percent(scores) == PUBLISHED
    assert list(scores) == ["MLPD_result.txt", "MBNet_result.txt", "MSDS-RCNN_result.txt"]


def test_published_annotation_files_score_as_the_published_json(published, tmp_path):
    archive = REAL / "annotations-xml-new.tar.xz"
    if not archive.is_file():
        pytest.skip(f"needs {archive}")
    wanted = {f"annotations-xml-new/{image_id}.xml" for image_id in frames.split_frames("test")}
    with tarfile.open(archive) as members:
        for member in members:
            if member.name in wanted:
                path = tmp_path / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(members.extractfile(member).read())
    (truth,) = kaist.read_annotations(tmp_path)
    assert truth.heading == str(tmp_path / "annotations-xml-new")
    assert truth.notes[0] == "boxes: equal to the improved test annotations in 16 of 16 videos"
    from_json, paths, expected = published
    assert truth.image_ids == from_json.image_ids
    scores = scorer.score_results(truth, paths)
    for name, row in expected.items():
        for subset, score in row.items():
            found = scores[name][subset]
            assert (found.miss_rate, found.recall) == (score.miss_rate, score.recall)
            assert (found.people, found.images) == (score.people, score.images)


def test_results_that_were_read_and_written_again_score_the_same(published, tmp_path):
    truth, paths, expected = published
    for path in paths:
        write_kaist_text(tmp_path / path.name, read_results(path, truth.image_ids), truth.image_ids)
    scores = scorer.score_results(truth, [tmp_path / path.name for path in paths])
    for name, row in expected.items():
        assert [one.miss_rate for one in scores[name].values()] == [one.miss_rate for one in row.values()]
        np.testing.assert_array_equal(scores[name]["reasonable-all"].fppi, row["reasonable-all"].fppi)


def test_one_box_that_differs_makes_one_video_differ(published, tmp_path):
    content = json.loads((REAL / "KAIST_annotation.json").read_text())
    content["annotations"][0]["bbox"][0] += 1
    (tmp_path / "original.json").write_text(json.dumps(content))
    (truth,) = kaist.read_annotations(tmp_path / "original.json")
    assert truth.notes == ["boxes: equal to the improved test annotations in 15 of 16 videos"]
