"""Preparation of the data set that a config's ``data`` keys name; the only list of all data sets."""

import importlib
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.disk_errors import disk_failure, not_written
from dcrl_jax.errors import InputError

NAMES = ("synthetic_rgbt", "msrs", "synthetic_visible", "kaist", "caltech_pedestrian", "nightowls", "rgbt_folder")


def prepare(data: ConfigDict) -> tfds.core.DatasetBuilder:
    """Prepare a data set unless it is prepared, and return its builder; of several processes, only the first prepares.

    A ``manual_dir`` is always used: a prepared data set must be made from what this folder holds now.

    Args:
        data: the config's ``data`` keys.

    Raises:
        InputError: the data set or an option is unknown, its files cannot be used or differ from those of the prepared
            data set, its folder cannot be written, or another process is preparing it.
    """
    return parallel.first_process_first(lambda: _prepare(data))


def _prepare(data):
    builder = _open_builder(data)
    # The other builders have their own progress bars.
    tfds.display_progress_bar(data.name == "msrs")
    # TFDS would print download sizes, which it does not know. These methods are private and may change with TFDS.
    builder._log_download_bytes = lambda: print(f"preparing {builder.info.full_name} in {builder.data_dir}", flush=True)
    builder._log_download_done = lambda: None
    manual_dir = data.manual_dir
    if not parallel.is_first_process() and builder.data_path.exists():
        manual_dir = None  # the first process has compared it with what is prepared; other hosts may lack the folder
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except Exception as error:  # the writer of records wraps the system's error
        failure = disk_failure(error)
        if not isinstance(error, OSError) and failure is None:
            raise
        if failure and failure.file and not _is_of(builder, Path(failure.file)):
            raise  # a file that the data set is made from cannot be read
        raise InputError(not_written(builder.data_dir, error, "give another config.data.data_dir")) from error
    return builder


def _is_of(builder, path):
    """Return whether a path is in the folder of a data set, where TFDS also has its temporary folders, or above it."""
    folder = Path(builder.data_path).parent
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _open_builder(data):
    if data.name not in NAMES:
        raise InputError(f"config.data.name is {data.name!r}; the data sets are: {', '.join(NAMES)}.")
    try:
        return importlib.import_module(f"datasets.{data.name}").open_builder(data.data_dir, **data.options.to_dict())
    except TypeError as error:
        raise InputError(f"config.data.options: {error}.") from error


def describe(builder: tfds.core.DatasetBuilder) -> str:
    """Return one line with the split sizes and the folder of a prepared data set, and what it was made from."""
    counts = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
    made_from = (builder.info.metadata or {}).get("made_from")
    source = f", made from {made_from}" if made_from else ""
    return f"data: {builder.info.full_name}: {counts}; in {builder.data_dir}{source}"


def warnings_of(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """Return the warnings that belong to every score on a prepared data set."""
    return tuple((builder.info.metadata or {}).get("warnings", ()))
