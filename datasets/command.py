"""The prepare command, which every data set with a user's copy has."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from dcrl_jax.command_line import Parser, exit_on_error


def prepare_parser(description: str | None, copy: str, incomplete: str) -> Parser:
    """Return a parser with the flags that all data sets have; all but ``manual_dir`` are arguments of ``open_builder``.

    Args:
        description: description of the command.
        copy: help text of ``--manual_dir``.
        incomplete: what may be missing with ``--allow_incomplete``, for its help text.
    """
    parser = Parser(description)
    parser.add_argument("--manual_dir", required=True, help=copy)
    parser.add_argument("--data_dir", help="folder of the prepared data; default: ~/tensorflow_datasets")
    parser.add_argument("--allow_incomplete", action="store_true", help=f"go on without {incomplete}")
    return parser


def prepare_command(
    parser: Parser,
    open_builder: Callable[..., tfds.core.DatasetBuilder],
    arguments: Sequence[str] | None,
) -> None:
    """Prepare the data set and print its folder and counts; print a user's mistake as one message and exit with 1.

    Args:
        parser: from ``prepare_parser``, with the data set's own flags added.
        open_builder: the data set's ``open_builder``; called with the flags.
        arguments: the command line; None for that of the process.
    """
    with command_options(parser, arguments) as options:
        manual_dir = options.pop("manual_dir")
        prepare(open_builder(**options), manual_dir)


@contextmanager
def command_options(parser: Parser, arguments: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Yield the flags of a prepare command; print a user's mistake in the block as one message and exit with 1."""
    logging.set_verbosity(logging.ERROR)
    options = vars(parser.parse_args(arguments))
    with exit_on_error(interrupted="interrupted; nothing incomplete is left. Give the same command to start again"):
        yield options


def prepare(builder: tfds.core.DatasetBuilder, manual_dir: str) -> None:
    """Prepare a data set and print its folder; of a prepared one, print the result of its check again.

    Raises:
        InputError: the copy cannot be used, or a prepared data set was made from something else.
    """
    is_prepared = builder.data_path.exists()
    # Of a prepared data set, this compares the copy with what it was made from.
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    if is_prepared:
        metadata: Any = builder.info.metadata  # a MetadataDict
        source = f" from {metadata['made_from']}" if "made_from" in metadata else ""
        print(f"prepared already{source}, in {builder.data_dir}; remove this folder to prepare it again\n")
        print(metadata["table"])
        for warning in metadata["warnings"]:
            print(f"warning: {warning}")
        return
    print(f"prepared: {builder.info.full_name}, in {builder.data_dir}")
