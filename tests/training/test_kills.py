"""A run that is killed and started again ends, bit for bit, like a run that nobody killed.

Processes of main.py train a teacher and its student, and publish the student. SIGKILL ends them a hundred times: at
every kind of moment, see killed_main.py, and at random ones.
"""

import random
import signal

import pytest
from killed_main import Killed, training
from training_cases import checkpoint_content, differences, end_of_run, json_lines

pytestmark = pytest.mark.slow

# The workdirs of teacher and student within the command's, in the order in which they are trained.
RUNS = ("teacher", ".")
STEPS, SCORED_EVERY = 28, 4
SCORES_OF_A_RUN = STEPS // SCORED_EVERY
LONGEST = 4.0  # seconds until a kill at random; a start takes about as long

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


@pytest.fixture
def start(tmp_path):
    """Starts main.py with more arguments, which may kill itself at a moment."""
    return lambda arguments, moment=None: Killed(arguments, tmp_path / "log", moment)


def publishing(workdir):
    return ["--mode=publish", f"--checkpoint={workdir}", f"--output={workdir.with_name(f'{workdir.name}-published')}"]


def end_of(workdir):
    """Return what both commands leave, by name: both runs, their comparison, the published student."""
    end = {f"{run}/{key}": value for run in RUNS for key, value in end_of_run(workdir / run).items()}
    for folder in (workdir / "comparison", workdir.with_name(f"{workdir.name}-published")):
        end |= {f"{folder.name.removeprefix(workdir.name)}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    # The card names the time and the command of the start.
    return {name: value for name, value in end.items() if not name.endswith("-published/README.md")}


def assert_clean(workdir):
    """Assert that nothing half written or half deleted is left."""
    for run in RUNS:
        steps = [line["step"] for line in json_lines(workdir / run / "validation.jsonl")]
        assert steps == list(range(SCORED_EVERY, STEPS + 1, SCORED_EVERY))
        left = [path for name in ("checkpoints", "best") for path in (workdir / run / name).iterdir()]
        assert [path.parent.name for path in left] == ["checkpoints", "checkpoints", "best"], left
        assert all(path.name.isdigit() and checkpoint_content(path) for path in left)
    signs = ("tmp", "partial", "incomplete")
    left = [path for path in workdir.parent.rglob("*") if any(sign in path.name for sign in signs)]
    assert not left


def moments():
    """Return the moments, those of the training in the order in which a run meets them."""
    found = [("prepare", 0), ("config", 0)]
    for number in range(len(RUNS) * SCORES_OF_A_RUN):
        begins = number % SCORES_OF_A_RUN == 0
        found += [("report", number), ("config", number)] * (begins and number > 0)
        found += [("compile", number)] * begins
        found += [("step", number), ("checkpoint", number), ("scores", number)]
        found += [("best", number)] * begins  # the first scores are the best so far
    return [*found, ("report", len(RUNS) * SCORES_OF_A_RUN)], [("publish", len(RUNS) * SCORES_OF_A_RUN)]


def test_killed_commands_end_bit_for_bit_like_those_never_killed(tmp_path, start):
    workdir, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for command in (training(undisturbed, "student", FLAGS), publishing(undisturbed)):
        status, out = start(command).finish()
        assert status == 0, out
    # The comparison sees every part of a checkpoint.
    first, second = (
        checkpoint_content(undisturbed / "checkpoints" / str(step)) for step in (STEPS - SCORED_EVERY, STEPS)
    )
    assert first.keys() == second.keys()
    parts = {key.partition("[")[0].partition("/")[0] for key in differences(first, second)}
    assert parts == {"params", "optimizer", "data"}

    kills, rng = 0, random.Random(0)
    for command, its_moments in zip((training(workdir, "student", FLAGS), publishing(workdir)), moments(), strict=True):
        for moment in its_moments:
            # First at a random time, at the latest at the moment, which comes again.
            process = start(command, moment)
            process.kill_after(rng.uniform(0, LONGEST))
            status, out = process.finish()
            assert status == -signal.SIGKILL, (moment, out)
            status, out = start(command, moment).finish()
            assert status == -signal.SIGKILL, (moment, out)
            kills += 2
        status, out = start(command).finish()
        assert status == 0, out
    assert kills >= 100
    assert not differences(end_of(workdir), end_of(undisturbed))
    assert_clean(workdir)
