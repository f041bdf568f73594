"""The input pipeline: from prepared data sets to ``Batch``, in NumPy on the host or prefetched to the devices.

Sources are random access (TFDS's array_record). Grain shuffles, shards and batches their indices; threads read and
transform the records. The state of an iterator is a few integers that count the batches handed out, not those read
ahead, so that a checkpoint of the training loop resumes with the very next batch.
"""

import functools
from collections.abc import Sequence
from typing import Any

import grain
import jax
import numpy as np

from dcrl_jax.data import transforms
from dcrl_jax.data.records import open_split as open_split
from dcrl_jax.data.records import text
from dcrl_jax.data.transforms import Augmentation, BoxFilter
from dcrl_jax.decoding import DEFAULT_RULES, ImageRules
from dcrl_jax.devices import usable_cores
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar
from dcrl_jax.structures import CHANNELS, MODALITIES, Batch

# Each use of randomness has its own stream, so that switching one on or off does not change the draws of the others.
_SHUFFLE, _FLIP, _BRIGHTNESS, _BLANK, _CROP = range(5)
# Prefetched batches on the host, and as many on the devices.
_PREFETCHED = 2


class _Selection(Sequence):
    """The records of a split at given indices."""

    def __init__(self, source: Sequence[Any], kept: Sequence[int]):
        self._source, self._kept = source, kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Any:
        return self._source[self._kept[index]]


def drop_empty(source: Sequence[Any], box_filter: BoxFilter) -> Sequence[Any]:
    """Return the records with at least one person by the rules of ``box_filter``; read all records once."""

    def has_people(record: Any) -> bool:
        objects = record["objects"]
        is_person, _ = transforms.filter_boxes(
            box_filter,
            np.asarray(objects["box"], np.float32).reshape(-1, 4),
            [text(label) for label in objects["label"]],
            np.asarray(objects["occlusion"], int),
            np.asarray(objects["ignore"], bool),
        )
        return bool(is_person.any())

    indices = progress_bar(range(len(source)), "looking for people", len(source), "images")
    return _Selection(source, [index for index in indices if has_people(source[index])])


def split_by_name(source: Sequence[Any], beginnings: Sequence[str]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the records whose ``image_id`` begins with none of some texts, and the others; read all records once.

    Raises:
        InputError: no ``image_id`` begins with one of the texts, or all records do with one of them.
    """
    ids = [
        text(source[index]["image_id"]) for index in progress_bar(range(len(source)), "names", len(source), "images")
    ]
    for beginning in beginnings:
        if not any(image_id.startswith(beginning) for image_id in ids):
            raise InputError(
                f"no training image has a name that begins with {beginning!r}; the first is {ids[0]!r}. "
                "Set config.data.validation_videos."
            )
    is_named = np.array([image_id.startswith(tuple(beginnings)) for image_id in ids])
    if is_named.all():
        raise InputError(f"all {len(ids):,} training images have names that begin with {', '.join(beginnings)}.")
    return _Selection(source, np.flatnonzero(~is_named).tolist()), _Selection(source, np.flatnonzero(is_named).tolist())


def train_iterator(
    source: Sequence[Any],
    *,
    height: int,
    width: int,
    max_boxes: int,
    batch_size: int,
    seed: int,
    box_filter: BoxFilter,
    augmentation: Augmentation,
    crop: tuple[int, int] | None = None,
    modalities: Sequence[str] = MODALITIES,
    image_rules: ImageRules = DEFAULT_RULES,
    process_index: int = 0,
    process_count: int = 1,
    sharding: jax.sharding.Sharding | None = None,
    num_threads: int | None = None,
) -> grain.DatasetIterator[Batch]:
    """Return an endless iterator of augmented training batches, reshuffled in every epoch.

    Every process takes the same number of records per epoch. If the split does not divide evenly, an epoch omits a few
    records, different ones each time. Batches continue across the end of an epoch and are always full. Order and
    augmentation of a record depend only on the seed and on its position in the epoch: the global batch of N processes
    with ``batch_size`` B equals the batch of a single process with B * N.

    Args:
        source: records, from ``open_split``.
        height: height in pixels that images are stretched to.
        width: width that images are stretched to.
        max_boxes: length G of the padded boxes (``data.max_boxes``).
        batch_size: images per batch of this process.
        seed: seed of the order and the augmentation, at least 0.
        box_filter: the rules that decide which objects are people and which are ignore regions.
        augmentation: amounts of the random changes; ``Augmentation()`` for none.
        crop: height and width of the random part of a stretched pair that is returned; None for all of it.
        modalities: the images to decode; without ``lwir`` the thermal images are not read and ``Batch.lwir`` is None.
        image_rules: which images are taken, and how they become uint8.
        process_index: index of this process, 0..process_count - 1.
        process_count: number of processes that train together.
        sharding: puts the batches on devices as ``prefetch_to_devices`` does; None gives NumPy arrays [B, ...].
        num_threads: threads that read and transform; None for the number of usable cores, at most 16.

    Returns:
        A Grain iterator with ``get_state`` and ``set_state``; close it at the end.

    Raises:
        InputError: an argument is invalid, or, while iterating, a record cannot be used (see ``transforms``).
    """
    _check_arguments(source, batch_size, process_index, process_count, sharding)
    _check_augmentation(augmentation)
    if len(source) < process_count:
        raise InputError(f"{len(source)} training records cannot be shared by {process_count} processes; use fewer.")

    def load(index: int) -> transforms.Pair:
        pair = transforms.resize_pair(transforms.decode(source[index], modalities, image_rules), height, width)
        return pair | {"index": np.int32(index)}

    # Shuffle and augment before sharding: there, a record's position does not depend on the number of processes.
    dataset = grain.MapDataset.range(len(source)).shuffle(seed=_stream_seed(seed, _SHUFFLE)).map(load)
    if crop is not None:
        random_crop = functools.partial(transforms.random_crop, size=crop, box_filter=box_filter)
        dataset = dataset.random_map(random_crop, seed=_stream_seed(seed, _CROP))
    random_maps = (
        (_FLIP, transforms.random_flip, augmentation.flip_probability),
        (_BRIGHTNESS, transforms.random_brightness, augmentation.brightness),
        (_BLANK, transforms.random_blank, augmentation.blank_probability),
    )
    for stream, random_map, amount in random_maps:
        if amount > 0:
            dataset = dataset.random_map(_with_amount(random_map, amount), seed=_stream_seed(seed, stream))
    even_length = len(source) - len(source) % process_count
    dataset = dataset[:even_length][process_index::process_count].repeat()

    def to_arrays(pair: transforms.Pair) -> dict[str, np.ndarray]:
        padded = transforms.to_padded(pair, max_boxes, box_filter)
        return padded | {"index": pair["index"], "valid": np.array(True)}

    dataset = dataset.map(to_arrays).to_iter_dataset(_read_options(num_threads, batch_size))
    batches = dataset.batch(batch_size, drop_remainder=True).map(_to_batch)
    return iter(batches if sharding is None else prefetch_to_devices(batches, sharding))


def evaluation_batches(
    source: Sequence[Any],
    *,
    height: int,
    width: int,
    max_boxes: int,
    batch_size: int,
    box_filter: BoxFilter | None,
    modalities: Sequence[str] = MODALITIES,
    image_rules: ImageRules = DEFAULT_RULES,
    process_index: int = 0,
    process_count: int = 1,
    sharding: jax.sharding.Sharding | None = None,
    num_threads: int | None = None,
) -> grain.IterDataset[Batch]:
    """Return batches of one size with every record of a split once, in order.

    Process p of P takes the records p, p + P, p + 2 P... Black images without boxes, with ``valid`` False and ``index``
    -1, fill the last batches, so that every process has the same number of full batches. The arguments are those of
    ``train_iterator``; without a filter the batches have no boxes.

    Returns:
        An iterable of ``Batch``; every ``iter()`` starts from the beginning. Close an iterator that is not exhausted.

    Raises:
        InputError: as ``train_iterator``.
    """
    _check_arguments(source, batch_size, process_index, process_count, sharding)
    batches_per_process = -(-len(source) // (batch_size * process_count))
    padding = {
        **{name: np.zeros((height, width, CHANNELS[name]), np.uint8) for name in modalities},
        "boxes": np.zeros((max_boxes, 4), np.float32),
        "is_person": np.zeros(max_boxes, bool),
        "is_ignore": np.zeros(max_boxes, bool),
        "is_night": np.array(False),
        "index": np.int32(-1),
        "valid": np.array(False),
    }

    def load(position: int) -> dict[str, np.ndarray]:
        index = position * process_count + process_index
        if index >= len(source):
            return padding
        pair = transforms.resize_pair(transforms.decode(source[index], modalities, image_rules), height, width)
        padded = transforms.to_padded(pair, max_boxes, box_filter)
        return padded | {"index": np.int32(index), "valid": np.array(True)}

    dataset = grain.MapDataset.range(batches_per_process * batch_size).map(load)
    dataset = dataset.to_iter_dataset(_read_options(num_threads, batch_size))
    batches = dataset.batch(batch_size, drop_remainder=True).map(_to_batch)
    return batches if sharding is None else prefetch_to_devices(batches, sharding)


def prefetch_to_devices(
    batches: grain.IterDataset[Batch],
    sharding: jax.sharding.Sharding,
) -> grain.IterDataset[Batch]:
    """Put batches on this process's devices from a background thread, ahead of the loop that takes them.

    The transfer is an explicit ``jax.device_put``, which ``jax.transfer_guard("disallow")`` allows; a step that is
    called with such a batch transfers nothing.

    Args:
        batches: batches of NumPy arrays [B, ...].
        sharding: splits the first axis among this process's D devices: ``NamedSharding(mesh, P("devices"))``.

    Returns:
        The batches as ``jax.Array`` [D, B / D, ...], the layout of ``jax.pmap``. The state of its iterator counts the
        batches handed out, not those read ahead.
    """
    num_devices = len(sharding.addressable_devices)

    def split(array: np.ndarray) -> np.ndarray:
        return array.reshape(num_devices, -1, *array.shape[1:])

    return grain.experimental.device_put(
        batches.map(lambda batch: jax.tree.map(split, batch)),
        sharding,
        cpu_buffer_size=_PREFETCHED,
        device_buffer_size=_PREFETCHED,
    )


def _with_amount(random_map: Any, amount: float) -> Any:
    return lambda pair, rng: random_map(pair, rng, amount)


def _to_batch(arrays: dict[str, np.ndarray]) -> Batch:
    return Batch(**{"lwir": None, **arrays})


def _stream_seed(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


def _read_options(num_threads: int | None, batch_size: int) -> grain.ReadOptions:
    num_threads = num_threads or min(usable_cores(), 16)
    # Two batches of records keep the threads busy, and full-size images still fit in memory.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=max(num_threads, 2 * batch_size))


def _check_arguments(
    source: Sequence[Any],
    batch_size: int,
    process_index: int,
    process_count: int,
    sharding: jax.sharding.Sharding | None,
) -> None:
    if not 0 <= process_index < process_count:
        raise InputError(f"process {process_index} of {process_count}: the index must lie in 0..{process_count - 1}.")
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images: the batch size must be at least 1.")
    if len(source) == 0:
        raise InputError("the split has no records: choose another split, or prepare the data set again.")
    if sharding is not None and batch_size % len(sharding.addressable_devices):
        raise InputError(
            f"a batch of {batch_size} images cannot be shared evenly by {len(sharding.addressable_devices)} devices: "
            "choose a multiple of their number."
        )


def _check_augmentation(augmentation: Augmentation) -> None:
    for name, amount in augmentation._asdict().items():
        if not 0 <= amount <= 1:
            raise InputError(f"augmentation {name} is {amount}; it must lie between 0 and 1.")
