"""One stage, in a process of its own: its memory is its own, and its end loses nothing of the others.

python -m benchmarks.gpu.worker STAGE --seconds=N --output=DIR ...
"""

import argparse
from collections.abc import Sequence

from absl import logging

from dcrl_jax.devices import quiet_without_gpu

# In the order in which they are worth most.
STAGES = ("facts", "equal", "frame", "step", "profile", "train")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every stage takes."""
    parser.add_argument("--seconds", type=float, required=True, help="for everything")
    parser.add_argument("--output", required=True, help="a folder for the JSON files")
    parser.add_argument("--vgg16", help="ImageNet's VGG-16, safetensors; train needs it")
    parser.add_argument("--pairs", help="a folder in MSRS's layout; train needs it")
    parser.add_argument("--rehearse", action="store_true", help="every stage at toy size, on any machine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    add_options(parser)
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    from benchmarks.gpu import equal, facts, frame, profile, step, train
    from benchmarks.gpu.record import Record

    record = Record(options.stage, options)
    stages = {"facts": facts, "equal": equal, "frame": frame, "step": step, "profile": profile, "train": train}
    stages[options.stage].run(record, options)
    record.finish()


if __name__ == "__main__":
    main()
