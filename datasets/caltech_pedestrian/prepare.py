"""Prepares Caltech from the archives that you fetched: checks every file, says what it found, and writes the records.

What is prepared without further options is what ``configs/finetune.py:caltech`` trains on.

    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER                     original annotations
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --annotations=new   new ones
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --train_skip=30     a tenth of the training images

It can be interrupted and given again; a data set is there as a whole or not at all.
"""

import argparse
import sys
from collections.abc import Sequence

from absl import logging

from datasets import copies
from datasets.caltech_pedestrian.caltech_pedestrian import open_builder
from dcrl_jax.annotations.caltech.truths import KINDS
from dcrl_jax.errors import InputError


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; but for the copy, its options are the arguments of ``open_builder``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manual_dir", required=True, help="the copy: setXX/VYYY.seq and setXX/VYYY.vbb below it")
    parser.add_argument("--data_dir", help="where prepared data lies; by default ~/tensorflow_datasets")
    parser.add_argument("--annotations", choices=KINDS, default="original", help="which ones train and test")
    parser.add_argument("--train_skip", type=int, default=3, help="frames from one training image to the next")
    parser.add_argument("--allow_incomplete", action="store_true", help="go on without test images that are missing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, and say where the data lies and what is in it; raises InputError."""
    logging.set_verbosity(logging.ERROR)
    options = vars(parse(arguments))
    manual_dir = options.pop("manual_dir")
    copies.prepare(open_builder(**options), manual_dir)


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing half-written is left, and the same command starts again")
