"""Do long runs leak? Memory, open files and disk of a training of 10,000 steps and of a detection in 20,000 images.

    python -m benchmarks.long_runs --output=runs/long

Each is a process of main.py at toy size, looked at every second. The tables have the time, its memory (resident set),
open files and the size of its folder when it has done a tenth of its work, a fifth, and so on, and the growth of its
memory from the half on: compiling and the first report have come before.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
from absl import logging

from benchmarks.gpu.train import SCENES
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.errors import InputError
from dcrl_jax.tables import format_table

ROOT = Path(__file__).resolve().parents[1]
PARTS = 10


class Look(NamedTuple):
    """What a process has at a moment."""

    done: int  # steps or images
    seconds: float  # since the start
    memory_mib: float
    files: int
    disk_mib: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both, and print their tables."""
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--steps", type=int, default=10_000, help="default: 10,000")
    parser.add_argument("--images", type=int, default=20_000, help="default: 20,000")
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    with exit_on_error():
        if options.output.exists():
            raise InputError(f"{options.output} exists already; give --output a new folder.")
        workdir = options.output / "run"
        looks = watch(training(workdir, options.steps), options.output / "run.log", workdir, steps_done)
        print(f"\n{table(looks, options.steps, 'steps')}", flush=True)
        images = options.output / "images"
        draw(images, options.images)
        found = options.output / "found"
        flags = [f"--checkpoint={workdir}", f"--input={images}", f"--output={found}"]
        command = [sys.executable, str(ROOT / "main.py"), "--mode=detect", *flags]
        looks = watch(command, options.output / "found.log", found, images_done)
        print(f"\n{table(looks, options.images, 'images')}", flush=True)


def training(workdir: Path, steps: int) -> list[str]:
    """Return the command of a training that is scored ten times."""
    flags = SCENES | {"data.options.train": 200, "data.options.test": 20, "train.log_every_steps": 20}
    flags |= {"data.data_dir": str(workdir.parent / "data"), "train.steps": steps, "train.batch_size": 8}
    flags |= {"train.evaluate_every_epochs": steps / PARTS * 8 / 200, "optimizer.warmup_steps": 20}
    recipe = [f"--config={ROOT}/configs/baseline.py:synthetic", f"--workdir={workdir}"]
    return [
        sys.executable,
        str(ROOT / "main.py"),
        *recipe,
        *(f"--config.{key}={value}" for key, value in flags.items()),
    ]


def draw(folder: Path, count: int) -> None:
    """Write images of noise of 48x32 pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:05}.jpg"), rng.integers(0, 256, (32, 48, 3), np.uint8))


def steps_done(log: Path, folder: Path) -> int:
    """Return the last step that a training has printed."""
    del folder
    steps = re.findall(r"^step (\d+)/", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(steps[-1]) if steps else 0


def images_done(log: Path, folder: Path) -> int:
    """Return how many annotated copies a detection has written."""
    del log
    return len(list((folder / "annotated").glob("*.*")))


def watch(command: Sequence[str], log: Path, folder: Path, done: Callable[[Path, Path], int]) -> list[Look]:
    """Run a command and look at it every second.

    Args:
        command: the command.
        log: the file of its output.
        folder: the folder that it writes to.
        done: returns the steps or images that are done, from the log and the folder.

    Raises:
        InputError: the command failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    looks = []
    with open(log, "wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        watched, start = psutil.Process(process.pid), time.monotonic()
        while process.poll() is None:
            try:
                memory, files = watched.memory_info().rss / 2**20, watched.num_fds()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                break
            looks.append(Look(done(log, folder), time.monotonic() - start, memory, files, _mib(folder)))
            time.sleep(1)
    if process.returncode:
        raise InputError(f"{log}: the command failed with status {process.returncode}.")
    return looks


def table(looks: Sequence[Look], total: int, unit: str) -> str:
    """Return the table of a run."""
    parts = _at_parts(looks, total)
    half, end = parts[PARTS // 2 - 1], parts[-1]
    growth = 100 * (end.memory_mib / half.memory_mib - 1)
    text = format_table(parts, [unit, "time, s", "memory, MiB", "open files", "folder, MiB"], markdown=True)
    return f"{text}\n\nmemory from the half to the end: {growth:+.1f} %"


def _at_parts(looks, total):
    """Return the first look after each part of the work; the last look where a part passed unseen."""
    ends = [part * total / PARTS for part in range(1, PARTS + 1)]
    return [next((look for look in looks if look.done >= end), looks[-1]) for end in ends]


def _mib(folder):
    size = 0
    for parent, _, names in os.walk(folder):  # which passes over folders that vanish
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(os.path.join(parent, name)).st_size
    return size / 2**20


if __name__ == "__main__":
    main()
