"""The records of a run in its workdir: config, environment, compiled programs."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints
from dcrl_jax.config import KEYS, keys_affecting
from dcrl_jax.disk_errors import not_written
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.files import append_json_line, check_writable, read_json_lines, write_atomically

CONFIG_FILE = "config.json"
ENVIRONMENT_FILE = "environment.jsonl"
CACHE_FOLDER = "compilation_cache"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def check_config_of(workdir: Path, config: ConfigDict) -> None:
    """Check that the run in a workdir, if there is one, has the same config.

    A run that an earlier version began lacks the keys that were added since; it means their defaults.

    Raises:
        InputError: keys differ that must not change when a run resumes; lists up to 20 of them with both values.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        return
    try:
        former = _flatten(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}). Remove this file if the run is to go on.") from error
    own = _flatten(checkpoints.config_to_json(config))
    added = {key.name: key.default for key in KEYS if key.added}
    later = {name: added[short] for name in own if (short := name.removeprefix("teacher.")) in added}
    former = json.loads(json.dumps(later)) | former
    absent = "not there"
    differences = [
        f"config.{key}: {json.dumps(former[key]) if key in former else absent} in the workdir, "
        f"{json.dumps(own[key]) if key in own else absent} now"
        for key in sorted(former.keys() | own.keys(), key=lambda key: (key != "role", key))  # the role explains most
        if former.get(key, absent) != own.get(key, absent) and not _may_change(key, own.get(key))
    ]
    if differences:
        shown = "\n  ".join(first_few(differences, 20))
        raise InputError(
            f"{workdir} holds a run of another config:\n  {shown}\n"
            "Give the config of that run to go on with it, or another --workdir."
        )


def _may_change(name: str, value: Any) -> bool:
    if name == "teacher.checkpoint":
        # The path may change, since check_teacher_of compares the parameters. Without one, a teacher would be trained.
        return bool(value)
    # A student's teacher is finished when the student begins: only how it was run may differ.
    if name.startswith("teacher."):
        return name.removeprefix("teacher.") in {key.name for key in keys_affecting("running")}
    # These options decide only whether files are refused.
    if name in ("data.options.allow_incomplete", "data.options.missing_labels"):
        return True
    return name in {key.name for key in keys_affecting("running", "length", "scoring")}


def check_teacher_of(workdir: Path, fingerprint: str, source: str) -> None:
    """Check that a student's run resumes with the teacher that it began with.

    Args:
        workdir: the student's workdir.
        fingerprint: the fingerprint of the teacher's parameters.
        source: the path of the teacher's parameters, for the message.

    Raises:
        InputError: the run began with another teacher.
    """
    starts = read_json_lines(workdir / ENVIRONMENT_FILE)
    former = next((start["teacher"] for start in starts if start.get("teacher")), fingerprint)
    if former != fingerprint:
        raise InputError(
            f"{workdir} is the run of a student of another teacher: its parameters have the checksum {former[:12]}, "
            f"those of {source} {fingerprint[:12]}. Give --config.teacher.checkpoint=PATH of the former one, or "
            "another --workdir."
        )


def check_data_of(workdir: Path, metadata: Mapping[str, Any]) -> None:
    """Check that a run resumes on data that were made from the files that it began with.

    Args:
        workdir: the run's workdir.
        metadata: of the prepared data set. Rendered scenes, and data of earlier versions, have no checksum.

    Raises:
        InputError: the data set was prepared again, from other files.
    """
    own = metadata.get("source_checksum")
    starts = read_json_lines(workdir / ENVIRONMENT_FILE)
    former = next((start["data"] for start in starts if start.get("data")), own)
    if own and former != own:
        raise InputError(
            f"{workdir} is a run on other data: the files that its data set was made from have the checksum {former}, "
            f"those of the present one, {metadata.get('made_from')}, {own}. Prepare the data set from the former files "
            "to go on with the run, or give another --workdir."
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
    workdir: Path,
    config: ConfigDict,
    step: int,
    teacher: str | None = None,
    accumulation_steps: int | None = None,
    data: str | None = None,
) -> None:
    """Write the config, and append a line on this start of the run: versions, devices, commit, command, seed, step.

    Args:
        workdir: the run's workdir.
        config: the run's config.
        step: number of steps done.
        teacher: the fingerprint of the teacher's parameters; None unless a student distils.
        accumulation_steps: number of parts in which a device works through its share of a batch; None if no step is
            left.
        data: the checksum of the files that the data set was made from; None if it has none.
    """
    write_atomically(workdir / CONFIG_FILE, json.dumps(checkpoints.config_to_json(config), indent=1) + "\n")
    devices = jax.local_devices()
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "step": step,
        "seed": config.seed,
        "accumulation_steps": accumulation_steps,
        "teacher": teacher,
        "data": data,
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
    """Return the commit of the program, with "+" if files differ from it; None outside its git repository."""

    def git(*arguments):
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()

    try:
        # The package may be installed inside an unrelated repository.
        git("ls-files", "--error-unmatch", __file__)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def open_workdir(path: str) -> Path:
    """Return a workdir's path, which need not exist yet, and use the compilation cache in it.

    Raises:
        InputError: the path is a file, or cannot be written to.
    """
    workdir = Path(path)
    try:
        if workdir.exists() and not workdir.is_dir():
            raise InputError(f"--workdir={path} is a file; a run needs a folder.")
        check_writable(workdir)
    except OSError as error:
        raise InputError(not_written(workdir, error, "give another --workdir")) from error
    use_compilation_cache(workdir)
    return workdir


def use_compilation_cache(workdir: Path) -> None:
    """Keep compiled programs in the workdir for later starts, unless the user chose another folder for them."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str((workdir / CACHE_FOLDER).absolute()))
