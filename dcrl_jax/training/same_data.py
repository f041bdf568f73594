"""Whether a detector is used on the data set of its training, and then on the same images."""

from ml_collections import ConfigDict

from dcrl_jax.config import data_set_name


def is_same_data_set(data: ConfigDict, other: ConfigDict) -> bool:
    """Return whether two configs' ``data`` keys name the same data set."""
    return data.name == other.name and data_set_name(data) == data_set_name(other)


def registration_mismatch(data: ConfigDict, other: ConfigDict, owner: str) -> list[str]:
    """Return a line, in a list, if two configs' ``data`` keys register the same data set in two ways.

    Args:
        data: the keys that a line calls "config".
        other: the keys to compare with.
        owner: the words before a value of ``other``, e.g. "the teacher's".
    """
    own, others = (keys.options.get("lwir_to_visible") or "empty" for keys in (data, other))
    if own == others or not is_same_data_set(data, other):
        return []
    hint = "" if "name" not in data.options else " (pairs of other cameras: --config.data.options.name=WORD)"
    return [f"config.data.options.lwir_to_visible is {own}, {owner} {others}{hint}"]
