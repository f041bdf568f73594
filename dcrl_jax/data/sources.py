"""Preparation of the data set that a config's ``data`` keys name; the only list of all data sets."""

import importlib

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.errors import InputError

NAMES = ("synthetic_rgbt", "msrs", "synthetic_visible", "kaist", "caltech_pedestrian", "nightowls")


def prepare(data: ConfigDict) -> tfds.core.DatasetBuilder:
    """Prepare a data set unless it is prepared, and return its builder; of several processes, only the first prepares.

    Args:
        data: the config's ``data`` keys.

    Raises:
        InputError: the data set or an option is unknown, its files cannot be used, its folder cannot be written, or
            another process is preparing it.
    """
    return parallel.first_process_first(lambda: _prepare(data))


def _prepare(data):
    builder = _open_builder(data)
    # The other builders have their own progress bars.
    tfds.display_progress_bar(data.name == "msrs")
    # TFDS would print download sizes, which it does not know. These methods are private and may change with TFDS.
    builder._log_download_bytes = lambda: print(f"preparing {builder.info.full_name} in {builder.data_dir}", flush=True)
    builder._log_download_done = lambda: None
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=data.manual_dir))
    except OSError as error:
        raise InputError(
            f"{builder.data_dir} cannot be written: {error}. Choose another config.data.data_dir."
        ) from error
    return builder


def _open_builder(data):
    if data.name not in NAMES:
        raise InputError(f"config.data.name is {data.name!r}; the data sets are: {', '.join(NAMES)}.")
    try:
        return importlib.import_module(f"datasets.{data.name}").open_builder(data.data_dir, **data.options.to_dict())
    except TypeError as error:
        raise InputError(f"config.data.options: {error}.") from error


def describe(builder: tfds.core.DatasetBuilder) -> str:
    """Return one line with the split sizes and the folder of a prepared data set."""
    counts = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
    return f"data: {builder.info.full_name}: {counts}; in {builder.data_dir}"


def warnings_of(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """Return the warnings that belong to every score on a prepared data set."""
    return tuple((builder.info.metadata or {}).get("warnings", ()))
