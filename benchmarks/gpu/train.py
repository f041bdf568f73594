"""A real training in the time that is left: teacher, student and baseline on real pairs, from ImageNet's weights."""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from benchmarks.gpu.record import TINY, TINY_FUSION, Record
from dcrl_jax import checkpoints

ROOT = Path(__file__).resolve().parents[2]
# Of the time: the teacher has twice the network, and the student needs it.
SHARES = {"teacher": 0.45, "student": 0.35, "baseline": 0.2}
SCORING_SECONDS = 45.0  # start, compilation and the test pairs, kept free in each share
PARAMETERS_BYTES, PART_BYTES = 60e6, 15e6  # what is copied back of parameters, and how large a file may be

# A recipe of full width for real pairs, until there is one in configs/: the small scale's goes for the rest.
FULL_WIDTH = {
    "backbone.width": 1.0,
    "backbone.norm": "none",
    "backbone.dtype": "bfloat16",
    "data.height_px": 480,
    "data.width_px": 640,
    "roi.hidden": 448,  # so that the student's parameters can be copied back
    "rpn.before_nms": 6000,
    "rpn.kept_training": 1000,
    "rpn.kept_testing": 300,
    "optimizer.learning_rate": 1e-4,
    "optimizer.warmup_steps": 100,
    "train.log_every_steps": 10,
}
TEACHER = {"cfl.specific_gain": 1.0, "optimizer.learning_rate": 1e-4, "optimizer.warmup_steps": 100}
REHEARSAL = TINY | {
    "data.max_boxes": 16,  # a rendered scene may have as many people
    "data.options.height_px": 48,
    "data.options.width_px": 64,
    "data.options.train": 16,
    "data.options.validation": 4,
    "data.options.test": 4,
    "eval.batch_size": 4,
    "train.log_every_steps": 1,
}


class Setting(NamedTuple):
    """What the three trainings have in common."""

    data: str  # the recipes' argument
    changes: dict[str, object]
    teacher_changes: dict[str, object]
    images_per_second: dict[str, float]  # assumed where nothing has been measured


def run(record: Record, options: argparse.Namespace) -> None:
    """Record the three trainings, one after the other; their reports are copied beside the JSON."""
    output = Path(options.output)
    if not options.rehearse and not (options.vgg16 and options.pairs):
        record.add("nothing trained", reason="--vgg16 and --pairs were not given")
        return
    setting = setting_of(options)
    started, seconds = time.monotonic(), record.seconds_left()
    used = 0.0
    for role, share in SHARES.items():
        used += share
        # What an earlier one has left over is the next one's.
        until = started + used * seconds
        record.add(role, **_train(role, setting, output, until - time.monotonic(), options))


def setting_of(options: argparse.Namespace) -> Setting:
    """Return what is trained on which pairs, or what is rehearsed on rendered ones."""
    if options.rehearse:
        return Setting("synthetic", REHEARSAL, TINY_FUSION, {})
    changes = FULL_WIDTH | {"init.vgg16": options.vgg16, "data.manual_dir": options.pairs}
    return Setting("msrs", changes, TEACHER, {"teacher": 25.0, "student": 30.0, "baseline": 60.0})


def training_keys(role: str, setting: Setting, steps: int, batch: int, work: Path) -> dict[str, object]:
    """Return the config keys of one training, whose run and whose teacher's lie below ``work``."""
    keys = setting.changes | {"train.steps": steps, "train.batch_size": batch, "data.data_dir": str(work / "data")}
    keys |= {"train.evaluate_every_epochs": 1e6}  # once, at the end
    if role == "teacher":
        keys |= setting.teacher_changes
    elif role == "student":
        keys |= {"teacher.checkpoint": str(work / "teacher")}
    return keys


def _train(role: str, setting: Setting, output: Path, seconds: float, options: argparse.Namespace) -> dict:
    """Train and score one role; returns what it came to."""
    workdir = output / "work" / role
    batch, steps = 4, 4
    if not options.rehearse:
        batch, rate = 8, _measured_rate(output, role) or setting.images_per_second[role]
        steps = max(4, int(0.8 * (seconds - SCORING_SECONDS) * rate / batch))
    keys = training_keys(role, setting, steps, batch, output / "work")
    command = [
        sys.executable,
        "main.py",
        f"--config=configs/{role}.py:{setting.data}",
        f"--workdir={workdir.absolute()}",
    ]
    command += [f"--config.{key}={value}" for key, value in keys.items()]
    started = time.monotonic()
    status, printed = _run(command, max(30.0, seconds - SCORING_SECONDS))
    cut_off = status == 75
    if cut_off:
        # SIGTERM left a checkpoint, whose scores are to be had.
        status, more = _run([*command, "--mode=eval"], 2 * SCORING_SECONDS)
        printed += more
    result = {"steps": steps, "cut_off": cut_off, "status": status, "seconds": time.monotonic() - started}
    if status:
        return result | {"printed": printed[-2000:]}
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text())
    (output / f"{role}.html").write_bytes((workdir / "evaluation" / "report.html").read_bytes())
    (output / f"{role}-metrics.jsonl").write_bytes((workdir / "metrics.jsonl").read_bytes())
    parameters = _copy_parameters(workdir, output, role) if role == "student" else []
    return result | {"command": command[1:], "scores": scores["scores"], "parameter_files": parameters}


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    """Run a command, ended by SIGTERM when its time is over; returns its status and the end of what it printed."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            printed, _ = process.communicate(timeout=SCORING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
    return process.returncode, printed


def _measured_rate(output: Path, role: str) -> float | None:
    """Images/s of a role's step in bfloat16 as the stage ``step`` has measured it, at its own input size."""
    path = output / "step.json"
    if not path.is_file():
        return None
    rates = [
        result["images_per_second"]
        for result in json.loads(path.read_text())["results"]
        if result.get("role") == role and result.get("precision") == "bfloat16" and "images_per_second" in result
    ]
    return min(rates) if rates else None


def _copy_parameters(workdir: Path, output: Path, role: str) -> list[str]:
    """Write the parameters as bfloat16 in files of a size that can be copied, if all of them can be."""
    params, _, _ = checkpoints.restore_params(str(workdir))
    flat = traverse_util.flatten_dict(jax.device_get(params), sep=".")
    arrays = {name: np.asarray(array).astype(jax.numpy.bfloat16) for name, array in flat.items()}
    if sum(array.nbytes for array in arrays.values()) > PARAMETERS_BYTES:
        return []
    parts: list[dict[str, np.ndarray]] = [{}]
    for name, array in arrays.items():
        if parts[-1] and sum(part.nbytes for part in parts[-1].values()) + array.nbytes > PART_BYTES:
            parts.append({})
        parts[-1][name] = array
    names = [f"{role}-{number}.safetensors" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        save_file(part, output / name)
    return names
