"""The lock under which a builder prepares its data set."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow_datasets as tfds

from dcrl_jax import files


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Return whether the data set is prepared, and load its information if so."""
    if not builder.data_path.exists():
        return False
    # Another process may have prepared it after this builder was created.
    if not builder.info.initialized:
        builder.info.read_from_directory(builder.data_path)
    return True


@contextmanager
def preparation_lock(builder: tfds.core.DatasetBuilder, folder: Path, overwrites: bool = False) -> Iterator[bool]:
    """Hold the data set's lock and yield True if it still needs preparing.

    Delete leftovers of killed preparations first. A prepared data set needs no lock, so its folder may be read-only.

    Args:
        builder: the builder of the data set.
        folder: the folder to lock: that of one config, or that of the data set if its configs must take turns.
        overwrites: whether to prepare a prepared data set again.

    Raises:
        InputError: another process holds the lock.
    """
    if is_prepared(builder) and not overwrites:
        yield False
        return
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process is preparing {builder.name} in {folder}; wait for it, then give the command again."
    with files.folder_lock(folder, busy):
        if is_prepared(builder) and not overwrites:
            yield False
            return
        # TFDS renames its temporary folder at the end. Under the lock, one that remains is of a killed preparation.
        for leftover in Path(builder.data_path).parent.glob("incomplete.*"):
            shutil.rmtree(leftover)
        yield True
