"""The preparation of a data set: the lock that it holds, and the record of the files that it was made from."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from dcrl_jax import files
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.opening import open_regular
from dcrl_jax.progress import progress_bar

# Within the folder of a prepared data set.
SOURCE_FILE = "source.json"
# Files that are read completely for their checksums. Of all others, such as images, only both ends are read: the start
# has an image's tags, the end changes with its pixels, and 190,000 images are too much to read at every start.
_ANNOTATION_SUFFIXES = (".txt", ".xml", ".json", ".vbb", ".csv", ".tsv", ".yaml", ".yml", ".names")
_START_BYTES, _END_BYTES = 4096, 65536
_NAMES_SHOWN = 5

# By the name of a file, its path below the folder: size in bytes, time of change in ns, CRC-32.
Contents = dict[str, list[int]]


class Source(NamedTuple):
    """What a data set is made from."""

    made_from: str  # the folder, or the addresses of a download
    contents: Contents


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Return whether the data set is prepared, and load its information if so."""
    if not builder.data_path.exists():
        return False
    # Another process may have prepared it after this builder was created.
    if not builder.info.initialized:
        builder.info.read_from_directory(builder.data_path)
    return True


def named_folder(
    builder: tfds.core.DatasetBuilder, download_config: tfds.download.DownloadConfig | None
) -> Path | None:
    """Return the folder that the user named as ``manual_dir``, or None if none was named.

    Raises:
        InputError: there is no such folder, whether the data set is prepared or not.
    """
    if download_config is None or download_config.manual_dir is None:
        return None
    name = os.fspath(download_config.manual_dir)
    root = Path(name).expanduser()
    if not name or not root.is_dir():
        problem = "is not a folder" if name and root.exists() else "no such folder"
        raise InputError(f"{name or 'manual_dir is empty'}: {problem}.\n{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return root


def read_contents(paths: Mapping[str, Path], folder: str | Path, known: Contents | None = None) -> Contents:
    """Return the size, time and checksum of files, to compare them; a file that cannot be read has the size -1.

    Args:
        paths: the files that a builder reads, by their names below the folder.
        folder: the name of the folder, for the progress bar.
        known: a former result. An image of the same size and time is not read again.
    """
    contents, known = {}, known or {}
    for name, path in progress_bar(paths.items(), f"comparing {folder}", len(paths), "files", leave=False):
        try:
            status = path.stat()
            former = known.get(name)
            is_annotation = path.suffix.lower() in _ANNOTATION_SUFFIXES
            if former and former[:2] == [status.st_size, status.st_mtime_ns] and not is_annotation:
                contents[name] = former
                continue
            with open_regular(path) as file:
                start = b"" if is_annotation else file.read(_START_BYTES)
                file.seek(0 if is_annotation else max(file.tell(), status.st_size - _END_BYTES))
                contents[name] = [status.st_size, status.st_mtime_ns, zlib.crc32(start + file.read())]
        except OSError:
            contents[name] = [-1, 0, 0]
    return contents


def record_source(builder: tfds.core.DatasetBuilder, source: Source) -> None:
    """Write what a data set is made from into its folder and metadata; call it while TFDS writes the records.

    The metadata get ``made_from`` and ``source_checksum``, a checksum of the names and contents of all files.
    """
    metadata: Any = builder.info.metadata  # a MetadataDict
    metadata["made_from"] = source.made_from
    content = {name: _content(entry) for name, entry in sorted(source.contents.items())}
    metadata["source_checksum"] = f"{zlib.crc32(json.dumps(content).encode()):08x}"
    files.write_atomically(Path(builder.data_path) / SOURCE_FILE, json.dumps(source.contents))


def check_source(builder: tfds.core.DatasetBuilder, root: Path, paths: Mapping[str, Path]) -> None:
    """Check that a prepared data set was made from the files that a folder holds now.

    The files that the builder reads decide: their names below the folder, and their contents. So a link to the folder
    or a copy of it is the same source, and files that the builder does not read do not matter. If an earlier version
    prepared the data set, there is no record, and a line says so.

    Args:
        builder: the builder of the prepared data set.
        root: the folder that the user named.
        paths: the files in it that the builder reads, by their names below it.

    Raises:
        InputError: files are new, gone or changed; counts them, names the first ones, and says what to do.
    """
    path = Path(builder.data_path) / SOURCE_FILE
    if not path.is_file():
        print(
            f"{builder.data_dir} has no record of the files that it was made from, so it is used without comparing it "
            f"with {root}",
            flush=True,
        )
        return
    remedy = (
        "give another folder for prepared data (--config.data.data_dir of a run, --data_dir of a prepare command), or "
        f"delete {builder.data_dir}"
    )
    try:
        former: Contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). To prepare {root}, {remedy}.") from error
    differences = _differences(former, read_contents(paths, root, former))
    if differences:
        raise InputError(
            f"{builder.info.full_name} is prepared already, in {builder.data_dir}, but not from what {root} holds. "
            f"Compared with what it was made from, {(builder.info.metadata or {}).get('made_from')}, there are\n  "
            + "\n  ".join(differences)
            + f"\nTo use {root}, {remedy}. To use the prepared data, leave out manual_dir."
        )


def _differences(former: Contents, now: Contents) -> list[str]:
    """Return a line each for changed, new and missing files, with their number and the first names."""
    changed = [name for name in former.keys() & now.keys() if _content(former[name]) != _content(now[name])]
    kinds = {"changed": changed, "new": now.keys() - former.keys(), "missing": former.keys() - now.keys()}
    return [
        f"{len(names):,} {'file' if len(names) == 1 else 'files'} {kind}: "
        f"{', '.join(first_few(sorted(names), _NAMES_SHOWN))}"
        for kind, names in kinds.items()
        if names
    ]


def _content(entry: list[int]) -> tuple[int, int]:
    size, _, checksum = entry
    return size, checksum


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
