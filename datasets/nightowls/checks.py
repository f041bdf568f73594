"""Everything about a copy of NightOwls that is looked at before anything is written: images, annotations, counts."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from datasets import copies
from datasets.copies import IMAGE_MISSING, IMAGE_UNREADABLE, CheckedCopy, Copy
from dcrl_jax.annotations import nightowls
from dcrl_jax.annotations.nightowls import CONDITIONS, AnnotatedImage
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

# The splits by the names that the data set has for them.
SPLITS = {"train": "training", "validation": "validation"}


class CheckedImage(NamedTuple):
    """The file of one image, and what is said about it; objects lie in the image, if only in part."""

    path: Path
    annotated: AnnotatedImage


def check_copy(copy: Copy, allow_incomplete: bool) -> CheckedCopy:
    """Looks at every file; prints what it finds.

    Args:
        copy: ``nightowls_training.json``, ``nightowls_training/*.png`` and the same of the validation; everything amiss
            is listed in its file of findings.
        allow_incomplete: whether missing validation images are a warning instead of an error.

    Raises:
        InputError: annotations are missing or malformed; validation images are missing or unreadable and that is not
            allowed; or nothing of a split is usable. Without anything of the training split there is none.
    """
    root = copy.root
    parts = {
        split: [root / f"nightowls_{official}{end}" for end in (".json", "")] for split, official in SPLITS.items()
    }
    if not any(part.exists() for part in parts["train"]) and all(part.exists() for part in parts["validation"]):
        print(copies.SCORED_ALONE, flush=True)
        del parts["train"]
    missing = [part for paths in parts.values() for part in paths if not part.exists()]
    if missing:
        listing = "\n".join(f"  {part}" for part in missing)
        raise InputError(f"{root}: no copy of NightOwls, or not a whole one. Not there:\n{listing}")
    kept, rows, warnings, findings = {}, [], [], []
    for split, (annotations, folder) in parts.items():
        print(f"reading {split} annotations", flush=True)
        annotated = nightowls.read(annotations)
        kept[split], notes = _check_split(split, annotated, folder)
        findings += notes
        if left_out := len(annotated) - len(kept[split]):
            end = "; scores on it are not comparable with others" if split == "validation" else ""
            warnings.append(f"incomplete {split} split: {left_out:,} of {len(annotated):,} images are left out{end}")
        rows += _count(split, annotated, kept[split])
    checked = CheckedCopy(kept, {"table": copies.count_table(["", "all", *CONDITIONS], rows), "warnings": warnings})
    leaves_out = (IMAGE_MISSING, IMAGE_UNREADABLE)
    return copies.conclude(checked, findings, copy.findings, "validation", leaves_out, allow_incomplete)


def _check_split(split: str, annotated: Sequence[AnnotatedImage], folder: Path):
    """The usable images of a split, and all findings on it."""

    def check(image):
        path = folder / image.file_name
        if not path.is_file():
            return path, Finding(IMAGE_MISSING, f"{split}: {path}")
        problem = copies.problem_of_image(path, (image.width, image.height))
        return path, Finding(IMAGE_UNREADABLE, f"{split}: {path}: {problem}") if problem else None

    kept, findings = [], []
    with ThreadPoolExecutor() as threads:
        bar = progress_bar(threads.map(check, annotated), f"checking {split}", len(annotated), "images")
        for image, (path, problem) in zip(annotated, bar, strict=True):
            if problem:
                findings.append(problem)
                continue
            objects, notes = copies.inside(image.objects, image.width, image.height, f"{split}: {image.file_name}")
            findings += notes
            kept.append(CheckedImage(path, image._replace(objects=objects)))
    return kept, findings


def _count(split: str, annotated: Sequence[AnnotatedImage], kept: Sequence[CheckedImage]) -> list[list[object]]:
    """Rows of the table: what, then all, day, night and dawn."""
    counts: dict[str, Counter] = {
        name: Counter()
        for name in ("images annotated", "images", "images without a person", "people", "riders", "ignore areas")
    }
    for image in annotated:
        counts["images annotated"][image.condition] += 1
    for _, image in kept:
        people = sum(one.label == "person" and not one.ignore for one in image.objects)
        counts["images"][image.condition] += 1
        counts["images without a person"][image.condition] += not people
        counts["people"][image.condition] += people
        counts["riders"][image.condition] += sum(one.label.endswith("driver") for one in image.objects)
        counts["ignore areas"][image.condition] += sum(one.label == "ignore" for one in image.objects)
    return [[f"{split}: {name}", by.total(), *(by[one] for one in CONDITIONS)] for name, by in counts.items()]
