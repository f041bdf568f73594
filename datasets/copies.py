"""Preparing a data set from a copy that the user fetched: what such builders share."""

import fcntl
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError

OUTSIDE = "box outside the image"
NO_SIZE = "box of no size"
_SHOWN = 20
# Where a complete file of a format ends: markers within its last bytes.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a data set lies ready; its information is read then."""
    if not builder.data_path.exists():
        return False
    # Another process may have prepared it after this builder was made.
    if not builder.info.initialized:
        builder.info.read_from_directory(builder.data_path)
    return True


def find_root(
    builder: tfds.core.DatasetBuilder, download_config: tfds.download.DownloadConfig | None, how_to_get_it: str
) -> Path:
    """The folder of the copy; raises InputError, with how to get one, where none was named or it is not there."""
    if download_config is None or download_config.manual_dir is None:
        raise InputError(f"{builder.info.full_name} is not prepared in {builder.data_dir}.\n{how_to_get_it}")
    root = Path(download_config.manual_dir).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.\n{how_to_get_it}")
    return root


@contextmanager
def only_process(folder: Path, name: str) -> Iterator[None]:
    """Holds a lock on the folder of a data set; it ends with the process, however it ends.

    Raises:
        InputError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is preparing {name} in {folder}; wait for it, then give the command again."
            ) from error
        yield


def remove_leftovers(folder: Path) -> None:
    """Removes what a preparation that was killed has left in the folder of a config."""
    # TFDS renames a folder of its own only in the end.
    for leftover in folder.glob("incomplete.*"):
        shutil.rmtree(leftover)


def inside(
    annotations: Sequence[Annotation], width: int, height: int, place: str
) -> tuple[list[Annotation], list[Finding]]:
    """The annotations whose boxes have a size and lie in the image, if only in part; findings on the others.

    Args:
        annotations: of one image.
        width, height: of the image in pixels.
        place: names the image in findings.
    """
    kept, findings = [], []
    for one in annotations:
        x, y, w, h = one.box
        text = f"{place}: {one.label[:40]} {x:g} {y:g} {w:g} {h:g}"
        if w <= 0 or h <= 0:
            findings.append(Finding(NO_SIZE, text))
        elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
            findings.append(Finding(OUTSIDE, text))
        else:
            kept.append(one)
    return kept, findings


def problem_of_image(path: Path, size: tuple[int, int]) -> str | None:
    """What is wrong with a JPEG or PNG file, by its header and its end, since nothing is decoded; None for nothing.

    Args:
        path: the file.
        size: width and height in pixels that it must have.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            kind, found = image.format, image.size
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read()
    except Exception as error:  # Pillow's parsers raise whatever they stumble upon
        reason = getattr(error, "strerror", None) or "not an image"
        return f"cannot be read ({reason}, {os.path.getsize(path) if path.exists() else 0} bytes)"
    if kind not in _ENDS:
        return f"{kind} image; expected JPEG or PNG"
    if _ENDS[kind] not in tail:
        return "cut off: its end is missing"
    if found != size:
        return f"{found[0]}x{found[1]} pixels; expected {size[0]}x{size[1]}, in which the boxes are annotated"
    return None


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of counts as text: a name on the left, numbers on the right."""
    lines = [list(head), *([str(row[0]), *(f"{value:,}" for value in row[1:])] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def report(findings: Sequence[Finding], path: Path) -> None:
    """Prints findings by kind, the first twenty of each in full, and writes them into a file, if there are any."""
    if not findings:
        return
    by_kind: dict[str, list[str]] = defaultdict(list)
    for one in findings:
        by_kind[one.kind].append(one.text)
    for kind, texts in by_kind.items():
        print(f"{kind}: {len(texts):,}")
        for text in texts[:_SHOWN]:
            print(f"  {text}")
        if len(texts) > _SHOWN:
            print(f"  and {len(texts) - _SHOWN:,} more")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{one.kind}\t{one.text}\n" for one in findings)
    path.write_text(lines, encoding="utf-8", errors="backslashreplace")
    print(f"all of these: {path}", flush=True)


def prepare(builder: tfds.core.DatasetBuilder, manual_dir: str) -> None:
    """Prepares a data set for a command, and says where it lies and what is in it.

    Raises:
        InputError: something about the copy.
    """
    if builder.data_path.exists():
        print(f"prepared already, in {builder.data_dir}; remove this folder to prepare it again\n")
        print(builder.info.metadata["table"])
        for warning in builder.info.metadata["warnings"]:
            print(f"warning: {warning}")
        return
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    print(f"prepared: {builder.info.full_name}, in {builder.data_dir}")
