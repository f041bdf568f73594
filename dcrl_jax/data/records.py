"""Records of a prepared data set as they are stored; needs no JAX."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dcrl_jax.errors import InputError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def open_split(builder: "tfds.core.DatasetBuilder", split: str) -> Sequence[Any]:
    """Opens a split of a prepared data set for random access, its images left as encoded bytes.

    Args:
        builder: a builder of ``datasets/``, after ``download_and_prepare()``.
        split: a split's name, or a slice of one in the syntax of tfds (``train[:90%]``).

    Raises:
        InputError: the data set is not prepared, has no such split, or is stored in a format without random access.
    """
    # Not at the top: who only needs the text of a record need not wait for it.
    import tensorflow_datasets as tfds

    if not builder.info.splits:
        raise InputError(
            f"data set {builder.info.full_name} is not prepared in {builder.data_dir}: call its "
            "download_and_prepare() first."
        )
    skip = tfds.decode.SkipDecoding()
    try:
        images = [name for name in ("visible", "lwir") if name in builder.info.features]
        return builder.as_data_source(split, decoders=dict.fromkeys(images, skip))
    except (NotImplementedError, ValueError) as error:
        raise InputError(
            f"data set {builder.info.full_name}: split {split!r} cannot be opened ({error}); it has "
            f"{', '.join(sorted(builder.info.splits))}. If the copy that it was prepared from lacked the split, remove "
            f"{builder.data_dir} and prepare it again from a whole one."
        ) from error


def text(value: str | bytes) -> str:
    """The text of a record's feature, which TFDS gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
