"""The command line: flags, errors and exit codes."""

import os
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from dcrl_jax import command_line
from dcrl_jax.errors import InputError, Preempted

FULL, DENIED = "No space left on device; make room", "Permission denied; change its permissions"
AGAIN = ", then give the same command again.\n"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("no images."), 1, "error: no images.\n"),
        (PermissionError(13, "Permission denied", "/out"), 1, f"error: /out: {DENIED}{AGAIN}"),
        (OSError(28, "No space left on device"), 1, f"error: runs/a or standard output: {FULL}{AGAIN}"),
        (ValueError("RESOURCE_EXHAUSTED: /a/b: No space left on device\nb"), 1, f"error: /a/b: {FULL}{AGAIN}"),
        (OSError(98, "Address already in use"), 1, "error: runs/a or standard output: Address already in use\n"),
        (MemoryError(), 1, "error: memory ran out: Python could not allocate\n"),
        (RuntimeError("RESOURCE_EXHAUSTED: 5 bytes"), 1, "error: memory ran out: RESOURCE_EXHAUSTED: 5 bytes\n"),
        (KeyboardInterrupt(), 130, ""),
        (Preempted(), 75, ""),
    ],
    ids=["mistake", "file", "disk", "library", "system", "python's memory", "jax's memory", "interrupt", "pre-emption"],
)
def test_process_ends_with_a_status_and_one_message(capsys, monkeypatch, error, status, message):
    monkeypatch.setattr(command_line.os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end, command_line.exit_on_error("runs/a"):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == message


def test_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError), command_line.exit_on_error(None):
        raise ZeroDivisionError


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("flush", [True, False], ids=["while it works", "at the end"])
def test_output_to_a_full_disk_is_one_message(flush):
    code = f"from dcrl_jax.command_line import exit_on_error\nwith exit_on_error(): print('x', flush={flush})"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, encoding="utf-8")
    assert (ended.returncode, ended.stderr) == (1, f"error: standard output: {FULL}{AGAIN}")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_name_that_the_locale_cannot_show_is_escaped(locale):
    code = "from dcrl_jax.command_line import exit_on_error\nwith exit_on_error(): print('caf\\xe9 \\udcff')"
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment)
    assert output == {"C": b"caf\\xe9 \\udcff\n", "C.UTF-8": b"caf\xc3\xa9 \\udcff\n"}[locale]


def test_only_traces_of_late_writes_and_of_discarded_signals_are_dropped(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    with command_line.exit_on_error():
        errors = (
            KeyboardInterrupt(),
            Preempted(),
            RuntimeError("Event loop is closed"),
            RuntimeError("of the program"),
        )
        for error in errors:
            sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert [str(unraisable.exc_value) for unraisable in shown] == ["of the program"]
    assert sys.unraisablehook == shown.append


def test_only_warnings_of_writes_that_nobody_awaits_are_dropped():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with command_line.exit_on_error():
            pass
        for text in ("coroutine 'serialize.<locals>.write' was never awaited", "of the program"):
            warnings.warn(text, RuntimeWarning, stacklevel=1)
    assert [str(each.message) for each in shown] == ["of the program"]


def test_sigterm_is_a_preemption(monkeypatch):
    monkeypatch.setattr(command_line.os, "_exit", sys.exit)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, command_line.exit_on_error():
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is former


@pytest.mark.parametrize(
    ("recipe", "workdir"),
    [
        ("configs/student.py", "runs/student"),
        ("/somewhere/configs/student.py:synthetic", "runs/student-synthetic"),
        ("configs/teacher.py:kaist/mlpd", "runs/teacher-kaist-mlpd"),
        ("configs/ablations.py:table4/cls+bbr", "runs/table4-cls+bbr"),
        ("configs/ablations.py:table2/without-sfl:msrs", "runs/table2-without-sfl-msrs"),
        ("configs/finetune.py:caltech/dcrd", "runs/finetune-caltech-dcrd"),
    ],
)
def test_workdir_is_named_after_the_recipe(recipe, workdir):
    assert command_line.default_workdir(recipe) == workdir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.heigt_px=64"], "error: the config has no key 'heigt_px'. Did you mean \"height_px\" instead"),
        (["--config.train.batch_size=many"], "--config.train.batch_size=many: invalid literal for int()"),
        (
            ["--config=configs/teacher.py:moon"],
            "kaist/mlpd, synthetic, msrs, folder, llvip, flir-aligned, cvc14, m3fd, not 'moon'",
        ),
        (
            ["--config=configs/student.py:moon"],
            "kaist/mlpd, synthetic, msrs, folder, llvip, flir-aligned, cvc14, m3fd, not 'moon'",
        ),
        (["--config=configs/ablations.py:table9/x"], "no ablation is called 'table9/x'; python -m configs.ablations"),
        (["--config.distillation.zeta=0.5"], "error: the config has no key 'distillation'"),
        (["--config=configs/nobody.py"], "No such file or directory: 'configs/nobody.py'"),
        (["--mode=fly"], "argument --mode: invalid choice: 'fly'"),
        (["--speed=9"], "error: Unknown command line flag 'speed'"),
        (["fast"], "error: unexpected arguments: fast"),
        (["--input=images"], "error: --mode=train does not take --input\n"),
        (["--checkpoint=runs/a"], "not take --checkpoint; to start from one: --config.init.checkpoint=PATH\n"),
        (["--workdir="], "argument --workdir: is empty; it must name a file or a folder\n"),
        (["--distributed=auto"], "error: --distributed needs --workdir, a folder that all processes see\n"),
        (["--mode=detect"], "error: --mode=detect needs --checkpoint and --input and --output\n"),
        (["--mode=export", "--output=out"], "error: --mode=export needs --checkpoint\n"),
        (["--mode=detect", "--allow_missing"], "needs --checkpoint and --input and --output\n"),
        (["--mode=detect", "--allow_missing", "--lwir=a"], "error: --mode=detect needs --checkpoint and --output\n"),
        (["--mode=detect", "--lwir=a"], "error: --mode=detect needs --checkpoint and --input and --output\n"),
        (
            ["--mode=publish", "--checkpoint=a", "--output=b", "--lwir_to_visible=stretch"],
            "does not take --config and --lwir_to_visible\n",
        ),
        (["--mode=detect", "--min_score=2"], "argument --min_score: 2 is not in 0..1\n"),
        (["--mode=detect", "--lwir_offset_s=nan"], "argument --lwir_offset_s: nan is not a finite number of seconds\n"),
    ],
)
def test_bad_flag_is_one_message(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.parse_main("Train.", ["--config=configs/teacher.py:synthetic", *arguments])
    assert end.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_mode_needs_its_config(mode, capsys):
    with pytest.raises(SystemExit):
        command_line.parse_main("Train.", [f"--mode={mode}"])
    assert capsys.readouterr().err == f"error: --mode={mode} needs --config\n"


def test_flags_are_parsed(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    arguments = ["--config=configs/teacher.py:synthetic", "--config.train.steps=9", "--config.seed", "3"]
    options = command_line.parse_main("Train.", arguments)
    assert options.config.is_locked
    assert (options.mode, options.config.train.steps, options.config.seed) == ("train", 9, 3)
    assert options.overrides == {"train.steps": 9, "seed": 3}
    assert options.workdir == "runs/teacher-synthetic"
    arguments = ["--mode=detect", "--checkpoint=~/run", "--input", "a.jpg", "--output=out", "--lwir_offset_s", "-0.5"]
    options = command_line.parse_main("Train.", arguments)
    assert (options.checkpoint, options.input, options.lwir) == ("/home/somebody/run", "a.jpg", None)
    assert (options.lwir_to_visible, options.allow_missing) == (None, None)
    assert (options.config, options.overrides, options.min_score, options.lwir_offset_s) == (None, {}, 0.5, -0.5)


def test_processes_share_all_of_their_command_but_folders_of_data():
    arguments = ["--config=configs/baseline.py:synthetic", "--workdir=w", "--config.seed=7", "--config.data.data_dir=d"]
    values = command_line.shared_values(command_line.parse_main("", arguments))
    assert (values["--mode"], values["--workdir"], values["--config.seed"]) == ("'train'", "'w'", "7")
    assert values["--config.data.options.height_px"] == "96"
    assert not [key for key in values if key.endswith("_dir") or values[key] == "'d'"]
