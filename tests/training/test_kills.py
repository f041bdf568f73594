"""A run that is killed and started again ends, bit for bit, where the run that nobody killed ends.

Real processes of main.py that train a teacher and its student, ended by SIGKILL, which lets them clean up nothing. Here
one run is killed four times, where held_main.py holds it; the long form kills one more than twenty times, nowhere held,
and prints what each kill hit:

    python -m pytest -m slow -s tests/training/test_kills.py
"""

import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dcrl_jax import checkpoints

ROOT = pathlib.Path(__file__).parents[2]

# The workdirs of teacher and student within the command's, in the order in which they are trained.
RUNS = ("teacher", ".")
STEPS, SCORED_EVERY = 12, 3
SCORES_OF_A_RUN = STEPS // SCORED_EVERY

PATIENCE_S = 900  # with one start

# What a kill can hit: a checkpoint, the best parameters or a report half written, scores being taken, all the rest.
CHECKPOINT, BEST, REPORT, SCORES, OTHER = "checkpoint", "best", "report", "scores", "other"

# What a report has in the end, besides results.txt, which is written first.
REPORT_FILES = ("results.json", "images.txt", "scores.json", "report.html", "miss_rate.png", "panel.png")

# Tiny images and a network whose programs take little time to trace: that is most of what a start takes.
OVERRIDES = {
    "data.options.height_px": 32,
    "data.options.width_px": 40,
    "data.options.train": 24,
    "data.options.validation": 16,
    "data.options.test": 5,
    "data.height_px": 32,
    "data.width_px": 40,
    "backbone.width": 1 / 32,
    "backbone.norm": "none",
    "segmentation.stages": (),
    "teacher.cfl.enabled": False,
    "teacher.fusion.grid": (2, 3),
    "teacher.fusion.hidden": 8,
    "anchors.per_cell": 3,
    "rpn.sampled": 24,
    "rpn.max_positive": 8,
    "rpn.before_nms": 40,
    "rpn.kept_training": 20,
    "rpn.kept_testing": 40,
    "roi.size": 3,
    "roi.sampled": 8,
    "roi.max_positive": 4,
    "roi.hidden": 8,
    "loss.per_branch_weight": 0.0,
    "eval.batch_size": 16,
    "eval.min_height_px": 8.0,
}
for _prefix in ("", "teacher."):
    OVERRIDES |= {
        f"{_prefix}train.steps": STEPS,
        f"{_prefix}train.batch_size": 4,
        f"{_prefix}train.log_every_steps": 1,
        f"{_prefix}train.evaluate_every_epochs": SCORED_EVERY * 4 / 24,
        # High enough for the miss rate to move within a dozen steps.
        f"{_prefix}optimizer.learning_rate": 0.01,
        f"{_prefix}optimizer.warmup_steps": 2,
    }


class Start:
    """One start of the command in a process of its own; the next one in the same workdir goes on."""

    def __init__(self, workdir, data_dir, save_every_step=False, held_at=()):
        self.workdir = workdir
        self._before = stamps(workdir)
        self._log = workdir.with_name(f"{workdir.name}.log")
        minutes = {f"{prefix}train.checkpoint_every_minutes": 1e-6 for prefix in ("", "teacher.") if save_every_step}
        settings = OVERRIDES | {"data.data_dir": data_dir} | minutes
        script = ["tests/training/held_main.py", *map(str, held_at)] if held_at else ["main.py"]
        command = [sys.executable, *script, "--config=configs/student.py:synthetic", f"--workdir={workdir}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        # The cache is that of the tests, see conftest.py; here it keeps small programs too: every start needs them.
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def printed(self):
        return self._log.read_text(errors="replace")

    def finish(self):
        """Waits for the end, which has to be a good one."""
        assert self.process.wait(timeout=PATIENCE_S) == 0, self.printed()[-3000:]

    def does(self):
        """What it is at, or was at when it was killed."""
        place, score = divmod(lines_written(self.workdir), SCORES_OF_A_RUN)
        now = stamps(self.workdir)
        changed = {path for path in now if now[path] != self._before.get(path)}
        reports = {path.parent for path in changed if path.name == "results.txt"}
        if any(not {folder / name for name in REPORT_FILES} <= changed for folder in reports):
            return REPORT
        # What lies about before a run says its seed is from an earlier start.
        if place == len(RUNS) or "\nseed " not in self.printed().partition(f"step {place + 1} of 2: ")[2]:
            return OTHER
        halves = {path.parent.name for path in changed if path in half_written(self.workdir)}
        if checkpoints.BEST_FOLDER in halves:
            return BEST
        if checkpoints.RESUME_FOLDER in halves:
            return CHECKPOINT
        due = self.workdir / RUNS[place] / checkpoints.RESUME_FOLDER / str(SCORED_EVERY * (score + 1))
        return SCORES if due.is_dir() else OTHER


def half_written(workdir):
    """Orbax's folders of checkpoints that are not finished."""
    folders = [workdir / run / name for run in RUNS for name in (checkpoints.RESUME_FOLDER, checkpoints.BEST_FOLDER)]
    return [path for folder in folders for path in folder.glob("*tmp*")]


def stamps(workdir):
    """When each half-written folder and each file of a report last changed."""
    paths = half_written(workdir) + [path for run in RUNS for path in (workdir / run / "evaluation").glob("[!.]*")]
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # finished or deleted in the meantime
            found[path] = path.stat().st_ctime_ns
    return found


def lines_written(workdir):
    """How often scores were taken and put on record, in both runs together."""
    files = [workdir / run / "validation.jsonl" for run in RUNS]
    return sum(path.read_text().count("\n") for path in files if path.is_file())


def kill_at(start, wanted, number, rng):
    """Kills a start when it is at what is wanted and ``number`` scores or more are on record; says what the kill hit.

    OTHER stands for a random time after a random line of the start's output. With the next scores on record the moment
    is missed, and the start killed all the same: the plan needs something of the run to be left.

    Returns:
        A kind of kill; None if the start came to its end first.
    """
    lines, delay = int(rng.integers(12)), rng.uniform(0.0, 0.5)
    deadline = time.monotonic() + PATIENCE_S
    while start.process.poll() is None:
        assert time.monotonic() < deadline, start.printed()[-3000:]
        on_record = lines_written(start.workdir)
        if wanted == OTHER and on_record == number and start.printed().count("\n") >= lines:
            time.sleep(delay)
        if on_record > number or (on_record == number and start.does() == wanted):
            # Held, since it may be done with it by now; what it is at is then what the kill hits.
            start.process.send_signal(signal.SIGSTOP)
            if lines_written(start.workdir) > number or start.does() == wanted:
                start.process.kill()
            else:
                start.process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    code = start.process.wait()
    assert code in (0, -signal.SIGKILL), start.printed()[-3000:]
    return None if code == 0 else start.does()


def killed_run(workdir, data_dir, plan, rng, held=False):
    """Runs the command to its end with kills on the way.

    Args:
        workdir: of the command.
        data_dir: with the prepared data.
        plan: pairs of what to hit, and how many scores are to be on record before.
        rng: of NumPy.
        held: whether a start is held where it is to be hit; else what is over in moments can be missed.

    Returns:
        A pair for every kill: what it hit, and how many scores were on record.
    """
    hits = []
    for wanted, number in plan:
        # With more on record, waiting for the same at a later time would pass over what is planned before that.
        if lines_written(workdir) > number:
            continue
        held_at = (wanted, number) if held and wanted in (CHECKPOINT, SCORES) else ()
        # Checkpoints at other steps than the next start's: nobody else would clear away their remains.
        with Start(workdir, data_dir, save_every_step=bool(rng.integers(2)), held_at=held_at) as start:
            hit = kill_at(start, wanted, number, rng)
        if hit is None:
            return hits
        hits.append((hit, lines_written(workdir)))
    with Start(workdir, data_dir) as start:
        start.finish()
    return hits


def checkpoint(folder):
    """Every array of a checkpoint with its type, and the files of the data iterator's state, by name."""
    content = {}
    for item in ("params", "optimizer"):
        if not (folder / item).is_dir():
            continue
        with ocp.StandardCheckpointer() as reader:
            restored = reader.restore(folder / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(restored)):
            array = np.asarray(leaf)
            content[f"{item}{jax.tree_util.keystr(path)}"] = (array.dtype, array.shape, array.tobytes())
    return content | {f"data/{path.name}": path.read_bytes() for path in folder.glob("data/*.json")}


def end_of(workdir):
    """All that a run comes to: newest checkpoint, best parameters, records and reports of both networks, by name."""
    end = {}
    for run in RUNS:
        for name in (checkpoints.RESUME_FOLDER, checkpoints.BEST_FOLDER):
            step = checkpoints.newest_step(workdir / run / name)
            content = checkpoint(workdir / run / name / str(step))
            end |= {f"{run}/{name}/{step}/{key}": value for key, value in content.items()}
        files = [workdir / run / "validation.jsonl", *(workdir / run / "evaluation").iterdir()]
        end |= {f"{run}/{path.relative_to(workdir / run)}": path.read_bytes() for path in files}
    return end | {f"comparison/{path.name}": path.read_bytes() for path in (workdir / "comparison").iterdir()}


def differences(first, second):
    return sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))


def assert_ends_like(workdir, undisturbed):
    differing = differences(end_of(workdir), end_of(undisturbed))
    assert not differing
    for run in RUNS:
        steps = [json.loads(line)["step"] for line in (workdir / run / "validation.jsonl").read_text().splitlines()]
        assert steps == list(range(SCORED_EVERY, STEPS + 1, SCORED_EVERY))
        # Nothing half written or half deleted is left: two checkpoints and the best parameters, all whole.
        left = [path for name in ("checkpoints", "best") for path in (workdir / run / name).iterdir()]
        assert [path.parent.name for path in left] == ["checkpoints", "checkpoints", "best"], left
        for path in left:
            assert path.name.isdigit()
            assert checkpoint(path)
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or "partial" in path.name]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of prepared data, and the workdir of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Start(folder / "run", folder / "data") as start:
        start.finish()
    return folder / "data", folder / "run"


def test_run_killed_while_it_writes_scores_and_trains_ends_bit_for_bit_like_one_never_killed(undisturbed, tmp_path):
    data_dir, expected = undisturbed
    held = [(SCORES, 0), (CHECKPOINT, 2), (SCORES, 4)]
    hits = killed_run(tmp_path / "run", data_dir, [*held, (OTHER, 5)], np.random.default_rng(0), held=True)
    assert hits[:-1] == held  # nothing holds the last one: it hits what it hits
    assert_ends_like(tmp_path / "run", expected)


def test_comparison_sees_every_part_of_another_step(undisturbed):
    _, run = undisturbed
    for name in RUNS:
        folder = run / name / checkpoints.RESUME_FOLDER
        first, second = (checkpoint(folder / str(step)) for step in (STEPS - SCORED_EVERY, STEPS))
        assert first.keys() == second.keys()
        parts = {key.partition("[")[0].partition("/")[0] for key in differences(first, second)}
        assert parts == {"params", "optimizer", "data"}


@pytest.mark.slow
def test_run_killed_more_than_twenty_times_ends_bit_for_bit_like_one_never_killed(undisturbed, tmp_path):
    data_dir, expected = undisturbed
    rng = np.random.default_rng(0)
    plan = []
    for number in range(SCORES_OF_A_RUN * len(RUNS)):
        kinds = [CHECKPOINT, SCORES, OTHER]
        # The first scores of a run are the best so far.
        kinds += [BEST] * (number % SCORES_OF_A_RUN == 0) + [REPORT] * (number % SCORES_OF_A_RUN == 0 and number > 0)
        plan += [(kind, number) for kind in sorted(kinds, key=lambda kind: (kind != REPORT, rng.random()))]
    plan.append((REPORT, SCORES_OF_A_RUN * len(RUNS)))
    hits = killed_run(tmp_path / "run", data_dir, plan, rng)
    counts = collections.Counter(hit for hit, _ in hits)
    of_teacher = sum(number < SCORES_OF_A_RUN for _, number in hits)
    print(f"\n{len(hits)} kills, {of_teacher} before the teacher was trained: {dict(counts)}")
    assert len(hits) >= 20
    assert set(counts) == {CHECKPOINT, BEST, REPORT, SCORES, OTHER}
    assert 8 <= of_teacher <= len(hits) - 8
    assert_ends_like(tmp_path / "run", expected)
