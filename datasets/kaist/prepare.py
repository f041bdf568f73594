"""Prepare KAIST from your copy: check every file, print the result, and write the records.

    python -m datasets.kaist.prepare --manual_dir=FOLDER                          original annotations
    python -m datasets.kaist.prepare --manual_dir=FOLDER --annotations=improved   tested on the improved ones

The command can be interrupted and repeated: the data set is either complete or absent.
"""

from collections.abc import Sequence

from datasets.command import prepare_command, prepare_parser
from datasets.kaist.kaist import open_builder
from datasets.kaist.sets import KINDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = prepare_parser(
        __doc__, "the copy: images and annotations, in any known layout", "test images that are missing"
    )
    parser.add_argument("--annotations", choices=KINDS, default="original", help="which ones train and test")
    parser.add_argument("--train_stride", type=int, default=2, help="frames from one training image to the next")
    parser.add_argument("--test_stride", type=int, default=20, help="frames from one test image to the next")
    parser.add_argument("--train_list", help="an image list instead of the stride")
    parser.add_argument("--test_list", help="an image list instead of the stride")
    parser.add_argument("--train_annotations", metavar="FOLDER", help="within the copy, if several match")
    parser.add_argument("--test_annotations", metavar="FOLDER", help="within the copy, if several match")
    prepare_command(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
