"""main.py: each mode reports a mistake in one message, before it writes anything."""

import os
import pathlib
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

import main

ROOT = pathlib.Path(__file__).parents[1]


def assert_refused(capsys, arguments, *parts):
    """Run main.py within this process, and return what it printed."""
    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert signal.getsignal(signal.SIGINT) is former
    printed = capsys.readouterr()
    assert end.value.code == 1
    assert printed.err.startswith("error: ")
    for part in parts:
        assert part in printed.err
    return printed.out


@pytest.mark.parametrize(
    ("recipe", "flags", "parts"),
    [
        ("teacher", ["--config.role=student"], ["config.role is the recipe's; take configs/teacher.py"]),
        (
            "student",
            ["--config.optimizer.momentum=0.5", "--config.teacher.optimizer.momentum=0.5"],
            ["config.optimizer.momentum has no effect", "config.teacher.optimizer.momentum has no effect"],
        ),
        ("teacher", ["--config.cfl.aggregation=sum"], ["config.cfl.aggregation is 'sum'"]),
        ("student", ["--config.distillation.zeta=1.5"], ["config.distillation.zeta is 1.5"]),
        ("teacher", ["--config.data.height_px=490"], ["490", "stride, 8 px", "488 or 496"]),
        ("student", [], ["DIR/msrs", "Expected layout"]),
        ("teacher", ["--mode=eval", "--checkpoint=DIR/nothing"], ["DIR/nothing holds no checkpoint"]),
    ],
    ids=["role", "unread", "value", "student", "size", "data", "eval"],
)
def test_mistake_is_one_message_and_nothing_is_written(recipe, flags, parts, tmp_path, capsys):
    arguments = [f"--config=configs/{recipe}.py:msrs", "--workdir=DIR/run", "--config.data.data_dir=DIR/prepared"]
    arguments += ["--config.data.manual_dir=DIR/msrs", *flags]
    arguments, parts = ([text.replace("DIR", str(tmp_path)) for text in texts] for texts in (arguments, parts))
    assert_refused(capsys, arguments, *parts)
    assert not any(tmp_path.iterdir())


def test_file_with_a_registration_is_read_at_the_start(tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from configs import teacher\n\ndef get_config():\n    config = teacher.get_config('msrs')\n"
        "    config.data.options.lwir_to_visible = 'calib/H.txt'\n    return config\n"
    )
    arguments = [f"--config={recipe}", "--workdir=run", "--config.data.manual_dir=DIR"]
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, arguments, "config.data.options.lwir_to_visible DIR/calib/H.txt: No such file")
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["recipe.py"]


@pytest.mark.parametrize(
    ("mode", "parts"),
    [("train", ["--config.data.manual_dir=FOLDER", "huggingface.co"]), ("eval", ["runs/student holds no"])],
)
def test_default_workdir_is_printed_first(mode, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = [f"--config={ROOT / 'configs/student.py'}", f"--mode={mode}"]
    assert assert_refused(capsys, arguments, *parts).startswith("workdir: runs/student\n")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["detect", "export", "publish", "benchmark"])
def test_mode_needs_a_checkpoint_that_exists(mode, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 40, 3), np.uint8))
    arguments = [f"--mode={mode}", f"--checkpoint={tmp_path}"]
    arguments += [f"--input={tmp_path}/a.png"] * (mode == "detect") + [f"--output={tmp_path}/out"] * (
        mode != "benchmark"
    )
    assert_refused(capsys, arguments, f"{tmp_path} holds no checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_detection_that_leaves_files_out_ends_with_status_1(monkeypatch):
    monkeypatch.setattr(main, "load", lambda options: lambda: options.input != "broken.png")
    arguments = ["--mode=detect", "--checkpoint=run", "--output=out", "--input=good.png"]
    main.main(arguments)
    with pytest.raises(SystemExit) as end:
        main.main([*arguments[:-1], "--input=broken.png"])
    assert end.value.code == 1


def test_process_without_its_platform_ends_with_one_message(tmp_path):
    result = subprocess.run(
        [sys.executable, "main.py", "--config=configs/teacher.py:synthetic", f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: JAX_PLATFORMS=cuda, and JAX cannot use such a device here")
    assert "JAX_PLATFORMS=cpu" in result.stderr
    assert "Traceback" not in result.stderr
    assert not any(tmp_path.iterdir())
