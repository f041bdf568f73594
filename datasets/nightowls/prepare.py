"""Prepares NightOwls from a copy that you fetched: checks every file, says what it found, and writes the records.

    python -m datasets.nightowls.prepare --manual_dir=FOLDER

It can be interrupted and given again; a data set is there as a whole or not at all.
"""

from collections.abc import Sequence

from datasets import command
from datasets.nightowls.nightowls import open_builder


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = command.parser(__doc__, "the copy, with nightowls_training.json", "validation images")
    command.main(parser, open_builder, arguments)


if __name__ == "__main__":
    main()
