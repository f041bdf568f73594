"""Check of a user's copy of NightOwls: images, annotations and counts."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from datasets import checks
from datasets.checks import IMAGE_MISSING, IMAGE_UNREADABLE
from datasets.fetched import CheckedCopy, Copy
from dcrl_jax.annotations import nightowls
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.nightowls import AnnotatedImage
from dcrl_jax.annotations.types import IMAGE_CONDITIONS, Finding
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar
from dcrl_jax.tables import format_table

# The data set's own name of each split.
SPLITS = {"train": "training", "validation": "validation"}
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Findings that leave an image out of its split.
_LEAVES_OUT = (IMAGE_MISSING, IMAGE_UNREADABLE)


class CheckedImage(NamedTuple):
    """One image file, and its annotations; all objects overlap the image."""

    path: Path
    annotated: AnnotatedImage


def _parts(root: Path) -> dict[str, list[Path]]:
    """Return the JSON file and the folder of images of each split."""
    return {
        split: [root / f"nightowls_{official}{suffix}" for suffix in (".json", "")]
        for split, official in SPLITS.items()
    }


def source_files(root: Path) -> dict[str, Path]:
    """Return the JSON files and the images of a copy, by their names below its folder.

    Raises:
        InputError: a folder cannot be read.
    """
    paths = []
    for annotations, folder in _parts(root).values():
        paths += [annotations] if annotations.is_file() else []
        paths += walk(folder, _IMAGE_SUFFIXES) if folder.is_dir() else []
    return {path.relative_to(root).as_posix(): path for path in paths}


def check_copy(copy: Copy, allow_incomplete: bool) -> CheckedCopy:
    """Check every file, print the result, and return the usable part of the copy.

    A copy without any training file has no training split.

    Args:
        copy: the user's copy, with ``nightowls_training.json``, ``nightowls_training/*.png`` and the same for
            validation. Its file of findings gets the list of all problems.
        allow_incomplete: whether missing validation images are a warning instead of an error.

    Raises:
        InputError: annotations are missing or malformed; validation images are missing or unreadable and that is not
            allowed; or a split has no usable image.
    """
    root = copy.root
    parts = _parts(root)
    if not any(part.exists() for part in parts["train"]) and all(part.exists() for part in parts["validation"]):
        print(checks.NO_TRAINING_IMAGE, flush=True)
        del parts["train"]
    missing = [part for paths in parts.values() for part in paths if not part.exists()]
    if missing:
        listing = "\n".join(f"  {part}" for part in missing)
        raise InputError(f"{root}: no copy of NightOwls, or an incomplete one. Add what is missing:\n{listing}")
    kept, rows, warnings, findings = {}, [], [], []
    for split, (annotations, folder) in parts.items():
        print(f"reading {split} annotations", flush=True)
        annotated = nightowls.read(annotations)
        kept[split], split_findings = _check_split(split, annotated, folder)
        findings += split_findings
        left_out = len(annotated) - len(kept[split])
        consequence = checks.NOT_COMPARABLE if split == "validation" else ""
        warnings += checks.incomplete_warning(split, left_out, len(annotated), consequence)
        rows += _count(split, annotated, kept[split])
    table = format_table(rows, ["", "all", *IMAGE_CONDITIONS])
    checked = CheckedCopy(kept, {"table": table, "warnings": warnings})
    return checks.finish_check(checked, findings, copy.findings, "validation", _LEAVES_OUT, allow_incomplete)


def _check_split(
    split: str, annotated: Sequence[AnnotatedImage], folder: Path
) -> tuple[list[CheckedImage], list[Finding]]:
    """Return the usable images of a split, and all findings on the split."""

    def check(image):
        path = folder / image.file_name
        if not os.path.isfile(path):
            return path, [Finding(IMAGE_MISSING, f"{split}: {path}")]
        return path, checks.check_image(path, (image.width, image.height), f"{split}: {path}")

    kept, findings = [], []
    with ThreadPoolExecutor() as threads:
        bar = progress_bar(threads.map(check, annotated), f"checking {split}", len(annotated), "images")
        for image, (path, image_findings) in zip(annotated, bar, strict=True):
            findings += image_findings
            if any(finding.kind in _LEAVES_OUT for finding in image_findings):
                continue
            place = f"{split}: {image.file_name}"
            objects, notes = checks.usable_objects(image.objects, image.width, image.height, place)
            findings += notes
            kept.append(CheckedImage(path, image._replace(objects=objects)))
    return kept, findings


def _count(split: str, annotated: Sequence[AnnotatedImage], kept: Sequence[CheckedImage]) -> list[list[object]]:
    """Return the rows of the table: a name, then counts for all, day, night and dawn."""
    counts: dict[str, Counter] = {
        name: Counter()
        for name in ("images annotated", "images", "images without a person", "people", "riders", "ignore areas")
    }
    for image in annotated:
        counts["images annotated"][image.condition] += 1
    for _, image in kept:
        people = checks.count_people(image.objects)
        labels = [annotation.label for annotation in image.objects]
        counts["images"][image.condition] += 1
        counts["images without a person"][image.condition] += not people
        counts["people"][image.condition] += people
        counts["riders"][image.condition] += sum(label.endswith("driver") for label in labels)
        counts["ignore areas"][image.condition] += labels.count("ignore")
    return [
        [f"{split}: {name}", counter.total(), *(counter[condition] for condition in IMAGE_CONDITIONS)]
        for name, counter in counts.items()
    ]
