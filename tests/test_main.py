"""The command line: what a user's mistake looks like."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def assert_refused(result, *parts):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


def write_msrs(folder, visible=True, label="0 0.5 0.5 0.2 0.4\n"):
    """A folder in the layout of MSRS with one pair in each split."""
    for split in ("train", "test"):
        for modality in ("vi", "ir"):
            (folder / split / modality).mkdir(parents=True)
            cv2.imwrite(str(folder / split / modality / "00001D.png"), np.full((32, 40, 3), 90, np.uint8))
        (folder / "labels" / "fusion" / split).mkdir(parents=True)
        (folder / "labels" / "fusion" / split / "00001D.txt").write_text(label)


def msrs(tmp_path, *arguments, recipe="teacher"):
    return run(
        f"--config=configs/{recipe}.py:msrs",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.manual_dir={tmp_path / 'msrs'}",
        f"--config.data.data_dir={tmp_path / 'prepared'}",
        *arguments,
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.train.batch_size=many", "--config.train.batch_size=many: invalid literal for int()"),
        ("--config.role=student", "config.role is the recipe's; take configs/teacher.py"),
    ],
)
def test_bad_flag_is_one_message_without_a_stack_trace(argument, message, tmp_path):
    result = run("--config=configs/teacher.py:synthetic", f"--workdir={tmp_path / 'run'}", argument)
    assert_refused(result, message)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_key_that_the_recipe_would_never_read_is_refused_before_anything_is_written(tmp_path):
    given = ("--config.optimizer.momentum=0.5", "--config.teacher.optimizer.momentum=0.5")
    result = msrs(tmp_path, *given, recipe="student")
    assert_refused(result, "config.optimizer.momentum has no effect", "config.teacher.optimizer.momentum has no effect")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_command_without_a_workdir_prints_its_own_first_and_writes_nothing_where_data_is_missing(tmp_path, mode):
    environment = os.environ | {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    environment.pop("JAX_COMPILATION_CACHE_DIR")
    (tmp_path / "here").mkdir()
    result = subprocess.run(
        [sys.executable, ROOT / "main.py", f"--config={ROOT / 'configs/student.py'}", f"--mode={mode}"],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout.splitlines()[0] == "workdir: runs/student"
    expected = ["--config.data.manual_dir=FOLDER", "huggingface.co"] if mode == "train" else ["runs/student holds no"]
    assert_refused(result, *expected)
    assert not any((tmp_path / "here").iterdir())
    assert not (tmp_path / "home" / "tensorflow_datasets").exists()


@pytest.mark.parametrize("platform", ["cuda", "gpu"])
def test_platform_that_is_not_there_is_one_message(platform, tmp_path):
    result = subprocess.run(
        [sys.executable, "main.py", "--config=configs/teacher.py:synthetic", f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert_refused(result, f"JAX_PLATFORMS={platform}, and JAX cannot use such a device here", "JAX_PLATFORMS=cpu")
    assert not any(tmp_path.iterdir())


def test_values_that_mean_nothing_are_named_together_before_anything_is_written(tmp_path):
    result = msrs(tmp_path, "--config.cfl.aggregation=sum", "--config.train.batch_size=0")
    assert_refused(result, "config.cfl.aggregation is 'sum'", "config.train.batch_size is 0")
    assert not any(tmp_path.iterdir())


def test_student_s_faults_are_named_together_before_its_teacher_is_trained(tmp_path):
    arguments = ("--config.distillation.zeta=1.5", "--config.distillation.temperature=0")
    result = msrs(tmp_path, *arguments, recipe="student")
    assert_refused(result, "config.distillation.zeta is 1.5", "config.distillation.temperature is 0")
    assert not any(tmp_path.iterdir())


def test_teacher_that_is_not_there_is_named_before_anything_is_written(tmp_path):
    result = msrs(tmp_path, f"--config.teacher.checkpoint={tmp_path / 'nothing'}", recipe="student")
    assert_refused(result, f"{tmp_path / 'nothing'} holds no checkpoint")
    assert not any(tmp_path.iterdir())


def test_size_that_the_stride_does_not_divide(tmp_path):
    assert_refused(msrs(tmp_path, "--config.data.height_px=130"), "130", "stride, 8 px", "128 or 136")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["teacher", "student", "baseline"])
def test_missing_data_folder(tmp_path, recipe):
    assert_refused(msrs(tmp_path, recipe=recipe), str(tmp_path / "msrs"), "Expected layout")
    assert not (tmp_path / "prepared").exists() or not list((tmp_path / "prepared").rglob("*.array_record*"))


def test_every_faulty_file_is_named_in_one_message(tmp_path):
    folder = tmp_path / "msrs"
    write_msrs(folder)
    (folder / "train" / "ir" / "00001D.png").write_bytes(b"not an image")
    (folder / "labels" / "fusion" / "train" / "00001D.txt").write_text("0 0.5 half 0.2 0.4\n")
    (folder / "labels" / "fusion" / "test" / "00001D.txt").write_text("0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.0 0.4\n")
    result = msrs(tmp_path)
    assert_refused(result, "ir/00001D.png", "train/00001D.txt", "half", "test/00001D.txt", "2")
    assert not list((tmp_path / "prepared").rglob("*.array_record*"))


def test_checkpoint_that_is_not_there(tmp_path):
    result = msrs(tmp_path, "--mode=eval", f"--checkpoint={tmp_path / 'nothing'}")
    assert_refused(result, f"{tmp_path / 'nothing'} holds no checkpoint")


def test_detection_of_an_unknown_checkpoint_is_refused_and_nothing_is_written(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 40, 3), np.uint8))
    arguments = [f"--{name}={tmp_path / value}" for name, value in {"input": "a.png", "output": "out"}.items()]
    assert_refused(run("--mode=detect", f"--checkpoint={tmp_path}", *arguments), f"{tmp_path} holds no checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
