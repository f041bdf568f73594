"""Preparing a data set once, by one process, whatever became of earlier attempts: what all builders share."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow_datasets as tfds

from dcrl_jax import files


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a data set lies ready; its information is read then."""
    if not builder.data_path.exists():
        return False
    # Another process may have prepared it after this builder was made.
    if not builder.info.initialized:
        builder.info.read_from_directory(builder.data_path)
    return True


@contextmanager
def alone(builder: tfds.core.DatasetBuilder, folder: Path, overwrites: bool = False) -> Iterator[bool]:
    """Gives whether a data set is to be prepared, which no other process does until the end of the block.

    What preparations left that were killed is gone then.

    Args:
        builder: of the data set.
        folder: where the lock lies: of one config, or of the data set where its configs must take turns.
        overwrites: whether a data set that lies ready is to be prepared anew.

    Raises:
        InputError: another process is preparing.
    """
    # Needs no lock, for which the folder would have to be writable.
    if is_prepared(builder) and not overwrites:
        yield False
        return
    with only_process(folder, builder.name):
        if is_prepared(builder) and not overwrites:
            yield False
            return
        # TFDS renames a folder of its own only in the end: this one is of a preparation that was killed.
        for leftover in Path(builder.data_path).parent.glob("incomplete.*"):
            shutil.rmtree(leftover)
        yield True


@contextmanager
def only_process(folder: Path, name: str) -> Iterator[None]:
    """Holds the lock of a data set's folder, which is made; raises InputError if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process is preparing {name} in {folder}; wait for it, then give the command again."
    with files.folder_lock(folder, busy):
        yield
