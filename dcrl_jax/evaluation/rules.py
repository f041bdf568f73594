"""Which annotations count: the rules of a benchmark's subsets, as data.

An annotation has one of three roles in a subset. A *person* must be found. An *ignore region* is neither asked for nor
held against a detection that lies on it. Everything else (a car, a bicycle) is dropped: a detection on it is a false
positive. A person that the subset does not ask for (too small, too hidden, cut by the border) becomes an ignore region.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.labels import CALTECH_IGNORE, KAIST_IGNORE, PERSON
from dcrl_jax.annotations.types import HEAVY, NONE, PARTIAL
from dcrl_jax.annotations.types import IMAGE_CONDITIONS as IMAGE_CONDITIONS

PERSON_LABELS = frozenset({PERSON})
# "people" are groups, "person?" is doubtful; "ignore" is what some annotation sets call any such region, "unpaired" a
# person whom the other camera alone shows.
IGNORE_LABELS = frozenset(KAIST_IGNORE)

# Dawn, which only NightOwls has, is in no subset but "all".
CONDITIONS = ("all", "day", "night")


class Subset(NamedTuple):
    """One subset of a benchmark: which images, which of their annotations have to be found, and what becomes of boxes.

    Limits of annotations include their edges: a person exactly ``min_height_px`` tall counts, and so does one that
    touches the border.
    """

    name: str
    condition: str = "all"  # or one of IMAGE_CONDITIONS
    min_height_px: float = 0.0  # pixels as annotated
    max_height_px: float = float("inf")
    occlusions: frozenset[int] = frozenset({NONE, PARTIAL})
    border: tuple[float, float, float, float] | None = None  # x1, y1, x2, y2: a box that leaves it is ignored
    person_labels: frozenset[str] = PERSON_LABELS
    ignore_labels: frozenset[str] = IGNORE_LABELS
    aspect_ratio: float | None = None  # width / height that people and detections get; None: as they are
    min_detection_height_px: float = 0.0  # shorter detections are dropped
    max_detection_height_px: float = float("inf")  # so are those as tall as this or taller

    @property
    def short_name(self) -> str:
        """The name among a benchmark's own: "all" for "reasonable-all", "near" for "scale-near"."""
        return self.name.partition("-")[2]


class Roles(NamedTuple):
    """What each annotation is in a subset. Both False: it is dropped."""

    is_person: np.ndarray  # bool [G]
    is_ignore: np.ndarray  # bool [G]


def reasonable(
    min_height_px: float, border: tuple[float, float, float, float] | None = None
) -> tuple[Subset, Subset, Subset]:
    """The three "reasonable" subsets, all / day / night: people tall enough, at most partly occluded.

    Args:
        min_height_px: the shortest person that counts, in pixels as annotated.
        border: x1, y1, x2, y2 in pixels; people who leave it are ignored. None: the whole image counts.
    """
    return tuple(
        Subset(f"reasonable-{condition}", condition, min_height_px=min_height_px, border=border)
        for condition in CONDITIONS
    )


# The MATLAB evaluation of the KAIST benchmark: images of 640x512, annotations cut by a margin of 5 pixels are ignored.
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

# Detections count down to the least height of a person over this, and up to the greatest times this, so that one at the
# edge is not lost for being drawn a little smaller or larger.
DETECTION_MARGIN = 1.25

# The MATLAB evaluation of the Caltech benchmark, version 3.2.1: at least 65 % of the person is visible, which is no or
# partial occlusion. Labels that are not named here vanish. Images of 640x480.
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


# The four settings of NightOwls' evaluation. Nothing but pedestrians absorbs detections. Whoever is marked as occluded
# counts as half visible, which is heavy occlusion; all others are fully visible.
NIGHTOWLS_SUBSETS = (
    _nightowls("reasonable", 50.0, float("inf"), frozenset({NONE, PARTIAL})),
    _nightowls("small", 50.0, 75.0, frozenset({NONE, PARTIAL})),
    _nightowls("occluded", 50.0, float("inf"), frozenset({HEAVY})),
    _nightowls("all", 20.0, float("inf"), frozenset({NONE, PARTIAL, HEAVY})),
)


def assign_roles(
    subset: Subset, boxes: np.ndarray, labels: Sequence[str], occlusion: np.ndarray, ignore: np.ndarray
) -> Roles:
    """Decides what each annotation is in ``subset``.

    Args:
        subset: the rules.
        boxes: float [G, 4], x, y, width, height in pixels as annotated.
        labels: G strings.
        occlusion: int [G], 0 none, 1 partial, 2 heavy.
        ignore: bool [G], annotations that are marked as not to be scored.
    """
    # An empty list would otherwise become an array of floats.
    names, codes = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)
    has_person_label = np.isin(names, list(subset.person_labels))[codes]
    has_ignore_label = np.isin(names, list(subset.ignore_labels))[codes]
    x, y, width, height = np.asarray(boxes, np.float64).reshape(-1, 4).T
    asked_for = (
        ~np.asarray(ignore, bool)
        & (height >= subset.min_height_px)
        & (height <= subset.max_height_px)
        & np.isin(occlusion, list(subset.occlusions))
    )
    if subset.border is not None:
        x1, y1, x2, y2 = subset.border
        asked_for &= (x >= x1) & (y >= y1) & (x + width <= x2) & (y + height <= y2)
    return Roles(is_person=has_person_label & asked_for, is_ignore=has_ignore_label | (has_person_label & ~asked_for))


def people_who_count(subset: Subset) -> str:
    """Whom the subset asks for, for people to read."""
    shown = {
        frozenset({NONE, PARTIAL}): "at most partly occluded",
        frozenset({NONE}): "not occluded",
        frozenset({PARTIAL}): "partly occluded",
        frozenset({HEAVY}): "heavily occluded",
    }
    rules = [f"at least {subset.min_height_px:g} pixels tall"]
    if np.isfinite(subset.max_height_px):
        rules.append(f"at most {subset.max_height_px:g}")
    if subset.occlusions in shown:
        rules.append(shown[subset.occlusions])
    if subset.border:
        x1, y1, x2, y2 = subset.border
        rules.append(f"all of them in x {x1:g} to {x2:g}, y {y1:g} to {y2:g}")
    return ", ".join(rules)
