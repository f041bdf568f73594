"""Check of a user's copy of KAIST: images, annotations and counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from datasets import checks
from datasets.checks import IMAGE_MISSING, IMAGE_UNREADABLE
from datasets.fetched import CheckedCopy, Copy
from datasets.kaist import sets
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist import folders, formats, frames, truths
from dcrl_jax.annotations.labels import UNPAIRED
from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.types import MISSING, MODALITIES, UNREADABLE, Annotation, Finding, box_text
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.progress import progress_bar
from dcrl_jax.tables import format_table

UNUSED = "image file that is not used"
NO_PAIR = "row without a box in either image"

# Findings that leave a frame out of its split, and are errors for test frames.
_LEAVES_OUT = (IMAGE_MISSING, IMAGE_UNREADABLE, MISSING, UNREADABLE, truths.ROWS_DIFFER)


class Pair(NamedTuple):
    """The checked files of one frame, and its annotations."""

    image_id: str
    visible: Path
    lwir: Path
    objects: list[Annotation]
    objects_lwir: list[Annotation] | None  # only of paired annotations; row i of both is the same object


def source_files(root: Path, config: Any) -> dict[str, Path]:
    """Return the files below a folder that can change the records of a config, by their names below the folder.

    These are the images and annotations of the config's frames, all COCO files, and the annotations of the benchmark's
    test frames, which decide the kind of a set.

    Raises:
        InputError: a folder cannot be read.
    """
    wanted = {image_id for split in frames.SPLITS for image_id in config.image_ids(split)}
    wanted_texts = wanted.union(frames.split_frames("test"))
    files = {name: root / name for name in sets.read_coco_files(root)[0]}
    for path in walk(root, (*folders.IMAGE_SUFFIXES, *folders.ANNOTATION_SUFFIXES)):
        is_text = path.suffix.lower() in folders.ANNOTATION_SUFFIXES
        file = folders.recognise(path, root)
        if file and file.image_id in (wanted_texts if is_text else wanted):
            files[path.relative_to(root).as_posix()] = path
    return files


def check_copy(copy: Copy, config: Any, allow_incomplete: bool) -> CheckedCopy:
    """Check every file that a config needs, print the result, and return the usable part of the copy.

    A copy without any training image has no training split.

    Args:
        copy: the user's copy; its file of findings gets the list of all problems.
        config: a KaistConfig.
        allow_incomplete: whether missing test images are a warning instead of an error.

    Raises:
        InputError: test images or their annotations are missing or unreadable and that is not allowed; no annotations
            match the config; or a split has no usable pair.
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
    available = index.files["visible"].keys() | index.files["lwir"].keys()
    splits = frames.SPLITS if available.intersection(config.image_ids("train")) else ("test",)
    if "train" not in splits:
        print(checks.NO_TRAINING_IMAGE, flush=True)
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
        pairs[split], split_findings = _check_split(split, image_ids, index.files, choice.chosen)
        findings += split_findings
        left_out = len(image_ids) - len(pairs[split])
        consequence = checks.INDEX_OF_KEPT if split == "test" else ""
        warnings += checks.incomplete_warning(split, left_out, len(image_ids), consequence)
        rows += _count(split, image_ids, pairs[split])
    shared = sorted(set(config.image_ids("train")) & set(config.image_ids("test")))
    if shared and "train" in splits:
        warnings.append(f"frames in both splits: {len(shared):,} ({', '.join(first_few(shared, 5))})")
    table = format_table(rows, ["", "all", "day", "night"])
    metadata = {"layout": index.layout, "annotations": read_from, "table": table, "warnings": warnings}
    checked = CheckedCopy(pairs, metadata)
    return checks.finish_check(checked, findings, copy.findings, "test", _LEAVES_OUT, allow_incomplete)


def _check_split(
    split: str, image_ids: Sequence[str], files: Mapping[str, Mapping[str, Path]], chosen: sets.AnnotationSet
) -> tuple[list[Pair], list[Finding]]:
    """Return the usable pairs of a split, and all findings on the split."""
    findings = [
        Finding(kind, f"{split}: {text}")
        for modality_truths in chosen.truths.values()
        for kind, text in modality_truths.findings
    ]
    unpairable = sets.find_unpairable(chosen)
    findings += [Finding(truths.ROWS_DIFFER, f"{split}: {image_id}: {text}") for image_id, text in unpairable.items()]

    def check_images(image_id):
        found = []
        for modality in MODALITIES:
            path = files[modality].get(image_id)
            if path is None:
                found.append(Finding(IMAGE_MISSING, f"{split}: {image_id} {modality}"))
            else:
                found += checks.check_image(path, (frames.WIDTH_PX, frames.HEIGHT_PX), f"{split}: {path}", modality)
        return found

    pairs = []
    with ThreadPoolExecutor() as threads:
        checked = threads.map(check_images, image_ids)
        bar = progress_bar(checked, f"checking {split}", len(image_ids), "pairs")
        for image_id, image_findings in zip(image_ids, bar, strict=True):
            findings += image_findings
            is_left_out = any(finding.kind in _LEAVES_OUT for finding in image_findings)
            is_annotated = all(image_id in modality_truths.by_id for modality_truths in chosen.truths.values())
            if is_left_out or not is_annotated or image_id in unpairable:
                continue
            objects, objects_lwir, box_findings = _objects(image_id, chosen, f"{split}: {image_id}")
            findings += box_findings
            pairs.append(Pair(image_id, files["visible"][image_id], files["lwir"][image_id], objects, objects_lwir))
    return pairs, findings


def _objects(image_id, chosen, place):
    """Return a frame's annotations within the image, those of the thermal image if paired (else None), and findings."""
    if chosen.kind == "paired":
        visible, lwir = (chosen.truths[modality].by_id[image_id] for modality in MODALITIES)
        return _paired_objects(visible, lwir, place)
    objects, findings = checks.usable_objects(
        chosen.truths[None].by_id[image_id], frames.WIDTH_PX, frames.HEIGHT_PX, place
    )
    return objects, None, findings


def _paired_objects(visible, lwir, place):
    """Return the annotations of both images row by row, and findings on the boxes that are left out."""
    rows = []
    pairs = list(zip(visible, lwir, strict=True))
    unique, findings = drop_repeats(pairs, place, _pair_text)
    for pair in unique:
        number = pairs.index(pair) + 1
        overlaps = [checks.overlaps_image(annotation, frames.WIDTH_PX, frames.HEIGHT_PX) for annotation in pair]
        if not any(overlaps):
            findings.append(Finding(NO_PAIR, f"{place}: row {number}, {_pair_text(pair)}"))
            continue
        # Boxes of no size have their finding from the reader, and the box of a placeholder means nothing.
        findings += [
            Finding(checks.OUTSIDE, f"{place} {modality}: row {number}, {box_text(annotation)}")
            for modality, annotation, is_inside in zip(MODALITIES, pair, overlaps, strict=True)
            if not is_inside and min(annotation.box[2:]) > 0 and annotation.label != UNPAIRED
        ]
        # In an image without a box of the object, the other image's box becomes an ignore region.
        other = pair[overlaps.index(True)]._replace(label=UNPAIRED, ignore=True)
        rows.append([annotation if is_inside else other for annotation, is_inside in zip(pair, overlaps, strict=True)])
    return [row[0] for row in rows], [row[1] for row in rows], findings


def _pair_text(pair):
    return "; ".join(map(box_text, pair))


def _count(split: str, image_ids: Sequence[str], pairs: Sequence[Pair]) -> list[list[object]]:
    """Return the rows of the table: a name, then counts for all, day and night."""
    counts: dict[str, Counter] = {
        name: Counter() for name in ("frames asked for", "pairs", "pairs without a person", "people", "ignore regions")
    }
    for image_id in image_ids:
        counts["frames asked for"][frames.condition(image_id)] += 1
    for pair in pairs:
        condition = frames.condition(pair.image_id)
        people = checks.count_people(pair.objects)
        # An unknown label is neither a person nor an ignore region.
        known = sum(annotation.ignore or annotation.label in formats.LABELS for annotation in pair.objects)
        counts["pairs"][condition] += 1
        counts["pairs without a person"][condition] += not people
        counts["people"][condition] += people
        counts["ignore regions"][condition] += known - people
    return [[f"{split}: {name}", counter.total(), counter["day"], counter["night"]] for name, counter in counts.items()]
