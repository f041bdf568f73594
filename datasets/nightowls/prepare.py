"""Prepare NightOwls from your copy: check every file, print the result, and write the records.

    python -m datasets.nightowls.prepare --manual_dir=FOLDER

The command can be interrupted and repeated: the data set is either complete or absent.
"""

from collections.abc import Sequence

from datasets.command import prepare_command, prepare_parser
from datasets.nightowls.nightowls import open_builder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = prepare_parser(__doc__, "the copy, with nightowls_training.json", "validation images")
    prepare_command(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
