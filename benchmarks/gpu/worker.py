"""One stage in a process of its own, so that it has all of the memory and its failure does not stop the others.

python -m benchmarks.gpu.worker STAGE --seconds=N --output=DIR ...
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu

# The stages that are worth most come first.
STAGES = ("facts", "equal", "frame", "step", "profile", "train")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every stage."""
    parser.add_argument("--seconds", type=float, required=True, help="time limit of the command")
    parser.add_argument("--output", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--vgg16", type=Path, help="ImageNet's VGG-16, safetensors; train needs it")
    parser.add_argument("--pairs", type=Path, help="a folder in MSRS's layout; train needs it")
    parser.add_argument("--unlabelled", type=Path, help="a folder of pairs without labels, for one more student")
    parser.add_argument("--rehearse", action="store_true", help="every stage at toy size, on any machine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stage."""
    parser = Parser(__doc__)
    parser.add_argument("stage", choices=STAGES)
    add_options(parser)
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        from benchmarks.gpu.record import Record

        record = Record(options.stage, options.output, options.seconds, options.rehearse)
        stage = importlib.import_module(f"benchmarks.gpu.{options.stage}")
        # Only the training needs files.
        stage.run(record, *([options.vgg16, options.pairs, options.unlabelled] if options.stage == "train" else []))
        record.finish()


if __name__ == "__main__":
    main()
