"""Check of one pair: its images, its labels, day or night."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import checks
from datasets.checks import IMAGE_UNREADABLE
from datasets.rgbt_folder import labels
from datasets.rgbt_folder.conditions import condition_of_image
from datasets.rgbt_folder.plan import Plan
from dcrl_jax.annotations.label_files import NoClassNames
from dcrl_jax.annotations.types import UNREADABLE, Annotation, Finding
from dcrl_jax.decoding import decode, grey_lwir
from dcrl_jax.errors import InputError
from dcrl_jax.registration import Registration, map_boxes

BACKGROUND = "taken as background"
NO_LABELS = f"image without labels, {BACKGROUND}"
SIZES_DIFFER = "thermal image of another size than its visible one"
# Findings that leave a pair out of its split.
LEAVES_OUT = (IMAGE_UNREADABLE, SIZES_DIFFER, UNREADABLE)


class Item(NamedTuple):
    """A checked pair."""

    image_id: str
    visible: Path
    lwir: Path
    size: tuple[int, int]  # width and height of the visible image
    condition: str
    objects: list[Annotation]
    registration: Registration | None  # of the thermal image; None if it is stored as it is


class CheckedPair(NamedTuple):
    """What the check of one pair found."""

    item: Item | None
    findings: list[Finding]
    sizes: str  # of both images, for the user
    formats: list[str]  # of the label files


def check_pair(plan: Plan, index: int, image_id: str, condition: str | None) -> CheckedPair:
    """Check the images and read the labels of one pair of a plan; findings begin with the name of its split.

    Args:
        plan: of the folder.
        index: of the pair.
        image_id: its name in the records.
        condition: day or night; None if the brightness of the visible image is to tell.

    Raises:
        InputError: YOLO's labels need the names of their classes, or the registration does not fit the images.
    """
    pair, split, registration = plan.found.pairs[index], plan.splits.of_pairs[index], plan.registration
    files = plan.labels.of_pairs[index]
    facts = checks.look_at_image(pair.visible, f"{split}: {pair.visible}", "visible")
    lwir_facts = checks.look_at_image(pair.lwir, f"{split}: {pair.lwir}", "lwir")
    findings = [*facts.findings, *lwir_facts.findings]
    if facts.size is None or lwir_facts.size is None:
        return CheckedPair(None, findings, "", [])
    size, lwir_size = facts.size, lwir_facts.size
    sizes = [f"{width}x{height}" for width, height in (size, lwir_size)]
    sizes = sizes[0] if size == lwir_size else f"visible {sizes[0]} thermal {sizes[1]}"
    if registration:
        map_boxes(np.zeros((0, 4)), registration, lwir_size, size)  # raises if these sizes do not fit
        findings += _check_warpable(pair.lwir, f"{split}: {pair.lwir}")
    elif lwir_size != size:
        findings.append(Finding(SIZES_DIFFER, f"{split}: {pair.lwir}: {sizes}"))
    if any(finding.kind in LEAVES_OUT for finding in findings):
        return CheckedPair(None, findings, sizes, [])
    if not files and plan.is_labelled:
        findings.append(Finding(NO_LABELS, f"{split}: {pair.name}"))
    try:
        found = labels.read_labels(files, size, lwir_size, registration, plan.class_names.names)
        condition = condition or condition_of_image(pair.visible)
    except NoClassNames as error:
        raise InputError(plan.class_names.problem or str(error)) from error
    except InputError as error:
        return CheckedPair(None, [*findings, Finding(UNREADABLE, f"{split}: {error}")], sizes, [])
    except (OSError, SyntaxError, ValueError) as error:  # of Pillow: an image whose middle is broken
        findings.append(Finding(IMAGE_UNREADABLE, f"{split}: {pair.visible}: cannot be decoded ({error})"))
        return CheckedPair(None, findings, sizes, [])
    findings += [Finding(kind, f"{split}: {text}") for kind, text in found.findings]
    objects, box_findings = checks.usable_objects(found.annotations, *size, f"{split}: {pair.name}")
    item = Item(image_id, pair.visible, pair.lwir, size, condition, objects, registration)
    return CheckedPair(item, findings + box_findings, sizes, found.formats)


def _check_warpable(path, place):
    """Return the finding on a thermal image that cannot be warped and stored as PNG."""
    try:
        pixels, dtype = decode(path.read_bytes(), place)
        grey_lwir(pixels, dtype, place)
    except (InputError, OSError) as error:
        return [Finding(IMAGE_UNREADABLE, str(error))]
    if pixels.dtype not in (np.uint8, np.uint16):
        text = f"{place}: {dtype} values, which PNG cannot hold; save it with uint8 or uint16 to use lwir_to_visible"
        return [Finding(IMAGE_UNREADABLE, text)]
    return []
