"""Time from the command to the first training step of teacher and student, with and without a compilation cache.

    python -m benchmarks.start_time

Each row is a command of its own: `main.py` with a recipe's ``:synthetic`` form, one training step, then the scores. A
cold start finds an empty compilation cache; a warm start finds the cache of the cold one. Both have new workdirs, so
that the cache is the only difference. The student gets the teacher of the first row. The scenes are rendered before
and are not counted. The time of the complete command grows with the number of scored scenes; the time to the first step
does not.

A cache saves compilation only. Imports, tracing and opening the data remain.
"""

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

from benchmarks.gpu.pack import folder_bytes
from benchmarks.timing import describe_machine_and_peak
from configs import student
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.data import sources
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError
from dcrl_jax.tables import format_table

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
SCENES = 40  # of each split
# Training prints such lines when its step is compiled and when its only step is done.
COMPILED = re.compile(r"step: .*; compiled in (\d+) s$")
FIRST_STEP = "step 1/1: "


class Start(NamedTuple):
    """The times of one command."""

    first_step_s: float  # from the command
    compilation_s: float  # the part of it for compilation, as training prints it
    command_s: float


def data_keys(folder: Path) -> dict[str, object]:
    """Return the ``data`` keys of all runs: few scenes, in a folder of their own."""
    counts = {f"data.options.{split}": SCENES for split in ("train", "validation", "test")}
    return {"data.data_dir": str(folder / "data"), **counts}


def command(role: str, workdir: Path, data: dict[str, object], teacher: Path | None) -> list[str]:
    """Return the command that trains one step and scores."""
    keys = data | {"train.steps": 1} | ({"teacher.checkpoint": teacher} if teacher else {})
    return [
        sys.executable,
        str(ROOT / "main.py"),
        f"--config={ROOT / 'configs' / role}.py:synthetic",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    ]


def first_step(lines: Iterable[str], started_s: float) -> tuple[float, float]:
    """Return the seconds from ``started_s`` to the line of the first step, and those of its compilation.

    Raises:
        InputError: no line reports a step; the message has the last lines.
    """
    read_lines, first_step_s, compilation_s = [], None, None
    for line in lines:
        read_lines.append(line)
        if compiled := COMPILED.match(line):
            compilation_s = float(compiled[1])
        if first_step_s is None and line.startswith(FIRST_STEP):
            first_step_s = time.monotonic() - started_s
    if first_step_s is None or compilation_s is None:
        raise InputError("the command took no training step; its last lines:\n" + "".join(read_lines[-10:]))
    return first_step_s, compilation_s


def run(arguments: Sequence[str], cache: Path) -> Start:
    """Run a command with a compilation cache.

    Raises:
        InputError: the command fails.
    """
    started = time.monotonic()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        times = first_step(process.stdout or (), started)
    if process.returncode:
        raise InputError(f"the command ended with status {process.returncode}: {' '.join(arguments)}")
    return Start(*times, time.monotonic() - started)


def measure(folder: Path) -> None:
    """Print the table, and a line before each command."""
    data = data_keys(folder)
    config = student.get_config("synthetic")
    config.update_from_flattened_dict(data)
    with contextlib.redirect_stdout(io.StringIO()):
        sources.prepare(config.data)
    rows, machine = [], describe_machine_and_peak()
    for role in ("teacher", "student"):
        cache = folder / f"{role}-cache"
        for start in ("cold", "warm"):
            teacher = folder / "teacher-cold" if role == "student" else None
            print(f"{role}, {start}...", flush=True)
            times = run(command(role, folder / f"{role}-{start}", data, teacher), cache)
            rows.append([role, start, *times, folder_bytes(cache) / MIB])
    columns = ("", "start", "to the first step, s", "compilation, s", "complete command, s", "cache, MiB")
    scenes = f"{config.train.batch_size} scenes, {SCENES} scenes scored by validation and test"
    print(f"\n1 training step of {scenes}.\n{machine}\n")
    print(format_table(rows, columns, decimals=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in a temporary folder; there are no options."""
    Parser(__doc__).parse_args(arguments)
    quiet_without_gpu()
    logging.set_verbosity(logging.ERROR)
    with exit_on_error(), tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


if __name__ == "__main__":
    main()
