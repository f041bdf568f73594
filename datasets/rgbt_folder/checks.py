"""Check of a folder of pairs: images, labels and counts."""

import filecmp
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from datasets import checks
from datasets.fetched import CheckedCopy, Copy
from datasets.rgbt_folder import labels, splits, summary
from datasets.rgbt_folder.conditions import BY_BRIGHTNESS, Conditions, conditions_of_names
from datasets.rgbt_folder.files import below, image_ids, image_names
from datasets.rgbt_folder.matching import NOT_USED, SEVERAL_PAIRS
from datasets.rgbt_folder.options import SPLITS
from datasets.rgbt_folder.pair_check import (
    BACKGROUND,
    LEAVES_OUT,
    NO_LABELS,
    SIZES_DIFFER,
    CheckedPair,
    Item,
    check_pair,
)
from datasets.rgbt_folder.plan import Plan
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.progress import progress_bar

COPIED = "visible image that is a copy of another pair's"


def check_copy(
    copy: Copy, config: Any, plan: Plan, contents: Mapping[str, Sequence[int]], allow_incomplete: bool
) -> CheckedCopy:
    """Check all images and labels, print the result, and return the usable pairs by split.

    Args:
        copy: the user's folder; its file of findings gets the list of all problems.
        config: a FolderConfig.
        plan: of the folder.
        contents: size, time and checksum of each file of the plan, by its name.
        allow_incomplete: whether pairs of the scored split, and pairs of two sizes, may be left out.

    Raises:
        InputError: images of the scored split or their labels are unreadable, or sizes differ, and that is not allowed;
            a split has no label or no usable pair; no label is a person's; or the names of YOLO's classes are unknown.
    """
    of_pairs = plan.splits.of_pairs
    print(f"{copy.root}: {len(of_pairs):,} pairs, {plan.found.source}", flush=True)
    names = [split for split in SPLITS if split in of_pairs]
    is_labelled = config.labels != "none"
    if is_labelled:
        _check_labelled(copy.root, plan, names, config)
    conditions = conditions_of_names(plan.found.pairs, config)
    checked = _check_pairs(plan, conditions)
    copies, crossing = _find_copies(plan, checked, contents)
    findings = [*plan.found.findings, *plan.splits.findings, *plan.labels.findings]
    findings += [finding for result in checked.values() for finding in result.findings] + copies
    _check_usable(checked.values(), findings, copy, allow_incomplete)
    counts = Counter(label.label for result in checked.values() if result.item for label in result.item.objects)
    meanings = labels.choose_meanings(counts, config) if is_labelled else {}
    kept: dict[str, list[Item]] = {split: [] for split in names}
    for index, result in checked.items():
        if result.item:
            objects = labels.apply_meanings(result.item.objects, meanings)
            kept[str(of_pairs[index])].append(result.item._replace(objects=objects))
    by_brightness = sum(conditions.of_pairs[index] is None for index in checked)
    facts = _facts(plan, config, checked, conditions.describe(by_brightness, len(checked)))
    warnings = [f"{BY_BRIGHTNESS}: {by_brightness:,} of {len(checked):,} pairs"] if by_brightness else []
    warnings += [] if is_labelled else ["labels=none: the pairs have no labels and serve as data.unlabelled only"]
    if unknown := labels.unknown_labels(counts, config):
        warnings.append(f"no object has the label {', '.join(unknown)}, which person_labels or ignore_labels names")
    scored = "test" if "test" in names or "validation" not in names else "validation"
    expected = Counter(of_pairs)
    # Lines of lists that name no pair are pairs that are missing.
    expected.update(text.partition(":")[0] for kind, text in plan.splits.findings if kind == splits.NO_PAIR)
    unlabelled = Counter(text.partition(": ")[0] for kind, text in findings if kind == NO_LABELS)
    for split in names:
        if unlabelled[split] and is_labelled:
            share = f"{unlabelled[split]:,} of {of_pairs.count(split):,} images"
            warnings.append(f"{split} split: {share} have no labels, {BACKGROUND}")
        if is_labelled and kept[split] and not any(checks.count_people(item.objects) for item in kept[split]):
            warnings.append(f"{split} split: no image has a person")
        left_out = expected[split] - len(kept[split])
        consequence = checks.NOT_COMPARABLE if split == scored else ""
        warnings += checks.incomplete_warning(split, left_out, expected[split], consequence)
    if crossing:
        warnings.append(f"images that are also in another split: {crossing:,}; scores on images of training say little")
    if "train" not in names:
        print(checks.NO_TRAINING_IMAGE, flush=True)
    table = summary.describe(kept, counts, meanings, facts)
    metadata = {
        "table": "\n".join([table, *splits.advice(names)]),
        "warnings": warnings,
        "contact_sheet": summary.choose_examples(kept),
    }
    leaves_out = (*LEAVES_OUT, splits.NO_PAIR)
    return checks.finish_check(
        CheckedCopy(kept, metadata), findings, copy.findings, scored, leaves_out, allow_incomplete
    )


def _check_pairs(plan: Plan, conditions: Conditions) -> dict[int, CheckedPair]:
    """Check all pairs that have a split; return the results by their indices."""
    ids = image_ids(plan.found.pairs)

    def check(index):
        return check_pair(plan, index, ids[index], conditions.of_pairs[index])

    used = [index for index, split in enumerate(plan.splits.of_pairs) if split]
    with ThreadPoolExecutor() as threads:
        try:
            bar = progress_bar(threads.map(check, used), "checking", len(used), "pairs")
            return dict(zip(used, bar, strict=True))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _find_copies(plan, checked, contents):
    """Return findings on visible images that are copies of another pair's, and how many of them cross splits."""
    first: dict[tuple[int, ...], int] = {}
    findings, between_splits = [], 0
    for index in checked:
        pair, split = plan.found.pairs[index], plan.splits.of_pairs[index]
        size, _, checksum = contents[pair.visible_name]
        first_index = first.setdefault((size, checksum), index)
        other, other_split = plan.found.pairs[first_index], plan.splits.of_pairs[first_index]
        # Checksums of images are of their start and end only.
        if size > 0 and first_index != index and filecmp.cmp(pair.visible, other.visible, shallow=False):
            text = f"{split}: {pair.visible_name}: as {other_split}: {other.visible_name}"
            findings.append(Finding(COPIED, text))
            between_splits += split != other_split
    return findings, between_splits


def _check_usable(checked, findings, copy, allow_incomplete):
    """Raise an error if no pair is usable, or images of a pair differ in size and may not be left out."""
    differing = Counter(result.sizes for result in checked if any(kind == SIZES_DIFFER for kind, _ in result.findings))
    is_usable = any(result.item for result in checked)
    if is_usable and (allow_incomplete or not differing):
        return
    checks.report_findings(findings, copy.findings)
    if not differing:
        reasons = [finding for finding in findings if finding.kind in LEAVES_OUT]
        counts = summary.count_texts(kind for kind, _ in reasons)
        raise InputError(f"no pair can be used: {counts}, such as {reasons[0].text}; {copy.findings} lists them.")
    counts = "; ".join(first_few([f"{sizes}: {count:,} pairs" for sizes, count in differing.most_common()], 5))
    leave_out = (
        " Or leave these pairs out with --allow_incomplete (config.data.options.allow_incomplete=True)."
        if is_usable
        else ""
    )
    raise InputError(
        f"the images of a pair differ in size: {counts}. If both cameras show the same scene at two resolutions, give "
        "lwir_to_visible=stretch (config.data.options.lwir_to_visible); if not, the part of the thermal image that the "
        f"visible one shows, as four numbers, or a homography, as nine.{leave_out}"
    )


def _facts(plan: Plan, config: Any, checked: Mapping[int, CheckedPair], conditions: str) -> dict[str, str]:
    """Return where all comes from, for the table."""
    formats = [text for result in checked.values() for text in result.formats]
    names = ", ".join(plan.class_names.names or ()) if "YOLO" in formats else ""
    left_out, unlabelled = plan.splits.of_pairs.count(None), plan.labels.other_side
    labels_of = f"{config.labels}{f', in {config.label_folder}' if config.label_folder else ''}"
    return {
        "pairs": plan.found.source,
        "splits": plan.splits.source + (f"; {left_out:,} pairs are in none" if left_out else ""),
        "day and night": conditions,
        "labels": labels_of + (f"; {unlabelled:,} pairs have only labels of the other image" if unlabelled else ""),
        "label formats": summary.count_texts(formats),
        "class names": f"{names} ({plan.class_names.source})" if names else "",
        "image sizes": summary.count_texts(result.sizes for result in checked.values() if result.sizes),
        "thermal images": f"lwir_to_visible={plan.registration.describe()}" if plan.registration else "",
    }


def _check_labelled(root, plan: Plan, names: Sequence[str], config: Any) -> None:
    """Raise an error if a split has no label at all, or images without labels are an error."""
    for split in names:
        indices = [index for index, name in enumerate(plan.splits.of_pairs) if name == split]
        missing = [index for index in indices if not plan.labels.of_pairs[index]]
        examples = ", ".join(first_few([plan.found.pairs[index].name for index in missing], 3))
        if len(missing) == len(indices):
            raise InputError(
                f"no label for any of the {len(indices):,} {split} images ({examples}). {_hint(root, plan, config)}"
            )
        if missing and config.missing_labels == "error":
            raise InputError(
                f"{len(missing):,} of {len(indices):,} {split} images have no labels: {examples}. Add their label "
                "files; or with missing_labels=background they are images without objects."
            )


def _hint(root, plan, config):
    if plan.labels.other_side:
        other = {"visible": "lwir", "lwir": "visible"}[config.labels]
        return (
            f"{plan.labels.other_side:,} pairs have labels of the {other} image, by a word in their path: use them "
            f"with labels={other} (config.data.options.labels)."
        )
    shared = [text for kind, text in plan.labels.findings if kind == SEVERAL_PAIRS]
    if shared:
        return f"Of each label file, it must be clear whose it is; put it into the folder of its pair: {shared[0]}."
    unused = [below(text, root) for kind, text in plan.labels.findings if kind == NOT_USED]
    found = f"Label files of no image that is there: {', '.join(first_few(unused, 3))}. " if unused else ""
    stems = {name.rpartition("/")[2] for pair in plan.found.pairs for name in image_names(pair)}
    folders = [path.parent for path in map(PurePosixPath, unused) if path.stem in stems and path.parent.parts]
    # Within the folder that is named, only what is below it tells.
    remedy = f"label_folder={folders[0]} reads those in a folder of another name. " if folders else ""
    remedy = "" if config.label_folder else remedy
    return (
        f"{found}Expected in {config.label_folder or 'the folder'} a file .txt or .xml with the name of the pair or of "
        "one of its images, in a folder that is called as that of the images but for words such as labels; or COCO's "
        f"JSON, which CVAT, Label Studio and Roboflow export. {remedy}A CSV list can name the files: pairs=FILE.csv "
        "with the columns visible, lwir, labels."
    )
