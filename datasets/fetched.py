"""Builders of data sets that this program may not download: they check and convert a copy that the user fetched."""

import abc
import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import tensorflow_datasets as tfds

from datasets.preparation import (
    Source,
    check_source,
    is_prepared,
    named_folder,
    preparation_lock,
    read_contents,
    record_source,
)
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

Item = TypeVar("Item")
Content = TypeVar("Content")

_READ_AHEAD = 64  # items


class Copy(NamedTuple):
    """The user's copy of a data set."""

    root: Path
    findings: Path  # the file for the list of all problems, beside the prepared data set


class CheckedCopy(NamedTuple):
    """The usable part of a copy."""

    kept: dict[str, list[Any]]  # by split: the checked items, one per record
    metadata: dict[str, Any]  # stored with the records: the ``table`` of counts, ``warnings`` for every score, and more


class FetchedBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """The builder of a data set from the user's copy. Images are copied byte for byte.

    ``info.metadata`` has the ``table`` of counts, the ``warnings`` to print with every score, and the folder that the
    data set was ``made_from``.
    ``MANUAL_DOWNLOAD_INSTRUCTIONS`` is part of the message about a missing copy.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    SHARD_RECORDS: ClassVar[int]  # records per file; TFDS keeps them in memory until the file is written
    UNIT: ClassVar[str] = "images"  # of the progress bar

    allow_incomplete: bool = False  # whether missing images of the scored split are a warning instead of an error

    _checked: CheckedCopy  # set by download_and_prepare
    _source: Source  # set by download_and_prepare

    @classmethod
    def open(cls, data_dir: str | None, allow_incomplete: bool, config: tfds.core.BuilderConfig | None = None) -> Self:
        """Return a builder.

        Args:
            data_dir: folder of the prepared data; None for TFDS's default.
            allow_incomplete: whether missing images of the scored split are a warning instead of an error.
            config: None if the data set has no configs.
        """
        # If BUILDER_CONFIGS has a config of this name, TFDS accepts only that object.
        configs = {known.name: known for known in cls.BUILDER_CONFIGS}
        config = configs.get(config.name, config) if config else None
        builder = cls(config=config, data_dir=data_dir, file_format="array_record")
        builder.allow_incomplete = allow_incomplete
        return builder

    @abc.abstractmethod
    def source_files(self, root: Path) -> Mapping[str, Path]:
        """Return the files of the copy in ``root`` that can change the records, by their names below it."""

    @abc.abstractmethod
    def check_copy(self, copy: Copy) -> CheckedCopy:
        """Check every file of the copy, print the result, and return the usable part.

        Raises:
            InputError: the copy cannot be used.
        """

    @abc.abstractmethod
    def make_records(self, items: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Yield the records of checked items, in order."""

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepare the data set unless it is prepared; for the arguments see TFDS.

        The copy in ``manual_dir`` is checked completely and a table of counts is printed before any record is written.
        A file beside the data set lists all problems. If the data set is prepared and a manual folder is given, the
        folder must hold what the data set was made from; see ``preparation.check_source``.

        Raises:
            InputError: there is no manual folder, it holds other files than those that the data set was made from, the
                copy cannot be used, or another process is preparing.
        """
        with copy_to_prepare(self, download_config) as copy:
            if copy:
                contents = read_contents(self.source_files(copy.root), copy.root)
                self._source = Source(os.path.abspath(copy.root), contents)
                self._checked = self.check_copy(copy)
                super().download_and_prepare(download_config=download_config, **options)

    def _shard_iterators_per_split(self, dl_manager):
        metadata: Any = self.info.metadata  # a MetadataDict
        metadata.update(self._checked.metadata)
        record_source(self, self._source)
        return {
            split: [
                functools.partial(self._numbered_records, split, items, start)
                for start in range(0, len(items), self.SHARD_RECORDS)
            ]
            for split, items in self._checked.kept.items()
        }

    def _numbered_records(self, split, items, start):
        """Yield the records of one file with their indices in the split; the progress bar covers the complete split."""
        end = start + self.SHARD_RECORDS
        records = self.make_records(items[start:end])
        bar = progress_bar(records, f"writing {split}", len(items), self.UNIT, start, leave=end >= len(items))
        yield from enumerate(bar, start)


@contextmanager
def copy_to_prepare(
    builder: FetchedBuilder, download_config: tfds.download.DownloadConfig | None
) -> Iterator[Copy | None]:
    """Hold the data set's lock and yield the copy to prepare it from, or None if it is prepared.

    Args:
        builder: the builder of the data set.
        download_config: its ``manual_dir`` is the folder of the copy.

    Raises:
        InputError: no folder was given or there is none, the data set is prepared from something else than the folder,
            or another process holds the lock.
    """
    root = named_folder(builder, download_config)
    if root is None:
        if not is_prepared(builder):
            instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
            raise InputError(f"{builder.info.full_name} is not prepared in {builder.data_dir}.\n{instructions}")
        yield None
        return
    folder = Path(builder.data_path).parent
    # One lock for all configs, so that they do not read the same copy at the same time.
    with preparation_lock(builder, folder.parent if builder.builder_config else folder) as needs_preparing:
        if not needs_preparing:
            check_source(builder, root, builder.source_files(root))
            yield None
            return
        findings = folder / "findings.txt"
        findings.unlink(missing_ok=True)
        # The builder has its own progress bar.
        tfds.display_progress_bar(False)
        yield Copy(root, findings)


def read_ahead(items: Sequence[Item], read: Callable[[Item], Content]) -> Iterator[tuple[Item, Content]]:
    """Yield each item with what ``read`` returns for it; threads read some items ahead of the writer."""
    with ThreadPoolExecutor() as threads:
        pending = deque()
        for item in items:
            pending.append((item, threads.submit(read, item)))
            if len(pending) > _READ_AHEAD:
                first, content = pending.popleft()
                yield first, content.result()
        while pending:
            first, content = pending.popleft()
            yield first, content.result()
