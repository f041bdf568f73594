"""Prepares Caltech from the archives that you fetched: checks every file, says what it found, and writes the records.

What is prepared without further options is what ``configs/finetune.py:caltech`` trains on.

    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER                     original annotations
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --annotations=new   new ones
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --train_skip=30     a tenth of the training images

It can be interrupted and given again; a data set is there as a whole or not at all.
"""

from collections.abc import Sequence

from datasets import command
from datasets.caltech_pedestrian.caltech_pedestrian import open_builder
from dcrl_jax.annotations.caltech.truths import KINDS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = command.parser(
        __doc__, "the copy: setXX/VYYY.seq and setXX/VYYY.vbb below it", "test images that are missing"
    )
    parser.add_argument("--annotations", choices=KINDS, default="original", help="which ones train and test")
    parser.add_argument("--train_skip", type=int, default=3, help="frames from one training image to the next")
    command.main(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
