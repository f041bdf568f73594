"""Everything about a copy of KAIST that is looked at before anything is written: files, annotations, counts."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from datasets import copies
from datasets.copies import IMAGE_MISSING, IMAGE_UNREADABLE, CheckedCopy, Copy
from datasets.kaist import sets
from dcrl_jax.annotations.kaist import folders, formats, frames, truths
from dcrl_jax.annotations.kaist.folders import MODALITIES
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

UNUSED = "image file that is not used"
NO_PAIR = "row without a box in either image"

# What leaves a frame out of its split, and is an error where the frame is a test image.
_LEAVES_OUT = (IMAGE_MISSING, IMAGE_UNREADABLE, MISSING, UNREADABLE, truths.ROWS_DIFFER)


class Pair(NamedTuple):
    """The files of one frame, checked, and its annotations."""

    image_id: str
    visible: Path
    lwir: Path
    objects: list[Annotation]
    objects_lwir: list[Annotation] | None  # of paired annotations; row i of both is the same object


def check_copy(copy: Copy, config: Any, allow_incomplete: bool) -> CheckedCopy:
    """Looks at every file that a config asks for; prints what it finds.

    Args:
        copy: what was fetched; everything amiss is listed in its file of findings.
        config: a KaistConfig.
        allow_incomplete: whether missing test images are a warning instead of an error.

    Raises:
        InputError: test images or their annotations are missing or unreadable and that is not allowed; no
            annotations fit the config; or nothing of a split is usable. Without any training image there is no
            training split.
    """
    root = copy.root
    print(f"KAIST in {root}: looking for files", flush=True)
    index = folders.index_images(root)
    print(f"layout: {index.layout}", flush=True)
    if not any(index.files.values()):
        raise InputError(
            f"{root}: no image of KAIST found. Expected files like images/set00/V000/visible/I00000.jpg, "
            "train/images/lwir/set00_V000_I00000.png or infrared/test/set06_V000_I00019.png anywhere below it."
        )
    annotation_folders = folders.index_annotations(root)
    coco_files, findings = sets.read_coco_files(root)
    findings += [Finding(UNUSED, text) for text in index.unused]
    pairs, rows, read_from, warnings = {}, [], {}, []
    there = index.files["visible"].keys() | index.files["lwir"].keys()
    splits = frames.SPLITS if there.intersection(config.image_ids("train")) else ("test",)
    if "train" not in splits:
        print(copies.SCORED_ALONE, flush=True)
    for split in splits:
        image_ids = config.image_ids(split)
        print(f"reading {split} annotations", flush=True)
        choice = sets.choose(
            sets.read_sets(annotation_folders, coco_files, split, image_ids),
            config.annotations,
            split,
            len(image_ids),
            getattr(config, f"{split}_annotations"),
        )
        read_from[split] = choice.chosen.describe(len(image_ids))
        print(f"{split} annotations: {read_from[split]}", flush=True)
        warnings += choice.notes
        split_pairs, split_findings = _check_split(split, image_ids, index.files, choice.chosen)
        pairs[split] = split_pairs
        findings += split_findings
        left_out = len(image_ids) - len(split_pairs)
        if left_out and split == "test":
            warnings.append(
                f"incomplete test split: {left_out:,} of {len(image_ids):,} images are left out; scores on it are not "
                "comparable with others, and results files count the images that are there"
            )
        elif left_out:
            warnings.append(f"incomplete training split: {left_out:,} of {len(image_ids):,} images are left out")
        rows += _count(split, image_ids, split_pairs)
    both = set(config.image_ids("train")) & set(config.image_ids("test"))
    if both and "train" in splits:
        warnings.append(f"frames in both splits: {len(both):,} ({frames.shorten(sorted(both))})")
    table = copies.count_table(["", "all", "day", "night"], rows)
    metadata = {"layout": index.layout, "annotations": read_from, "table": table, "warnings": warnings}
    checked = CheckedCopy(pairs, metadata)
    return copies.conclude(checked, findings, copy.findings, "test", _LEAVES_OUT, allow_incomplete)


def _check_split(split, image_ids, files, chosen):
    """The usable pairs of a split, and all findings on it."""
    findings = [Finding(one.kind, f"{split}: {one.text}") for read in chosen.truths.values() for one in read.findings]
    differ = sets.rows_differ(chosen)
    findings += [Finding(truths.ROWS_DIFFER, f"{split}: {image_id}: {text}") for image_id, text in differ.items()]

    def check_images(image_id):
        problems = []
        for modality in MODALITIES:
            path = files[modality].get(image_id)
            if path is None:
                problems.append(Finding(IMAGE_MISSING, f"{split}: {image_id} {modality}"))
            elif problem := copies.problem_of_image(path, (frames.WIDTH_PX, frames.HEIGHT_PX)):
                problems.append(Finding(IMAGE_UNREADABLE, f"{split}: {path}: {problem}"))
        return problems

    pairs = []
    with ThreadPoolExecutor() as threads:
        checked = threads.map(check_images, image_ids)
        bar = progress_bar(checked, f"checking {split}", len(image_ids), "pairs")
        for image_id, problems in zip(image_ids, bar, strict=True):
            findings += problems
            annotated = all(image_id in read.by_id for read in chosen.truths.values()) and image_id not in differ
            if problems or not annotated:
                continue
            objects, objects_lwir, notes = _objects(image_id, chosen)
            findings += [Finding(one.kind, f"{split}: {one.text}") for one in notes]
            pairs.append(Pair(image_id, files["visible"][image_id], files["lwir"][image_id], objects, objects_lwir))
    return pairs, findings


def _objects(image_id, chosen):
    """The annotations of one frame whose boxes lie in the image, those of both images if they are paired."""
    if chosen.kind == "paired":
        return _paired_objects(image_id, *(chosen.truths[modality].by_id[image_id] for modality in MODALITIES))
    annotations = chosen.truths[None].by_id[image_id]
    notes = [Finding(copies.OUTSIDE, f"{image_id}: {_text(one)}") for one in annotations if not _is_inside(one)]
    return [one for one in annotations if _is_inside(one)], None, notes


def _paired_objects(image_id, visible, lwir):
    rows, notes = [], []
    for place, pair in enumerate(zip(visible, lwir, strict=True), start=1):
        inside = [_is_inside(one) for one in pair]
        if not any(inside):
            notes.append(Finding(NO_PAIR, f"{image_id}: row {place}, {_text(pair[0])}; {_text(pair[1])}"))
            continue
        # A box of no size is in the findings of the file, and a placeholder need not lie anywhere.
        notes += [
            Finding(copies.OUTSIDE, f"{image_id} {modality}: row {place}, {_text(one)}")
            for modality, one, holds in zip(MODALITIES, pair, inside, strict=True)
            if not holds and min(one.box[2:]) > 0 and one.label != "unpaired"
        ]
        # Where one image has no box for it, the other's says where to leave detections alone.
        there = pair[inside.index(True)]
        rows.append(
            [
                one if holds else there._replace(label="unpaired", ignore=True)
                for one, holds in zip(pair, inside, strict=True)
            ]
        )
    return [row[0] for row in rows], [row[1] for row in rows], notes


def _is_inside(annotation):
    x, y, w, h = annotation.box
    return w > 0 and h > 0 and x < frames.WIDTH_PX and y < frames.HEIGHT_PX and x + w > 0 and y + h > 0


def _text(annotation):
    return f"{annotation.label[:40]} {' '.join(f'{value:g}' for value in annotation.box)}"


def _count(split: str, image_ids: Sequence[str], pairs: Sequence[Pair]) -> list[list[object]]:
    """Rows of the table: what, then all, day and night."""
    counts: dict[str, Counter] = {
        name: Counter() for name in ("frames asked for", "pairs", "pairs without a person", "people", "ignore regions")
    }
    for image_id in image_ids:
        counts["frames asked for"][frames.condition(image_id)] += 1
    for pair in pairs:
        condition = frames.condition(pair.image_id)
        people = sum(one.label == "person" and not one.ignore for one in pair.objects)
        counts["pairs"][condition] += 1
        counts["pairs without a person"][condition] += not people
        counts["people"][condition] += people
        # Labels that nobody knows are neither.
        known = sum(one.ignore or one.label in formats.LABELS for one in pair.objects)
        counts["ignore regions"][condition] += known - people
    return [[f"{split}: {name}", by["day"] + by["night"], by["day"], by["night"]] for name, by in counts.items()]
