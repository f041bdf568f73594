"""Prepares KAIST from a copy that you fetched: checks every file, prints what it found, and writes the records.

    python -m datasets.kaist.prepare --manual_dir=FOLDER                          original annotations
    python -m datasets.kaist.prepare --manual_dir=FOLDER --annotations=improved   tested on the improved ones

It can be interrupted and given again; a data set is there as a whole or not at all.
"""

from collections.abc import Sequence

from datasets import command
from datasets.kaist.kaist import open_builder
from datasets.kaist.sets import KINDS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = command.parser(
        __doc__, "the copy: images and annotations, in any known layout", "test images that are missing"
    )
    parser.add_argument("--annotations", choices=KINDS, default="original", help="which ones train and test")
    parser.add_argument("--train_stride", type=int, default=2, help="frames from one training image to the next")
    parser.add_argument("--test_stride", type=int, default=20, help="frames from one test image to the next")
    parser.add_argument("--train_list", help="an image list instead of the stride")
    parser.add_argument("--test_list", help="an image list instead of the stride")
    parser.add_argument("--train_annotations", metavar="FOLDER", help="within the copy, where several would do")
    parser.add_argument("--test_annotations", metavar="FOLDER", help="within the copy, where several would do")
    command.main(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
