"""Training on real pairs from ImageNet's weights: teacher, students and baselines, each by ``main.py``.

Every run is a process of its own. Several share the device, because compiling takes longer than a short training;
students wait for their teacher. Runs come in the order of ``trainings`` for as long as the time lasts. Last come the
differences in pairs, and what became of the networks in their first steps.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.record import RECIPES, TINY, TINY_FUSION, Record
from benchmarks.paired_runs import as_lists, difference_table, label_sets, miss_rates, score_runs
from dcrl_jax.checkpoints import config_from_json
from dcrl_jax.data import sources
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.files import read_json_lines
from dcrl_jax.training.logs import METRICS_FILE
from dcrl_jax.training.unlabelled import folder_data

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 7  # at a time: 16 CPU cores compile for them
STOP_SECONDS = 100.0  # before the end of the stage no run is waited for any longer: comparisons and first steps follow
SEEDS = (0, 1, 2)

# Changes of ``:msrs``, whose crops and batch are for CPUs.
WHOLE_PAIRS: dict[str, object] = {
    "backbone.dtype": "bfloat16",
    "data.crop": (),
    "train.batch_size": 8,
    "train.steps": 500,  # 24 epochs of MSRS's pairs
    "train.evaluate_every_epochs": 100.0,
}
SCENES: dict[str, object] = {
    **TINY,
    "data.max_boxes": 16,  # a rendered scene may have as many people
    "data.options.height_px": 48,
    "data.options.width_px": 64,
    "data.options.train": 16,
    "data.options.validation": 4,
    "data.options.test": 4,
    "train.batch_size": 4,
    "train.steps": 4,
    "train.evaluate_every_epochs": 1.0,
    "train.log_every_steps": 1,
    "eval.batch_size": 4,
}
# Teachers beside the default, for their losses, dead channels and modality weights.
TEACHERS: dict[str, dict[str, object]] = {
    "gaussian-teacher": {"cfl.init": "gaussian"},
    "slow-teacher": {"optimizer.learning_rate": 5e-5},
}
# Students and baselines of less width.
WIDTHS: dict[str, dict[str, object]] = {
    "half": {"backbone.width": 0.5, "roi.hidden": 256},  # 15 MB in bfloat16
    "quarter": {"backbone.width": 0.25, "roi.hidden": 256},
}


class Training(NamedTuple):
    """A run: the name of its workdir, its role, and its changes of the recipe."""

    name: str
    role: str
    changes: dict[str, object]


def trainings(unlabelled: Path | None, rehearse: bool) -> list[Training]:
    """Return the runs, those that are worth most first.

    Args:
        unlabelled: a folder of pairs without labels; None leaves out the student that learns from them.
        rehearse: one run of each role.
    """
    runs = [Training("teacher", "teacher", {})]
    runs += [Training(f"{role}-{seed}", role, {"seed": seed}) for seed in SEEDS for role in ("baseline", "student")]
    if rehearse:
        return runs[:3]
    if unlabelled:
        runs += [
            Training(f"unlabelled-{seed}", "student", {"seed": seed, "data.unlabelled": str(unlabelled)})
            for seed in (0, 1)
        ]
    runs += [Training(name, "teacher", changes) for name, changes in TEACHERS.items()]
    for seed in (0, 1):
        for name, changes in WIDTHS.items():
            runs.append(Training(f"{name}-baseline-{seed}", "baseline", {"seed": seed, **changes}))
            wide = {"teacher.width": 1.0}
            runs.append(Training(f"{name}-student-{seed}", "student", {"seed": seed, **changes, **wide}))
    return runs


def run(record: Record, vgg16: Path | None, pairs: Path | None, unlabelled: Path | None) -> None:
    """Record each run with its scores, then the comparisons; workdirs lie beside the JSON file.

    Args:
        record: of the stage.
        vgg16: ImageNet's weights; not needed in a rehearsal.
        pairs: a folder in MSRS's layout; not needed in a rehearsal.
        unlabelled: a folder of pairs without labels, or None.
    """
    if not record.rehearse and not (vgg16 and pairs):
        record.add("nothing trained", reason="--vgg16 and --pairs were not given")
        return
    data = "synthetic" if record.rehearse else "msrs"
    common = {"data.data_dir": str(record.folder / "data")} | (SCENES if record.rehearse else WHOLE_PAIRS)
    if not record.rehearse:
        common |= {"init.vgg16": str(vgg16), "data.manual_dir": str(pairs)}
    runs = trainings(unlabelled, record.rehearse)
    _prepare(data, common, None if record.rehearse else unlabelled)
    _train(record, [(each, main_command(each, data, common, record.folder)) for each in runs])
    for comparison in comparisons(record.folder, runs):
        _compare(record, comparison)
    _first_steps(record, [run.name for run in runs if run.role == "teacher" or run.name == "student-0"])


def main_command(training: Training, data: str, common: Mapping[str, object], folder: Path) -> list[str]:
    """Return the command of a run whose workdir lies in a folder."""
    changes = {**common, **training.changes}
    if training.role == "teacher" and data == "synthetic":
        changes |= TINY_FUSION
    if training.role == "student":
        changes["teacher.checkpoint"] = str(folder / "teacher")
    recipe = [f"--config={ROOT / 'configs' / training.role}.py:{data}", f"--workdir={folder / training.name}"]
    return [
        sys.executable,
        str(ROOT / "main.py"),
        *recipe,
        *(f"--config.{key}={value}" for key, value in changes.items()),
    ]


def _prepare(data: str, common: Mapping[str, object], unlabelled: Path | None) -> None:
    """Prepare the data, which runs that start together would do at the same time."""
    config = RECIPES["student"].get_config(data)
    config.update_from_flattened_dict({key: value for key, value in common.items() if key.startswith("data.")})
    sources.prepare(config.data)
    if unlabelled:
        config.data.unlabelled = str(unlabelled)
        sources.prepare(folder_data(config.data))


class _Run(NamedTuple):
    """A run in progress."""

    training: Training
    process: subprocess.Popen
    log: Path
    started: float


def _train(record: Record, runs: Sequence[tuple[Training, list[str]]]) -> None:
    """Run the commands, at most PROCESSES at a time, and record each run that ends, until the time is over."""
    waiting, running = list(runs), []
    try:
        while (waiting or running) and record.seconds_left() > STOP_SECONDS:
            is_taught = _is_finished(record.folder / "teacher")
            ready = [each for each in waiting if each[0].role != "student" or is_taught]
            if ready and len(running) < PROCESSES:
                waiting.remove(ready[0])
                running.append(_start(record.folder, *ready[0]))
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                _record(record, run)
                if run.training.name == "teacher" and run.process.returncode:
                    waiting = [each for each in waiting if each[0].role != "student"]
            time.sleep(0.2)
        for training in [*(run.training for run in running), *(each for each, _ in waiting)]:
            record.add("not finished", run=training.name)
    finally:
        for run in running:
            run.process.kill()
            run.process.wait()


def _start(folder, training, command):
    log = folder / f"{training.name}.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=os.environ)
    return _Run(training, process, log, time.monotonic())


def _record(record: Record, run: _Run) -> None:
    training = run.training
    workdir, seconds = record.folder / training.name, time.monotonic() - run.started
    facts = {"run": training.name, "changes": training.changes, "seconds": seconds}
    if run.process.returncode:
        record.add(
            "failed",
            **facts,
            status=run.process.returncode,
            output=run.log.read_text(encoding="utf-8", errors="replace")[-1000:],
        )
        return
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    lines = [line for line in read_json_lines(workdir / METRICS_FILE) if "train/loss" in line]
    kept = {key: scores[key] for key in ("scores", "blanked", "modality_weights")}
    record.add(training.role, **facts, **kept, first=lines[0], last=lines[-1])


def _is_finished(workdir):
    # A run writes its scores last.
    return (workdir / "evaluation" / "scores.json").is_file()


class Comparison(NamedTuple):
    """Runs of a kind beside those of another, in the order of their seeds."""

    runs: str
    reference: str
    seeds: list[int]


def comparisons(folder: Path, runs: Sequence[Training]) -> list[Comparison]:
    """Return what can be compared in pairs: students with baselines, variants with the default student."""
    finished = {run.name for run in runs if _is_finished(folder / run.name)}
    kinds = dict.fromkeys(run.name.rpartition("-")[0] for run in runs if run.role == "student")
    found = []
    for kind in kinds:
        references = [kind.replace("student", "baseline")] if "student" in kind else ["student", "baseline"]
        for reference in references:
            seeds = [seed for seed in SEEDS if {f"{kind}-{seed}", f"{reference}-{seed}"} <= finished]
            found += [Comparison(kind, reference, seeds)] if seeds else []
    return found


def _compare(record: Record, comparison: Comparison) -> None:
    """Record the miss rates of two kinds of runs and their difference, by label set."""
    name, reference, seeds = comparison
    config = config_from_json(
        json.loads((record.folder / f"{name}-{seeds[0]}" / "config.json").read_text(encoding="utf-8"))
    )
    for labels, own in label_sets(config):
        pairs = [
            score_runs(own, {each: record.folder / f"{each}-{seed}" for each in (name, reference)}) for seed in seeds
        ]
        _, differences = difference_table(pairs, {name: reference})
        rates = as_lists(miss_rates(pairs))
        found = {each: _found_at_1(pairs, each) for each in (name, reference)}
        record.add(
            "difference",
            **comparison._asdict(),
            labels=labels,
            miss_rate_percent=rates,
            difference=differences[name],
            found_percent_at_1_fppi=found,
        )


def _found_at_1(pairs, name) -> dict[str, list[float]]:
    """Return the share of people, %, that each run finds at one false positive per image, by condition."""
    return {
        condition: [float(100 * (1 - pair[name][condition][0].miss_at_reference[-1])) for pair in pairs]
        for condition in CONDITIONS
    }


def _first_steps(record: Record, names: Sequence[str]) -> None:
    """Record the tables of ``benchmarks.first_steps`` on the finished runs of some names."""
    workdirs = [str(record.folder / name) for name in names if _is_finished(record.folder / name)]
    if not workdirs or record.seconds_left() < 0:
        return
    command = [sys.executable, "-m", "benchmarks.first_steps", *workdirs]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=record.seconds_left(), check=False
        )
    except subprocess.TimeoutExpired:
        record.add("not finished", run="first steps")
        return
    record.add(
        "first steps", status=done.returncode, tables=done.stdout if not done.returncode else done.stderr[-1000:]
    )
