"""Preparing a data set from a copy that the user fetched: what such builders share."""

import functools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from datasets.preparation import alone, is_prepared
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

IMAGE_MISSING = "image missing"
IMAGE_UNREADABLE = "image unreadable"
OUTSIDE = "box outside the image"
NO_SIZE = "box of no size"
# Of a copy of the test half alone, which is all that scoring a trained detector needs.
SCORED_ALONE = "no training image is there: nothing can be trained on this data set, only scored"
_SHOWN = 20
# Where a complete file of a format ends: markers within its last bytes.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024


class Copy(NamedTuple):
    """What the user fetched."""

    root: Path  # its folder
    findings: Path  # the file, beside the data set, where everything amiss is listed


class CheckedCopy(NamedTuple):
    """What is going to be written, and what has to be known of it."""

    kept: dict[str, list[Any]]  # by split, what its records are made of
    metadata: dict[str, Any]  # goes beside them: ``table`` of counts, ``warnings`` to repeat with every score, and more


@contextmanager
def unprepared(
    builder: tfds.core.DatasetBuilder, download_config: tfds.download.DownloadConfig | None, how_to_get_it: str
) -> Iterator[Copy | None]:
    """Gives the copy that a data set is to be prepared from, None where it lies ready; for one process at a time.

    Args:
        builder: of the data set.
        download_config: has the folder of the copy, ``manual_dir``.
        how_to_get_it: said where there is none.

    Raises:
        InputError: no folder was named or it is not there, or another process is preparing.
    """
    if is_prepared(builder):
        yield None
        return
    if download_config is None or download_config.manual_dir is None:
        raise InputError(f"{builder.info.full_name} is not prepared in {builder.data_dir}.\n{how_to_get_it}")
    root = Path(download_config.manual_dir).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.\n{how_to_get_it}")
    folder = Path(builder.data_path).parent
    # Of all configs: two of them would read the same copy at once.
    with alone(builder, folder.parent if builder.builder_config else folder) as is_missing:
        if not is_missing:
            yield None
            return
        findings = folder / "findings.txt"
        findings.unlink(missing_ok=True)
        # Records are written under a bar of their own.
        tfds.display_progress_bar(False)
        yield Copy(root, findings)


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


def count_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
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


def conclude(
    checked: CheckedCopy,
    findings: Sequence[Finding],
    path: Path,
    scored: str,
    leaves_out: Collection[str],
    allow_incomplete: bool,
) -> CheckedCopy:
    """Prints what a check has found, and returns it unless the copy is of no use.

    Args:
        checked: what was found.
        findings: everything amiss; their texts begin with their split.
        path: where the findings are listed.
        scored: the split of which every image is needed.
        leaves_out: kinds of findings that leave an image out.
        allow_incomplete: whether images of that split may be missing.

    Raises:
        InputError: something is missing that is to be scored, in numbers; or a split has nothing usable.
    """
    report(findings, path)
    print(f"\n{checked.metadata['table']}\n", flush=True)
    missing = [one for one in findings if one.kind in leaves_out and one.text.startswith(f"{scored}: ")]
    if missing and not allow_incomplete:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in Counter(one.kind for one in missing).items())
        raise InputError(
            f"the {scored} split is incomplete: {counts}; {path} lists them. Get the missing files, or give "
            "--allow_incomplete (config.data.options.allow_incomplete=True in a run): every score is then printed with "
            "a warning, and none is comparable with others."
        )
    empty = [name for name, found in checked.kept.items() if not found]
    if empty:
        raise InputError(f"nothing usable for the split {' and '.join(empty)}; {path} says what is wrong with it.")
    for warning in checked.metadata["warnings"]:
        print(f"warning: {warning}", flush=True)
    return checked


def shards(
    kept: Mapping[str, Sequence[Any]], size: int, records_of: Callable[[Sequence[Any]], Iterator[Any]], unit: str
) -> dict[str, list[Callable[[], Iterator[tuple[int, Any]]]]]:
    """What a ``ShardBasedBuilder`` writes: for each split, what gives the numbered records of each of its files.

    Args:
        kept: by split, what a record is made of.
        size: records in a file; TFDS keeps those of one file in memory until it is written.
        records_of: makes the records of one file, in order.
        unit: of the bar, plural.
    """

    def numbered(split, found, start):
        some = records_of(found[start : start + size])
        # The bar goes on from file to file.
        last = start + size >= len(found)
        bar = progress_bar(some, f"writing {split}", len(found), unit, start, leave=last)
        yield from enumerate(bar, start)

    return {
        split: [functools.partial(numbered, split, found, start) for start in range(0, len(found), size)]
        for split, found in kept.items()
    }
