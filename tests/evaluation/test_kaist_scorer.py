"""The KAIST command: what it prints, writes and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaist_scorer_cases import IDS, PERSON, ROOT, SUBSETS, fails, lines, main, write_coco, write_results

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import kaist, scorer
from dcrl_jax.evaluation.results import read_results, write_coco_json


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


def test_reader_that_has_left_ends_nothing_and_the_output_is_whole(tmp_path, two_of_three):
    options = [f"--annotations={write_coco(tmp_path / 'truth.json')}", f"--results={two_of_three}"]
    command = [sys.executable, "-m", "dcrl_jax.evaluation.kaist", *options, f"--output={tmp_path / 'out'}"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["two.txt"]
    assert (tmp_path / "out" / "miss_rate.png").is_file()


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
