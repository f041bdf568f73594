"""What all scorers do: files that they write, what they refuse, and that they need no JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scorer_cases import IDS, PERSON, REASONABLE, ROOT, fails, lines, run_kaist, write_coco, write_results

from dcrl_jax.evaluation.results import read_results, write_coco_json
from dcrl_jax.reports import curves
from dcrl_jax.scorers import kaist


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, text=True, check=False, **options)


def test_scorers_need_no_jax(tmp_path, two_of_three):
    path = write_coco(tmp_path / "truth.json")
    code = f"""if True:
        import importlib, pkgutil, sys
        from dcrl_jax import evaluation, scorers
        for package in (evaluation, scorers):
            for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
                if module.name != "dcrl_jax.evaluation.evaluate":
                    importlib.import_module(module.name)
        from dcrl_jax.evaluation import kaist
        kaist.main(["--annotations={path}", "--results={two_of_three}", "--output={tmp_path}/out"])
        print("jax" in sys.modules, "tensorflow_datasets" in sys.modules)
    """
    done = python("-c", code, capture_output=True)
    assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "False False")
    assert (tmp_path / "out" / "scores.json").is_file()


@pytest.mark.parametrize("name", ["kaist", "caltech", "nightowls"])
def test_mistake_ends_with_one_message_and_status_1(name):
    done = python("-m", f"dcrl_jax.evaluation.{name}", "--annotations=a.json", "--results=a", capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: a.json: cannot be read (No such file or directory)\n"


def test_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        kaist.main(["--annotation=a", "--results=b"])
    assert stopped.value.code == 1
    assert "--annotations" in capsys.readouterr().err


def test_closed_pipe_does_not_stop_the_command(tmp_path, two_of_three):
    options = [f"--annotations={write_coco(tmp_path / 'truth.json')}", f"--results={two_of_three}"]
    reading, writing = os.pipe()
    os.close(reading)
    command = ("-m", "dcrl_jax.evaluation.kaist", *options, f"--output={tmp_path / 'out'}")
    done = python(*command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["two.txt"]
    assert (tmp_path / "out" / "miss_rate.png").is_file()


def test_output_is_scores_and_a_figure(tmp_path, two_of_three, capsys):
    out = tmp_path / "deep" / "out"
    run_kaist(write_coco(tmp_path / "truth.json"), two_of_three, f"--output={out}")
    assert sorted(path.name for path in out.iterdir()) == ["miss_rate.png", "scores.json"]
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores) == ["two.txt"]
    assert len(scores["two.txt"]) == 9
    expected = {"miss_rate_percent": 100 / 3, "recall_percent": 200 / 3, "people": 3, "images": 3}
    assert scores["two.txt"]["reasonable-all"] == pytest.approx(expected)
    nobody = {"miss_rate_percent": None, "recall_percent": None, "people": 0, "images": 3}
    assert scores["two.txt"]["scale-near"] == nobody
    height, width, _ = cv2.imread(str(out / "miss_rate.png")).shape
    assert width > 2 * height > 1000
    assert capsys.readouterr().out.endswith(f"\n\nscores and curves: {out}\n")


def test_curves_of_all_day_and_night_have_the_heading_as_title(tmp_path, two_of_three, no_curves):
    path = write_coco(tmp_path / "truth.json")
    run_kaist(path, two_of_three, f"--output={tmp_path}/out")
    ((panels, title),) = no_curves
    assert title == str(path)
    panel_subsets = {name: panel["two.txt"].subset.name for name, panel in panels.items()}
    assert panel_subsets == dict(zip(("all", "day", "night"), REASONABLE, strict=True))


def test_each_of_several_annotation_sets_gets_a_folder(tmp_path, two_of_three, capsys, no_curves):
    paths = [write_coco(tmp_path / name / "truth.json") for name in "ab"] + [write_coco(tmp_path / "visible.json")]
    run_kaist(paths, two_of_three, f"--output={tmp_path}/out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/*/*")} == {
        f"{name}/{file}" for name in ("truth", "truth-2", "visible") for file in ("miss_rate.png", "scores.json")
    }
    printed = lines(capsys.readouterr().out)
    assert [line for line in printed if line.endswith(".json")] == [str(path) for path in paths]


def test_full_disk_leaves_the_former_figure(tmp_path, two_of_three, capsys, monkeypatch):
    path, out = write_coco(tmp_path / "truth.json"), tmp_path / "out"
    out.mkdir()
    (out / "miss_rate.png").write_bytes(b"of an earlier run")

    def full_disk(panels, path, title):
        Path(path).write_bytes(b"half of a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(curves, "miss_rate_panels", full_disk)
    with pytest.raises(SystemExit):
        run_kaist(path, two_of_three, f"--output={out}")
    message = capsys.readouterr().err
    assert message == f"error: {out}: cannot be written (No space left on device); choose another --output\n"
    assert sorted(file.name for file in out.iterdir()) == ["miss_rate.png", "scores.json"]
    assert (out / "miss_rate.png").read_bytes() == b"of an earlier run"


def test_nothing_is_written_if_one_set_cannot_be_scored(tmp_path, two_of_three, capsys):
    paths = [write_coco(tmp_path / "good.json"), write_coco(tmp_path / "short.json", IDS[:2])]
    assert "two.txt:2: image 3; expected 1..2" in fails(capsys, paths, two_of_three, f"--output={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_two_results_files_of_the_same_name_are_refused(tmp_path, two_of_three, capsys):
    (tmp_path / "other").mkdir()
    other = write_results(tmp_path / "other" / "two.txt")
    message = fails(capsys, write_coco(tmp_path / "truth.json"), [two_of_three, other])
    expected = "methods are named by their results file; rename one of these"
    assert message == f"error: {two_of_three} and {other}: {expected}\n"


def test_coco_and_text_results_score_the_same_and_keep_their_order(tmp_path, two_of_three, capsys):
    write_coco_json(tmp_path / "same.json", read_results(two_of_three, IDS), IDS)
    nothing = write_results(tmp_path / "nothing.txt")
    run_kaist(write_coco(tmp_path / "truth.json"), [nothing, tmp_path / "same.json", two_of_three])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if ".txt" in line or "same" in line][:3]
    assert [row[0] for row in rows] == ["same.json", "two.txt", "nothing.txt"]
    assert rows[0][1:] == rows[1][1:]
    np.testing.assert_allclose([float(row[1]) for row in rows], [33.33, 33.33, 100])


def test_malformed_results_are_named(tmp_path, capsys):
    results = write_results(tmp_path / "far.txt", (4, PERSON, 0.5))
    assert "far.txt:1: image 4; expected 1..3" in fails(capsys, write_coco(tmp_path / "truth.json"), results)
