"""Which images, annotations and detections count: the rules of the benchmarks' subsets, as data.

An annotation has one of three roles in a subset. A *person* must be found. An *ignore region* need not be found, and a
detection on it counts neither way. Any other object (a car, a bicycle) is dropped: a detection on it is a false
positive. A person outside the subset's limits (too small, too occluded, cut by the border) becomes an ignore region.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.labels import CALTECH_IGNORE, KAIST_IGNORE, PERSON
from dcrl_jax.annotations.roles import Roles, find_roles
from dcrl_jax.annotations.types import HEAVY, IMAGE_CONDITIONS, NONE, PARTIAL

# Dawn, which only NightOwls has, is in no subset but "all".
CONDITIONS = ("all", *IMAGE_CONDITIONS[:2])


class Subset(NamedTuple):
    """One subset of a benchmark: the images, people and detections that count, and how boxes are changed.

    Limits of annotations are inclusive: a person exactly ``min_height_px`` tall counts, and so does one that touches
    the border.
    """

    name: str
    condition: str = "all"  # or one of IMAGE_CONDITIONS
    min_height_px: float = 0.0  # pixels as annotated
    max_height_px: float = float("inf")
    occlusions: frozenset[int] = frozenset({NONE, PARTIAL})
    border: tuple[float, float, float, float] | None = None  # x1, y1, x2, y2 in pixels; people who cross it are ignored
    person_labels: frozenset[str] = frozenset({PERSON})
    ignore_labels: frozenset[str] = frozenset(KAIST_IGNORE)
    aspect_ratio: float | None = None  # width / height given to people and detections; None: unchanged
    min_detection_height_px: float = 0.0  # shorter detections are dropped
    max_detection_height_px: float = float("inf")  # detections of this height or taller are dropped

    @property
    def short_name(self) -> str:
        """The name without its group: "all" for "reasonable-all", "near" for "scale-near"."""
        return self.name.partition("-")[2]


def reasonable(min_height_px: float, border: tuple[float, float, float, float] | None = None) -> tuple[Subset, ...]:
    """Return the "reasonable" subsets all, day and night: people of a minimum height, at most partly occluded.

    Args:
        min_height_px: height of the shortest person that counts, in pixels as annotated.
        border: x1, y1, x2, y2 in pixels; people who leave it are ignored. None: no limit.
    """
    return tuple(
        Subset(f"reasonable-{condition}", condition, min_height_px=min_height_px, border=border)
        for condition in CONDITIONS
    )


# The MATLAB evaluation of the KAIST benchmark ignores annotations that reach into the outer 5 pixels of its 640x512
# images.
KAIST_BORDER = (5.0, 5.0, 635.0, 507.0)
KAIST_REASONABLE = reasonable(55.0, KAIST_BORDER)
KAIST_SCALE = (
    Subset("scale-near", min_height_px=115.0, occlusions=frozenset({NONE}), border=KAIST_BORDER),
    Subset("scale-medium", min_height_px=45.0, max_height_px=115.0, occlusions=frozenset({NONE}), border=KAIST_BORDER),
    Subset("scale-far", min_height_px=1.0, max_height_px=45.0, occlusions=frozenset({NONE}), border=KAIST_BORDER),
)
KAIST_OCCLUSION = tuple(
    Subset(f"occlusion-{name}", min_height_px=1.0, occlusions=frozenset({level}), border=KAIST_BORDER)
    for name, level in (("none", NONE), ("partial", PARTIAL), ("heavy", HEAVY))
)
KAIST_SUBSETS = KAIST_REASONABLE + KAIST_SCALE + KAIST_OCCLUSION

# In Caltech's and NightOwls' subsets, detections count from the minimum height of people divided by this factor to the
# maximum height multiplied by it. So a box slightly too small or too large can still find a person at the limit.
DETECTION_MARGIN = 1.25

# The MATLAB evaluation of the Caltech benchmark, version 3.2.1: at least 65 % of the person is visible, which is no or
# partial occlusion. Annotations with other labels are dropped. Images have
# 640x480 pixels.
CALTECH_REASONABLE = Subset(
    "caltech-reasonable",
    min_height_px=50.0,
    border=(5.0, 5.0, 635.0, 475.0),
    ignore_labels=frozenset(CALTECH_IGNORE),
    aspect_ratio=0.41,
    min_detection_height_px=50.0 / DETECTION_MARGIN,
)


def _nightowls(name: str, min_height_px: float, max_height_px: float, occlusions: frozenset[int]) -> Subset:
    return Subset(
        f"nightowls-{name}",
        min_height_px=min_height_px,
        max_height_px=max_height_px,
        occlusions=occlusions,
        ignore_labels=frozenset(),
        min_detection_height_px=min_height_px / DETECTION_MARGIN,
        max_detection_height_px=max_height_px * DETECTION_MARGIN,
    )


# The four settings of the NightOwls evaluation. Only ignored pedestrians absorb detections. People marked as occluded
# count as half visible, which is heavy occlusion; all others count as fully visible.
NIGHTOWLS_SUBSETS = (
    _nightowls("reasonable", 50.0, float("inf"), frozenset({NONE, PARTIAL})),
    _nightowls("small", 50.0, 75.0, frozenset({NONE, PARTIAL})),
    _nightowls("occluded", 50.0, float("inf"), frozenset({HEAVY})),
    _nightowls("all", 20.0, float("inf"), frozenset({NONE, PARTIAL, HEAVY})),
)


def everyone(
    person_labels: Collection[str] = frozenset({PERSON}), ignore_labels: Collection[str] = KAIST_IGNORE
) -> Subset:
    """Return the subset of all people, whom COCO's average precision is of: of any height and occlusion, anywhere.

    People marked as ignored, and objects with one of ``ignore_labels``, are ignore regions.
    """
    return Subset(
        "everyone",
        occlusions=frozenset({NONE, PARTIAL, HEAVY}),
        person_labels=frozenset(person_labels),
        ignore_labels=frozenset(ignore_labels),
    )


def assign_roles(
    subset: Subset, boxes: np.ndarray, labels: Sequence[str] | np.ndarray, occlusion: np.ndarray, ignore: np.ndarray
) -> Roles:
    """Return the role of each annotation in ``subset``.

    Args:
        subset: the rules.
        boxes: float [G, 4], x, y, width, height in pixels as annotated.
        labels: G names.
        occlusion: int [G], 0 none, 1 partial, 2 heavy.
        ignore: bool [G], True for annotations that are marked as not to be scored.
    """
    return find_roles(
        np.asarray(boxes, np.float64).reshape(-1, 4),
        labels,
        occlusion,
        np.asarray(ignore, bool),
        person_labels=subset.person_labels,
        ignore_labels=subset.ignore_labels,
        occlusions=subset.occlusions,
        min_height_px=subset.min_height_px,
        max_height_px=subset.max_height_px,
        border=subset.border,
    )


def describe_subset(subset: Subset) -> str:
    """Return a readable description of the people who count in ``subset``."""
    occlusions = {
        frozenset({NONE, PARTIAL}): "at most partly occluded",
        frozenset({NONE}): "not occluded",
        frozenset({PARTIAL}): "partly occluded",
        frozenset({HEAVY}): "heavily occluded",
    }
    rules = [f"at least {subset.min_height_px:g} pixels tall" if subset.min_height_px > 0 else "of any height"]
    if np.isfinite(subset.max_height_px):
        rules.append(f"at most {subset.max_height_px:g}")
    if subset.occlusions in occlusions:
        rules.append(occlusions[subset.occlusions])
    if subset.border:
        x1, y1, x2, y2 = subset.border
        rules.append(f"inside x {x1:g} to {x2:g}, y {y1:g} to {y2:g}")
    return ", ".join(rules)
