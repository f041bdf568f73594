"""What all scorers do: files that they write, what they refuse, and that they need no JAX."""

import json
import os
import runpy
import subprocess
import sys

import cv2
import pytest
from scorer_cases import IDS, REASONABLE, ROOT, fails, lines, run_kaist, write_coco
from scoring_cases import make_truth

from dcrl_jax.errors import InputError
from dcrl_jax.reports import curves
from dcrl_jax.scorers import caltech, kaist, nightowls


def test_command_needs_no_jax_and_writes_its_files_into_a_closed_pipe(tmp_path, two_of_three):
    path, out = write_coco(tmp_path / "truth.json"), tmp_path / "deep" / "out"
    code = f"""if True:
        import importlib, pkgutil, sys
        from dcrl_jax import evaluation, scorers
        for package in (evaluation, scorers):
            for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
                if module.name != "dcrl_jax.evaluation.evaluate":
                    importlib.import_module(module.name)
        scorers.kaist.main(["--annotations={path}", "--results={two_of_three}", "--output={out}"])
        print("jax" in sys.modules, "tensorflow_datasets" in sys.modules, file=sys.stderr)
    """
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, text=True, check=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "False False\n")
    assert sorted(path.name for path in out.iterdir()) == ["miss_rate.png", "scores.json"]
    scores = json.loads((out / "scores.json").read_text())
    assert {name: len(row) for name, row in scores.items()} == {"two.txt": 9}
    expected = {"miss_rate_percent": 100 / 3, "recall_percent": 200 / 3, "people": 3, "images": 3}
    assert scores["two.txt"]["reasonable-all"] == pytest.approx(expected)
    nobody = {"miss_rate_percent": None, "recall_percent": None, "people": 0, "images": 3}
    assert scores["two.txt"]["scale-near"] == nobody
    height, width, _ = cv2.imread(str(out / "miss_rate.png")).shape
    assert width > 2 * height > 1000


@pytest.mark.parametrize("name", ["kaist", "caltech", "nightowls", "coco"])
def test_mistake_ends_with_one_message_and_status_1(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [name, "--annotations=a.json", "--results=a"])
    monkeypatch.delitem(sys.modules, f"dcrl_jax.evaluation.{name}", raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"dcrl_jax.evaluation.{name}", run_name="__main__")
    assert stopped.value.code == 1
    assert capsys.readouterr() == ("", "error: a.json: cannot be read (No such file or directory)\n")


def test_two_results_of_the_same_name_are_refused(tmp_path, two_of_three, capsys):
    other = tmp_path / "other" / "two.txt"
    message = fails(capsys, tmp_path, [two_of_three, other])
    expected = "methods are named by their results file; rename one of these"
    assert message == f"error: {two_of_three} and {other}: {expected}\n"


@pytest.mark.parametrize(
    ("scorer", "split", "message"),
    [
        (kaist, "test", "record 0 of the test split is 'street', no frame of KAIST"),
        (caltech, "test", "record 0 of the test split is 'street', no test image of Caltech"),
        (nightowls, "validation", "the id of image 'street' is no number; name a data set prepared from NightOwls"),
    ],
    ids=["kaist", "caltech", "nightowls"],
)
def test_data_prepared_from_another_data_set_is_refused(prepare, scorer, split, message):
    folder = prepare(scorer, split, objects=[make_truth("street")])
    with pytest.raises(InputError, match=f"^{folder}: .*{message}"):
        scorer.read_annotations(folder)


def test_each_of_several_annotation_sets_gets_a_folder_with_curves(tmp_path, two_of_three, capsys, no_curves):
    paths = [write_coco(tmp_path / name / "truth.json") for name in "ab"] + [write_coco(tmp_path / "visible.json")]
    run_kaist(paths, two_of_three, f"--output={tmp_path}/out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/*/*")} == {
        f"{name}/{file}" for name in ("truth", "truth-2", "visible") for file in ("miss_rate.png", "scores.json")
    }
    printed = capsys.readouterr().out
    assert [line for line in lines(printed) if line.endswith(".json")] == [str(path) for path in paths]
    assert printed.endswith(f"\n\nscores and curves: {tmp_path}/out\n")
    assert [title for _, title in no_curves] == [str(path) for path in paths]
    subsets = {name: panel["two.txt"].subset.name for name, panel in no_curves[0][0].items()}
    assert subsets == dict(zip(("all", "day", "night"), REASONABLE, strict=True))


def test_full_disk_ends_with_one_message_and_no_figure(tmp_path, two_of_three, capsys, monkeypatch):
    def full_disk(panels, path, title):
        path.write_bytes(b"half of a picture")
        raise OSError(28, "No space left on device")

    path, out = write_coco(tmp_path / "truth.json"), tmp_path / "out"
    monkeypatch.setattr(curves, "miss_rate_panels", full_disk)
    with pytest.raises(SystemExit):
        run_kaist(path, two_of_three, f"--output={out}")
    message = capsys.readouterr().err
    assert (
        message == f"error: {out} cannot be written to: No space left on device. Make room, or give another --output.\n"
    )
    assert [file.name for file in out.iterdir()] == ["scores.json"]


def test_nothing_is_written_if_one_set_cannot_be_scored(tmp_path, two_of_three, capsys):
    paths = [write_coco(tmp_path / "good.json"), write_coco(tmp_path / "short.json", IDS[:2])]
    assert "two.txt:2: image 3; expected 1..2" in fails(capsys, paths, two_of_three, f"--output={tmp_path}/out")
    assert not (tmp_path / "out").exists()
