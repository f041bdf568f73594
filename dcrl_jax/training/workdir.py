"""What a run leaves about itself in its workdir: config, environment, compiled programs; and whose workdir it is."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.files import append_json_line, read_json_lines, write_atomically

CONFIG_FILE = "config.json"
ENVIRONMENT_FILE = "environment.jsonl"
CACHE_FOLDER = "compilation_cache"

# What may change when a run goes on: how long it is, how often it is watched, where data lies, how it is scored, how a
# step saves memory. A student's teacher is finished when the student begins.
_WATCHING = ("log_every_steps", "evaluate_every_epochs", "checkpoint_every_minutes", "accumulation_steps")
_FREE = tuple(f"{prefix}train.{key}" for prefix in ("", "teacher.") for key in _WATCHING)
_FREE += ("train.steps", "train.epochs", "data.data_dir", "data.manual_dir", "data.test_split", "eval.", "final.")
_FREE += ("backbone.remat",)
# A path that may be another one, since what it holds is compared (``check_teacher_of``), but not none: without it a
# teacher would be trained.
_MOVABLE = "teacher.checkpoint"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def check_config_of(workdir: Path, config: ConfigDict) -> None:
    """Refuse to go on in a workdir whose run had another config; raises InputError with every difference."""
    path = workdir / CONFIG_FILE
    if not path.is_file():
        return
    try:
        former = _flatten(json.loads(path.read_text()))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}). Remove this file if the run is to go on.") from error
    own = _flatten(checkpoints.config_to_json(config))
    absent = "not there"
    differences = [
        f"config.{key}: {json.dumps(former[key]) if key in former else absent} in the workdir, "
        f"{json.dumps(own[key]) if key in own else absent} now"
        for key in sorted(former.keys() | own.keys(), key=lambda key: (key != "role", key))  # says most
        if former.get(key, absent) != own.get(key, absent)
        and not key.startswith(_FREE)
        and not (key == _MOVABLE and own.get(key))
    ]
    if differences:
        shown = "\n  ".join(differences[:20])
        more = f"\n  and {len(differences) - 20} more" if len(differences) > 20 else ""
        raise InputError(
            f"{workdir} holds a run of another config:\n  {shown}{more}\n"
            "Give the config of that run to go on with it, or another --workdir."
        )


def check_teacher_of(workdir: Path, fingerprint: str, source: str) -> None:
    """Refuse to go on with another teacher than the one that a student's run began with; raises InputError.

    Args:
        workdir: of the student.
        fingerprint: of the teacher's parameters.
        source: where they came from, for the message.
    """
    starts = read_json_lines(workdir / ENVIRONMENT_FILE)
    former = next((start["teacher"] for start in starts if start.get("teacher")), fingerprint)
    if former != fingerprint:
        raise InputError(
            f"{workdir} is the run of a student of another teacher: its parameters have the checksum {former[:12]}, "
            f"those of {source} {fingerprint[:12]}. Give --config.teacher.checkpoint=PATH of the former one, or "
            "another --workdir."
        )


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        key: item
        for name, value in values.items()
        for key, item in _flatten(value, f"{prefix}.{name}" if prefix else name).items()
    }


def record(
    workdir: Path, config: ConfigDict, step: int, teacher: str | None = None, accumulation_steps: int | None = None
) -> None:
    """Write the config, and add a line on this start of the run: versions, devices, commit, command, seed, step.

    Args:
        workdir: of the run.
        config: of the run.
        step: where it stands.
        teacher: fingerprint of the parameters that a student learns from.
        accumulation_steps: parts in which a device works through its share of a batch; None if no step is left.
    """
    write_atomically(workdir / CONFIG_FILE, json.dumps(checkpoints.config_to_json(config), indent=1) + "\n")
    devices = jax.local_devices()
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "step": step,
        "seed": config.seed,
        "accumulation_steps": accumulation_steps,
        "teacher": teacher,
        "command": sys.argv,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "devices": [device.device_kind for device in devices],
        "processes": jax.process_count(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    append_json_line(workdir / ENVIRONMENT_FILE, start)
    print(
        f"seed {config.seed}, commit {start['commit'] or 'unknown'}, jax {start['versions']['jax']}, "
        f"{len(devices)} x {devices[0].device_kind}",
        flush=True,
    )


def _commit() -> str | None:
    """The commit of the program, with a plus sign if files differ from it; None where it is no git repository."""
    folder = Path(__file__).parent
    git = ("git", "-C", str(folder))
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        # An installation within somebody else's repository is not of its commit.
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def use_compilation_cache(workdir: Path) -> None:
    """Keep compiled programs in the workdir, so that a restart need not compile again; a cache of the user's stays."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str((workdir / CACHE_FOLDER).absolute()))
