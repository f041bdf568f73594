"""Measure everything that needs a GPU, stage by stage, within a time limit.

    python -m benchmarks.gpu --seconds=1500 --output=DIR --vgg16=FILE --pairs=DIR
    python -m benchmarks.gpu --seconds=280 --output=DIR --rehearse      at toy size on a CPU

Each stage is a process that writes DIR/STAGE.json after each result. If a stage fails or exceeds its time, it is ended,
its results so far are kept, and the next stage runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.worker import STAGES, add_options
from dcrl_jax.command_line import Parser, exit_on_error

ROOT = Path(__file__).resolve().parents[2]
# Shares of the time; what a stage leaves over goes to the stages after it.
SHARES = {"facts": 0.03, "equal": 0.13, "frame": 0.12, "step": 0.17, "profile": 0.1, "train": 0.45}
REHEARSAL_SHARES = {"facts": 0.03, "equal": 0.32, "frame": 0.13, "step": 0.12, "profile": 0.1, "train": 0.3}
# A stage that does not stop by itself is ended this long after its time.
GRACE_SECONDS = 20.0


def stage_seconds(stage: str, chosen: Sequence[str], left: float, shares: Mapping[str, float] = SHARES) -> float:
    """Return the time of a stage: its share of the time left for it and the stages after it."""
    following = chosen[chosen.index(stage) :]
    return left * shares[stage] / sum(shares[name] for name in following)


def run_stages(arguments: Sequence[str], chosen: Sequence[str], seconds: float, rehearse: bool) -> list[str]:
    """Run stages one after the other; return those that failed or were ended.

    Args:
        arguments: the worker's arguments without stage and seconds.
        chosen: the stages.
        seconds: the time of all stages together.
        rehearse: whether this is a rehearsal.
    """
    end = time.monotonic() + seconds
    failed = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            # torch needs memory beside JAX.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",
        }
        if rehearse:
            environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
        for stage in chosen:
            shares = REHEARSAL_SHARES if rehearse else SHARES
            limit = stage_seconds(stage, chosen, end - time.monotonic(), shares)
            print(f"== {stage}: {limit:.0f} s", flush=True)
            command = [sys.executable, "-m", "benchmarks.gpu.worker", stage, f"--seconds={limit}", *arguments]
            try:
                done = subprocess.run(command, cwd=ROOT, env=environment, timeout=limit + GRACE_SECONDS, check=False)
                problem = f"status {done.returncode}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                problem = "it exceeded its time"
            if problem:
                failed.append(stage)
                print(f"== {stage} ended: {problem}; its results so far are in {stage}.json", flush=True)
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages; the status is 1 if one of them failed."""
    parser = Parser(__doc__)
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="run these stages only")
    options = parser.parse_args(arguments)
    # Absolute, because the worker runs in another folder.
    paths = [
        f"--{name}={path.absolute()}"
        for name in ("output", "vgg16", "pairs", "unlabelled")
        if (path := getattr(options, name))
    ]
    with exit_on_error():
        options.output.mkdir(parents=True, exist_ok=True)
        chosen = [stage for stage in STAGES if stage in options.only]
        rehearse = ["--rehearse"] if options.rehearse else []
        failed = run_stages([*paths, *rehearse], chosen, options.seconds, options.rehearse)
    if failed:
        sys.exit(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    main()
