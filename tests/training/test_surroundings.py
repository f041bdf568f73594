"""Real processes of main.py on disks that fail or are slow, in other locales and time zones, and on a wild clock.

Each failure ends in exit code 1 and one message. What was finished stays, and the same command ends, bit for bit, like
one that nothing disturbed.
"""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from disk_faults import build_disk
from training_cases import ROOT, differences, end_of_run, finish, json_lines, start_main, write_pairs

pytestmark = pytest.mark.slow

FLAGS = {
    **{"train.steps": 8, "train.batch_size": 4, "train.log_every_steps": 1, "train.evaluate_every_epochs": 4 * 4 / 24},
    # High enough for the miss rate to move within a few steps.
    **{"optimizer.learning_rate": 0.01, "optimizer.warmup_steps": 2},
}
ARRAYS = "params.orbax-checkpoint-tmp/ocdbt.process_0/d/"
REPAIR = "see that its disk or network works"

# What is written when the disk fails; how it fails (0: it is gone and comes back); the message, if always the same one
# of several failed writes is told, or else the reason; and what must be there afterwards.
FAILURES = [
    (".config.partial", errno.EACCES, "W/.config.partial.json: Permission denied; change its permissions", ""),
    ("checkpoints/4.", errno.ENOSPC, "W/checkpoints: No space left on device. It holds none yet; make room", ""),
    (f"checkpoints/4.orbax-checkpoint-tmp/{ARRAYS}", errno.EIO, "Input/output error", ""),
    ("best/4.", errno.EROFS, "Read-only file system", "checkpoints"),
    ("validation.jsonl", errno.ESTALE, f"W/validation.jsonl: Stale file handle; {REPAIR}", "checkpoints/4 best/4"),
    ("metrics.jsonl", 0, f"W/metrics.jsonl: No such file or directory; {REPAIR}", "checkpoints/4 best/4"),
    ("checkpoints/8.", 0, f"Finished checkpoints are kept; {REPAIR}", "checkpoints/4 best/4 validation.jsonl"),
    (f"checkpoints/8.orbax-checkpoint-tmp/{ARRAYS}", errno.EDQUOT, "Disk quota exceeded", "checkpoints/4 best/4"),
    ("miss_rate.png", errno.ENOTCONN, "Transport endpoint is not connected", "checkpoints/8"),
    ("report.partial.html", errno.ENOSPC, "report.partial.html: No space left on device; make room", "checkpoints/8"),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return build_disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def without_progress(ended):
    """Return exit code, standard output and standard error without the lines of long work on a slow machine."""
    status, out, err = ended
    return status, out, "".join(line for line in err.splitlines(keepends=True) if " so far, " not in line)


def train(workdir, data_dir, variables=None, script="main.py"):
    """Return exit code, standard output and standard error."""
    flags = FLAGS | {"data.data_dir": data_dir}
    return without_progress(finish(start_main("baseline", workdir, flags, variables=variables, script=script)))


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, out, err = train(workdir, data_dir)
    assert (status, err) == (0, ""), out + err
    (workdir / "printed.txt").write_text(out)
    return workdir


def assert_one_message(ended, reason):
    status, out, err = ended
    assert status == 1, out + err
    assert err.startswith("error: "), err
    assert err.endswith("\n"), err
    assert err.count("\n") == 1, err
    assert reason in err


def test_run_on_a_failing_disk_ends_like_one_never_disturbed(undisturbed, data_dir, disk, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    for trigger, number, reason, kept in FAILURES:
        ended = train(workdir, data_dir, disk(workdir, trigger=trigger, errno=number))
        assert_one_message(ended, reason.replace("W/", f"{workdir}/"))
        assert "then give the same command again." in ended[2]
        away = tmp_path / "run.away"
        if number == 0:
            assert not workdir.exists()  # nothing is written where the disk was
            away.rename(workdir)
        for name in kept.split():
            assert (workdir / name).exists(), (trigger, name)
    # The last start is on a disk without locks.
    status, out, err = train(workdir, data_dir, disk(workdir, locks=errno.ENOLCK))
    assert status == 0, out + err
    assert err == ""
    assert f"warning: {workdir} cannot be locked (No locks available)" in out
    assert not differences(end_of_run(workdir), end_of_run(undisturbed))
    assert [line["step"] for line in json_lines(workdir / "validation.jsonl")] == [4, 8]
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or "partial" in path.name]


# The mode, what is written when the disk fails, how it fails, the message, and the files that stay.
OUTPUTS = [
    ("publish", "/.tmp", errno.ENOSPC, "No space left on device. Make room", None),
    ("publish", "README.md", errno.EDQUOT, "Disk quota exceeded. Make room", None),
    ("export", "detector.jax", errno.ENOSPC, "No space left on device. Make room", None),
    ("detect", "annotated", errno.EDQUOT, "Disk quota exceeded. The results of 0 of 1 images are kept. Make room", {}),
    ("detect", "results.partial", errno.ENOSPC, "The results of 0 of 4 images are kept. Make room", {"annotated"}),
]


@pytest.mark.parametrize(("mode", "trigger", "number", "reason", "left"), OUTPUTS)
def test_output_folder_on_a_failing_disk(undisturbed, disk, tmp_path, mode, trigger, number, reason, left):
    output = tmp_path / "out"
    command = [sys.executable, "main.py", f"--mode={mode}", f"--checkpoint={undisturbed}", f"--output={output}"]
    if mode == "detect":
        command.append(f"--input={write_pairs(tmp_path, 4)}/rgb/street")
    variables = os.environ | disk(output, trigger=trigger, errno=number)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    ended = without_progress(finish(subprocess.Popen(command, cwd=ROOT, env=variables, **pipes)))
    assert_one_message(ended, reason)
    assert ended[2].startswith(f"error: {output} cannot be written to: ")
    assert ended[2].endswith(", or give another --output.\n")
    assert output.exists() == (left is not None)
    assert not output.exists() or {path.name for path in output.iterdir()} == set(left)


def test_preparation_on_a_full_disk_leaves_no_data_set(disk, tmp_path):
    data_dir = tmp_path / "data"
    ended = train(tmp_path / "run", data_dir, disk(data_dir, trigger="array_record", errno=errno.ENOSPC))
    assert_one_message(ended, "No space left on device. Make room, or give another config.data.data_dir.")
    assert not [path for path in data_dir.rglob("*") if path.suffix == ".json" or "array_record" in path.name]


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """Environment variables by name: ASCII, and Turkish, in which an i has a dot in capitals too."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", folder / "tr_TR.UTF-8"], check=False)
    return {
        "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu"},
        "turkish": {"LC_ALL": "tr_TR.UTF-8", "LOCPATH": str(folder), "TZ": "America/St_Johns"},
    }


def without_times(printed, workdir):
    """Return the lines that two equal runs print alike."""
    lines = printed.replace(str(workdir), "WORKDIR").splitlines()
    return [
        line for line in lines if " images/s, " not in line and "compiled in" not in line and "preparing" not in line
    ]


# The locale, the script, and the time that the disk takes for each write.
MACHINES = [("ascii", "tests/training/jumping_clock_main.py", 0), ("turkish", "main.py", 200)]


@pytest.mark.parametrize(("name", "script", "sleep_ms"), MACHINES)
def test_run_is_the_same_in_every_locale_and_time(
    undisturbed, data_dir, disk, locales, tmp_path, name, script, sleep_ms
):
    workdir = tmp_path / "run"
    status, out, err = train(workdir, data_dir, locales[name] | disk(workdir, sleep_ms=sleep_ms), script)
    assert (status, err) == (0, ""), out + err
    printed = (undisturbed / "printed.txt").read_text()
    assert without_times(out, workdir) == without_times(printed, undisturbed)
    assert not differences(end_of_run(workdir), end_of_run(undisturbed))


def test_scores_are_the_same_in_every_locale(undisturbed, data_dir, locales, tmp_path):
    (annotations,) = data_dir.glob("synthetic_rgbt/*/*/")
    results = undisturbed / "evaluation" / "results.json"
    command = [sys.executable, "-m", "dcrl_jax.evaluation.coco", f"--annotations={annotations}", f"--results={results}"]
    printed = {
        name: subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=True, capture_output=True)
        for name, variables in (locales | {"own": {}}).items()
    }
    assert printed["own"].stdout
    assert printed["own"].stderr == b""
    for name in locales:
        assert (printed[name].stdout, printed[name].stderr) == (printed["own"].stdout, b"")
