"""A real training within the time left: teacher, student and baseline on real pairs, from ImageNet's weights."""

import json
import os
import shutil
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
# Shares of the time: the teacher is twice as large as the others, and the student depends on it.
SHARES = {"teacher": 0.45, "student": 0.35, "baseline": 0.2}
SCORING_SECONDS = 45.0  # for start, compilation and the test pairs, kept free in each share
PARAMETERS_BYTES, PART_BYTES = 60e6, 15e6  # limits of the parameters that are copied, and of each of their files

# Changes of ``:msrs``, a recipe of small scale, to full width.
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


class Setting(NamedTuple):
    """What the three trainings have in common."""

    data: str  # the recipes' argument
    changes: dict[str, object]
    teacher_changes: dict[str, object]
    images_per_second: dict[str, float]  # assumed for roles that the stage ``step`` has not measured


_REHEARSAL_CHANGES: dict[str, object] = {
    **TINY,
    "data.max_boxes": 16,  # a rendered scene may have as many people
    "data.options.height_px": 48,
    "data.options.width_px": 64,
    "data.options.train": 16,
    "data.options.validation": 4,
    "data.options.test": 4,
    "eval.batch_size": 4,
    "train.log_every_steps": 1,
}
REHEARSAL = Setting("synthetic", _REHEARSAL_CHANGES, TINY_FUSION, {})


def run(record: Record, vgg16: Path | None, pairs: Path | None) -> None:
    """Record the three trainings, one after the other; their reports are copied beside the JSON file.

    Args:
        record: of the stage.
        vgg16: ImageNet's weights; not needed in a rehearsal.
        pairs: a folder in MSRS's layout; not needed in a rehearsal.
    """
    if not record.rehearse and not (vgg16 and pairs):
        record.add("nothing trained", reason="--vgg16 and --pairs were not given")
        return
    setting = real_setting(vgg16, pairs) if vgg16 and pairs and not record.rehearse else REHEARSAL
    started, seconds = time.monotonic(), record.seconds_left()
    used = 0.0
    for role, share in SHARES.items():
        used += share
        # Time that an earlier training leaves unused goes to the next one.
        end = started + used * seconds
        record.add(role, **_train(record, role, setting, end - time.monotonic()))


def real_setting(vgg16: Path, pairs: Path) -> Setting:
    """Return the setting of a training on real pairs."""
    changes: dict[str, object] = {**FULL_WIDTH, "init.vgg16": vgg16, "data.manual_dir": pairs}
    return Setting("msrs", changes, TEACHER, {"teacher": 25.0, "student": 30.0, "baseline": 60.0})


def training_flags(role: str, setting: Setting, steps: int, batch: int, work: Path) -> list[str]:
    """Return the flags of one training that set its config; its workdir and its teacher's are in ``work``."""
    keys = setting.changes | {"train.steps": steps, "train.batch_size": batch, "data.data_dir": work / "data"}
    keys |= {"train.evaluate_every_epochs": 1e6}  # once, at the end
    if role == "teacher":
        keys |= setting.teacher_changes
    elif role == "student":
        keys |= {"teacher.checkpoint": work / "teacher"}
    recipe = f"--config={ROOT}/configs/{role}.py:{setting.data}"
    return [recipe, *(f"--config.{key}={value}" for key, value in keys.items())]


def _train(record: Record, role: str, setting: Setting, seconds: float) -> dict:
    """Train and score one role within its time; return the figures."""
    work = record.folder / "work"
    workdir = work / role
    batch, steps = 4, 4
    if not record.rehearse:
        batch, rate = 8, _measured_rate(record.folder, role) or setting.images_per_second[role]
        steps = max(4, int(0.8 * (seconds - SCORING_SECONDS) * rate / batch))
    flags = training_flags(role, setting, steps, batch, work)
    command = [sys.executable, "main.py", f"--workdir={workdir}", *flags]
    started = time.monotonic()
    status, printed = _run(command, max(30.0, seconds - SCORING_SECONDS))
    cut_off = status == os.EX_TEMPFAIL
    if cut_off:
        # SIGTERM left a checkpoint, which can be scored.
        status, more = _run([*command, "--mode=eval"], 2 * SCORING_SECONDS)
        printed += more
    result = {"steps": steps, "cut_off": cut_off, "status": status, "seconds": time.monotonic() - started}
    if status:
        return result | {"printed": printed[-2000:]}
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text())
    shutil.copyfile(workdir / "evaluation" / "report.html", record.folder / f"{role}.html")
    shutil.copyfile(workdir / "metrics.jsonl", record.folder / f"{role}-metrics.jsonl")
    parameters = _copy_parameters(workdir, record.folder, role) if role == "student" else []
    return result | {"command": command[1:], "scores": scores["scores"], "parameter_files": parameters}


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    """Run a command, and end it with SIGTERM when its time is over; return its status and its output."""
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


def _measured_rate(folder: Path, role: str) -> float | None:
    """Return the least images/s of a role's bfloat16 step that the stage ``step`` measured, or None."""
    path = folder / "step.json"
    if not path.is_file():
        return None
    rates = [
        result["images_per_second"]
        for result in json.loads(path.read_text())["results"]
        if result.get("role") == role and result.get("precision") == "bfloat16" and "images_per_second" in result
    ]
    return min(rates, default=None)


def _copy_parameters(workdir: Path, folder: Path, role: str) -> list[str]:
    """Write the parameters as bfloat16 in files of at most PART_BYTES, unless they exceed PARAMETERS_BYTES."""
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
        save_file(part, folder / name)
    return names
