"""The command that prepares a data set from a copy that the user fetched: what all of them share."""

import argparse
import sys
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds
from absl import logging

from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.signals import raise_on_sigterm


def parser(description: str, copy: str, incomplete: str) -> argparse.ArgumentParser:
    """The command line that all data sets have; but for the copy, its options are arguments of ``open_builder``.

    Args:
        description: of the command; its first line is shown.
        copy: said of ``--manual_dir``.
        incomplete: what may be missing with ``--allow_incomplete``.
    """
    made = argparse.ArgumentParser(description=description.partition("\n")[0])
    made.add_argument("--manual_dir", required=True, help=copy)
    made.add_argument("--data_dir", help="where prepared data lies; by default ~/tensorflow_datasets")
    made.add_argument("--allow_incomplete", action="store_true", help=f"go on without {incomplete}")
    return made


def main(
    command_line: argparse.ArgumentParser,
    open_builder: Callable[..., tfds.core.DatasetBuilder],
    arguments: Sequence[str] | None,
) -> None:
    """Prepares, and says where the data lies and what is in it; a user's mistake ends with one message and status 1.

    Args:
        command_line: of ``parser``, with the options of the data set.
        open_builder: gets them.
        arguments: None for those of the process.
    """
    logging.set_verbosity(logging.ERROR)
    options = vars(command_line.parse_args(arguments))
    manual_dir = options.pop("manual_dir")
    try:
        with raise_on_sigterm():
            _prepare(open_builder(**options), manual_dir)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, Preempted):
        sys.exit("interrupted; nothing half-written is left, and the same command starts again")


def _prepare(builder, manual_dir):
    if builder.data_path.exists():
        print(f"prepared already, in {builder.data_dir}; remove this folder to prepare it again\n")
        print(builder.info.metadata["table"])
        for warning in builder.info.metadata["warnings"]:
            print(f"warning: {warning}")
        return
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    print(f"prepared: {builder.info.full_name}, in {builder.data_dir}")
