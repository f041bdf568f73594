"""Access to the records of a prepared data set; needs no JAX."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dcrl_jax.annotations.types import MODALITIES
from dcrl_jax.errors import InputError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def open_split(builder: "tfds.core.DatasetBuilder", split: str) -> Sequence[Any]:
    """Open a split of a prepared data set for random access; images stay encoded bytes.

    Args:
        builder: a builder of ``datasets/``, after ``download_and_prepare()``.
        split: a split's name, or a slice of one in the syntax of TFDS (``train[:90%]``).

    Raises:
        InputError: the data set is not prepared, has no such split, or has a file format without random access.
    """
    # Imported here because TFDS takes seconds to import, and users of `text` do not need it.
    import tensorflow_datasets as tfds

    if not builder.info.splits:
        raise InputError(
            f"data set {builder.info.full_name} is not prepared in {builder.data_dir}: call its "
            "download_and_prepare() first."
        )
    features: Any = builder.info.features  # a FeaturesDict
    images = [name for name in MODALITIES if name in features]
    try:
        decoders = dict.fromkeys(images, tfds.decode.SkipDecoding())
        return builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]
    except (NotImplementedError, ValueError) as error:
        raise InputError(
            f"data set {builder.info.full_name}: split {split!r} cannot be opened ({error}); it has "
            f"{', '.join(sorted(builder.info.splits))}. If the copy that it was prepared from lacked the split, remove "
            f"{builder.data_dir} and prepare it again from a complete copy."
        ) from error


def text(value: str | bytes) -> str:
    """Return a record's text feature, which TFDS gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
