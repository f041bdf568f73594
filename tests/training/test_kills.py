"""A run that is killed and started again ends, bit for bit, like a run that nobody killed.

Real processes of main.py train a teacher and its student. SIGKILL ends them at every kind of moment, see
killed_main.py, and at random ones.
"""

import random
import signal
import subprocess

import pytest
from training_cases import checkpoint_content, differences, end_of_run, finish, json_lines, start_main

pytestmark = pytest.mark.slow

# The workdirs of teacher and student within the command's, in the order in which they are trained.
RUNS = ("teacher", ".")
STEPS, SCORED_EVERY = 8, 4
SCORES_OF_A_RUN = STEPS // SCORED_EVERY

FLAGS = {"teacher.cfl.enabled": False, "teacher.fusion.grid": (2, 3), "teacher.fusion.hidden": 8}
for _prefix in ("", "teacher."):
    FLAGS |= {
        f"{_prefix}train.steps": STEPS,
        f"{_prefix}train.batch_size": 4,
        f"{_prefix}train.log_every_steps": 1,
        f"{_prefix}train.evaluate_every_epochs": SCORED_EVERY * 4 / 24,
        # High enough for the miss rate to move within a few steps.
        f"{_prefix}optimizer.learning_rate": 0.01,
        f"{_prefix}optimizer.warmup_steps": 2,
    }


def start(workdir, data_dir, *moment):
    script = " ".join(["tests/training/killed_main.py", *map(str, moment)]) if moment else "main.py"
    return start_main("student", workdir, FLAGS | {"data.data_dir": data_dir}, script=script)


def end_of(workdir):
    """Return what a command leaves, by name: those of both runs, and their comparison."""
    end = {f"{run}/{key}": value for run in RUNS for key, value in end_of_run(workdir / run).items()}
    return end | {f"comparison/{path.name}": path.read_bytes() for path in (workdir / "comparison").iterdir()}


def assert_clean(workdir):
    """Assert that nothing half written or half deleted is left."""
    for run in RUNS:
        steps = [line["step"] for line in json_lines(workdir / run / "validation.jsonl")]
        assert steps == list(range(SCORED_EVERY, STEPS + 1, SCORED_EVERY))
        left = [path for name in ("checkpoints", "best") for path in (workdir / run / name).iterdir()]
        assert [path.parent.name for path in left] == ["checkpoints", "checkpoints", "best"], left
        assert all(path.name.isdigit() and checkpoint_content(path) for path in left)
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or "partial" in path.name]


def test_killed_command_ends_bit_for_bit_like_one_never_killed(tmp_path):
    data_dir, workdir, undisturbed = tmp_path / "data", tmp_path / "killed", tmp_path / "undisturbed"
    status, out, err = finish(start(undisturbed, data_dir))
    assert status == 0, out + err
    # The comparison sees every part of a checkpoint.
    first, second = (
        checkpoint_content(undisturbed / "checkpoints" / str(step)) for step in (STEPS - SCORED_EVERY, STEPS)
    )
    assert first.keys() == second.keys()
    parts = {key.partition("[")[0].partition("/")[0] for key in differences(first, second)}
    assert parts == {"params", "optimizer", "data"}

    moments, rng = [], random.Random(0)
    for number in range(len(RUNS) * SCORES_OF_A_RUN):
        begins = number % SCORES_OF_A_RUN == 0
        moments += [("report", number)] * (begins and number > 0)
        moments += [("step", number), ("checkpoint", number), ("scores", number)]
        moments += [("best", number)] * begins  # the first scores are the best so far
    moments += [("report", len(RUNS) * SCORES_OF_A_RUN)]
    for moment in moments:
        # First at a random time, at the latest at the moment, which comes again.
        with start(workdir, data_dir, *moment) as process:
            try:
                process.wait(timeout=rng.uniform(0, 12))
            except subprocess.TimeoutExpired:
                process.kill()
        status, out, err = finish(start(workdir, data_dir, *moment))
        assert status == -signal.SIGKILL, (moment, out + err)
    status, out, err = finish(start(workdir, data_dir))
    assert status == 0, out + err
    assert not differences(end_of(workdir), end_of(undisturbed))
    assert_clean(workdir)
