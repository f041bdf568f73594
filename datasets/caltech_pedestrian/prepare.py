"""Prepare Caltech from the archives that you fetched: check every file, print the result, and write the records.

Without further flags it prepares what ``configs/finetune.py:caltech`` trains on.

    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER                     original annotations
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --annotations=new   new ones
    python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER --train_skip=30     a tenth of the training images

The command can be interrupted and repeated: the data set is either complete or absent.
"""

from collections.abc import Sequence

from datasets.caltech_pedestrian.caltech_pedestrian import open_builder
from datasets.command import prepare_command, prepare_parser
from dcrl_jax.annotations.caltech.truths import KINDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = prepare_parser(
        __doc__, "the copy: setXX/VYYY.seq and setXX/VYYY.vbb below it", "test images that are missing"
    )
    parser.add_argument("--annotations", choices=KINDS, default="original", help="which ones train and test")
    parser.add_argument("--train_skip", type=int, default=3, help="frames from one training image to the next")
    prepare_command(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
