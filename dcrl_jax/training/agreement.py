"""What has to agree between two configs for one network's outputs to mean the same to the other, or to its scorer."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dcrl_jax.config_checks import value_of

# What anchors, offsets and features mean, by what a person calls it.
OUTPUTS = {
    "stride": ("backbone.stride",),
    "anchors": (
        "anchors.per_cell",
        "anchors.aspect_ratio",
        "anchors.smallest_px",
        "anchors.largest_px",
        "anchors.reference_height_px",
    ),
    "channels": ("backbone.width",),
    "offsets": ("rpn.offset_std",),
    "bins of a RoI": ("roi.size",),
}
INPUT_SIZE = {"input size": ("data.height_px", "data.width_px")}
# What a network computes with its parameters, where their shapes do not tell.
NETWORK = {
    "normalisation": ("backbone.norm",),
    "samples of a RoI": ("roi.samples_per_bin",),
    "CFL": ("cfl.enabled", "cfl.groups", "cfl.shared_fraction", "cfl.aggregation"),
    "fusion": ("fusion.strategy",),
}


def disagreements(config: ConfigDict, others: ConfigDict, wanted: Mapping[str, Sequence[str]], whose: str) -> list[str]:
    """A line for each key that two configs have different values of; keys that only one of them has do not count.

    Args:
        config, others: the two.
        wanted: keys by what a person calls them.
        whose: says whose the values of ``others`` are.
    """
    found = []
    for what, keys in wanted.items():
        for key in keys:
            if not (_has(config, key) and _has(others, key)):
                continue
            own, theirs = (value_of(one, key) for one in (config, others))
            if own != theirs:
                found.append(f"{what}: config.{key} is {shown(own)}, {whose} {shown(theirs)}")
    return found


def shown(value: Any) -> str:
    """A value in a message."""
    return ", ".join(map(str, value)) or "empty" if isinstance(value, tuple) else str(value)


def _has(config, key):
    section, _, name = key.partition(".")
    return section in config and name in config[section]
