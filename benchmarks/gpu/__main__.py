"""Measure everything that needs a GPU, stage by stage, in the time that there is.

    python -m benchmarks.gpu --seconds=560 --output=DIR --vgg16=FILE --pairs=DIR
    python -m benchmarks.gpu --seconds=280 --output=DIR --rehearse      at toy size on a CPU

Each stage is a process that writes DIR/STAGE.json after each result. One that fails or outlasts its time is ended; the
others go on, and what it has written stays.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.worker import STAGES, add_options

ROOT = Path(__file__).resolve().parents[2]
# Of all the time; what a stage leaves over is there for those after it.
SHARES = {"facts": 0.06, "equal": 0.14, "frame": 0.22, "step": 0.26, "profile": 0.08, "train": 0.24}
REHEARSAL_SHARES = {"facts": 0.03, "equal": 0.32, "frame": 0.13, "step": 0.12, "profile": 0.1, "train": 0.3}
# A stage that does not stop by itself is ended so long after its time.
GRACE_SECONDS = 20.0


def stage_seconds(stage: str, chosen: Sequence[str], left: float, shares: Mapping[str, float] = SHARES) -> float:
    """Return the time of a stage: its share of what is left for it and those after it."""
    following = chosen[chosen.index(stage) :]
    return left * shares[stage] / sum(shares[name] for name in following)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages; the status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="these stages alone")
    options = parser.parse_args(arguments)
    chosen = [stage for stage in STAGES if stage in options.only]
    end = time.monotonic() + options.seconds
    Path(options.output).mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            # torch needs memory beside JAX.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",
        }
        if options.rehearse:
            environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
        for stage in chosen:
            shares = REHEARSAL_SHARES if options.rehearse else SHARES
            seconds = stage_seconds(stage, chosen, end - time.monotonic(), shares)
            print(f"== {stage}: {seconds:.0f} s", flush=True)
            command = [sys.executable, "-m", "benchmarks.gpu.worker", stage, f"--seconds={seconds}"]
            command += [f"--output={Path(options.output).absolute()}"]
            command += [
                f"--{name}={os.path.abspath(value)}" for name in ("vgg16", "pairs") if (value := getattr(options, name))
            ]
            command += ["--rehearse"] if options.rehearse else []
            try:
                done = subprocess.run(command, cwd=ROOT, env=environment, timeout=seconds + GRACE_SECONDS, check=False)
                ended = f"status {done.returncode}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                ended = "its time was over"
            if ended:
                failed.append(stage)
                print(f"== {stage} ended: {ended}; what it has measured is in {stage}.json", flush=True)
    if failed:
        sys.exit(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    main()
