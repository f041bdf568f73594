"""Time from the command to the first training step of teacher and student, without and with compiled programs at hand.

    python -m benchmarks.start_time
    python -m benchmarks.start_time --keep=runs/start --scenes=100

Each row is a command of its own: `main.py` with a recipe's ``:synthetic`` form, one training step, then the scores. A
cold one finds an empty compilation cache, a warm one the cache that the cold one left; both have new workdirs, so that
nothing else is spared. The student is given the teacher of the first row. The scenes are rendered before, and are not
counted. The seconds of the whole command grow with the scenes that are scored, those to the first step do not.

What a cache spares is compiling. Reading the program (imports), tracing it and opening the data is left.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from configs import student
from dcrl_jax.data import sources
from dcrl_jax.devices import quiet_without_gpu, usable_cores
from dcrl_jax.errors import InputError
from dcrl_jax.reports.tables import format_table

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
# What the training loop prints when its step is compiled, and when the only step is done.
COMPILED = re.compile(r"step: .*; compiled in (\d+) s$")
FIRST_STEP = "step 1/1: "


class Start(NamedTuple):
    """What one command took."""

    first_step_s: float  # from the command
    compilation_s: float  # of these, the compilation, as the loop prints it
    command_s: float


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=40, help="that are rendered and scored, in each split")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, instead of a temporary one")
    options = parser.parse_args(arguments)
    if options.scenes < 8:
        parser.error(f"--scenes {options.scenes}: expected at least a batch of 8")
    if options.keep and options.keep.exists():
        parser.error(f"--keep {options.keep}: is there already, and no start with it would be a cold one")
    return options


def data_keys(folder: Path, scenes: int) -> dict[str, object]:
    """The ``data`` keys of all runs: few scenes, in a folder of their own."""
    counts = {f"data.options.{split}": scenes for split in ("train", "validation", "test")}
    return {"data.data_dir": str(folder / "data"), **counts}


def command(role: str, workdir: Path, data: dict[str, object], teacher: Path | None) -> list[str]:
    """The command that trains one step and scores."""
    keys = data | {"train.steps": 1} | ({"teacher.checkpoint": teacher} if teacher else {})
    return [
        sys.executable,
        str(ROOT / "main.py"),
        f"--config={ROOT / 'configs' / role}.py:synthetic",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    ]


def first_step(lines: Iterable[str], started_s: float) -> tuple[float, float]:
    """Seconds since ``started_s`` when the first step was reported, and those of its compilation.

    Raises:
        InputError: no step was reported; the message has the last lines.
    """
    seen, first_step_s, compilation_s = [], None, None
    for line in lines:
        seen.append(line)
        if compiled := COMPILED.match(line):
            compilation_s = float(compiled[1])
        if first_step_s is None and line.startswith(FIRST_STEP):
            first_step_s = time.monotonic() - started_s
    if first_step_s is None or compilation_s is None:
        raise InputError("the command came to no training step; its last lines:\n" + "".join(seen[-10:]))
    return first_step_s, compilation_s


def run(arguments: Sequence[str], cache: Path) -> Start:
    """Run a command with a compilation cache; raises InputError if it fails."""
    started = time.monotonic()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        times = first_step(process.stdout, started)
    if process.returncode:
        raise InputError(f"the command ended with status {process.returncode}: {' '.join(arguments)}")
    return Start(*times, time.monotonic() - started)


def size_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, scenes: int) -> None:
    """Print the table; the rows come as they are measured."""
    data = data_keys(folder, scenes)
    config = student.get_config("synthetic")
    config.update_from_flattened_dict(data)
    with contextlib.redirect_stdout(io.StringIO()):
        sources.prepare(config.data)
    rows = []
    for role in ("teacher", "student"):
        cache = folder / f"{role}-cache"
        for kind in ("cold", "warm"):
            teacher = folder / "teacher-cold" if role == "student" else None
            print(f"{role}, {kind}...", flush=True)
            start = run(command(role, folder / f"{role}-{kind}", data, teacher), cache)
            rows.append([role, kind, *start, size_bytes(cache) / MIB])
    columns = ("", "start", "to the first step, s", "compilation, s", "whole command, s", "cache, MiB")
    print(f"\n1 training step of 8 scenes, {scenes} scenes scored by validation and test; {usable_cores()} cores.\n")
    print(format_table(rows, columns, decimals=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in a temporary folder, or in one that is kept; raises InputError."""
    quiet_without_gpu()
    logging.set_verbosity(logging.ERROR)
    options = parse(arguments)
    if options.keep:
        options.keep.mkdir(parents=True)
        measure(options.keep.absolute(), options.scenes)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.scenes)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
