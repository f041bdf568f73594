"""Order, sharding, padding, resumption and device placement of batches."""

import contextlib
import itertools
import json
import types

import cv2
import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dcrl_jax.data import pipeline
from dcrl_jax.data.transforms import Augmentation, BoxFilter
from dcrl_jax.errors import InputError
from dcrl_jax.structures import MODALITIES, Batch

HEIGHT, WIDTH, MAX_BOXES = 10, 15, 3
RGB_ONLY = ("visible",)
TWO_DEVICES = types.SimpleNamespace(addressable_devices=(0, 1))
EVERY = Augmentation(0.5, 0.3, 0.4)
SHAPES = {"height": HEIGHT, "width": WIDTH, "max_boxes": MAX_BOXES, "box_filter": BoxFilter(), "num_threads": 2}


def make_source(length, modalities=MODALITIES):
    """Records: number i has the grey value 10 + i in its images, i % 3 people, and is a night scene if i is odd."""
    source = []
    for i in range(length):
        encoded = cv2.imencode(".png", np.full((20, 30, 3), 10 + i, np.uint8))[1].tobytes()
        boxes = [np.float32([2 + 4 * k, 4, 6, 8]) for k in range(i % 3)]
        same = {"label": b"person", "occlusion": 0, "ignore": False}
        objects = {"box": boxes} | {name: [value] * len(boxes) for name, value in same.items()}
        images = dict.fromkeys(modalities, encoded)
        source.append({"image_id": b"I%05d" % i, **images, "condition": i % 2, "objects": objects})
    return source


@contextlib.contextmanager
def training(length=7, augmentation=Augmentation(), source=None, **options):  # noqa: B008
    source = make_source(length) if source is None else source
    options = {"batch_size": 2, "seed": 0} | SHAPES | options
    with contextlib.closing(pipeline.train_iterator(source, augmentation=augmentation, **options)) as iterator:
        yield iterator


def evaluation(length, modalities=MODALITIES, **options):
    source = make_source(length, modalities)
    return list(pipeline.evaluation_batches(source, modalities=modalities, **{"batch_size": 2} | SHAPES | options))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def batches_of(count, **options):
    """Return the first batches of a training."""
    with training(**options) as iterator:
        return take(iterator, count)


def indices(batches):
    return np.concatenate([np.asarray(batch.index).reshape(-1) for batch in batches])


def assert_same_batches(left, right):
    assert len(left) == len(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def device_sharding(count=None):
    mesh = jax.sharding.Mesh(jax.local_devices()[:count], ("devices",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))


def test_batch_has_the_shapes_dtypes_and_values_of_its_records():
    (batch,) = batches_of(1, batch_size=4)
    assert isinstance(batch, Batch)
    assert {name: (*value.shape, value.dtype.name) for name, value in batch._asdict().items()} == {
        "visible": (4, HEIGHT, WIDTH, 3, "uint8"),
        "lwir": (4, HEIGHT, WIDTH, 1, "uint8"),
        "boxes": (4, MAX_BOXES, 4, "float32"),
        **dict.fromkeys(("is_person", "is_ignore"), (4, MAX_BOXES, "bool")),
        **dict.fromkeys(("is_night", "valid"), (4, "bool")),
        "index": (4, "int32"),
    }
    # Without augmentation no pixel and no box changes.
    for position, index in enumerate(batch.index):
        assert (batch.visible[position] == 10 + index).all()
        assert (batch.lwir[position] == 10 + index).all()
        assert batch.is_person[position].sum() == index % 3
        assert batch.is_night[position] == index % 2
        assert batch.boxes[position, 0].tolist() == ([1, 2, 4, 6] if index % 3 else [0] * 4)
    assert batch.valid.all()


def test_every_epoch_has_every_record_once_in_an_order_of_its_seed():
    orders = []
    for seed in (4, 4, 5):
        # Each batch is larger than the split: it is filled from the next epochs.
        epochs = indices(batches_of(5, length=5, batch_size=7, seed=seed)).reshape(7, 5).tolist()
        assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


def test_processes_share_an_epoch_evenly_and_without_overlap():
    options = {"length": 11, "batch_size": 3, "process_count": 3}
    shares = [indices(batches_of(40, process_index=process, **options)).reshape(40, 3) for process in range(3)]
    epochs = np.stack(shares, axis=1).reshape(40, 9)
    assert all(len(set(epoch)) == 9 for epoch in epochs.tolist())
    assert set(epochs.reshape(-1)) == set(range(11))


def test_processes_together_get_the_augmented_batches_of_one_process():
    options = {"length": 8, "augmentation": EVERY, "seed": 3}
    single = batches_of(6, batch_size=4, **options)
    halves = [batches_of(6, batch_size=2, process_index=process, process_count=2, **options) for process in range(2)]
    for batch, *parts in zip(single, *halves, strict=True):
        interleaved = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1).reshape(4, *leaves[0].shape[1:]), *parts)
        assert_same_batches(batch, interleaved)


def test_augmentation_is_new_in_every_epoch_and_independent_of_the_others():
    def flips(**amounts):
        (batch,) = batches_of(1, augmentation=Augmentation(flip_probability=0.5, **amounts), batch_size=50)
        return np.where(batch.is_person[:, 0], batch.boxes[:, 0, 0], -1)

    plain = flips()
    # Records without people, not mirrored and mirrored.
    assert len(set(plain)) == 3
    np.testing.assert_array_equal(plain, flips(brightness=0.5, blank_probability=0.5))
    (batch,) = batches_of(1, length=1, augmentation=Augmentation(brightness=0.9), batch_size=20)
    assert len(set(batch.visible[:, 0, 0, 0].tolist())) > 5


def test_crops_are_new_in_every_epoch_and_leave_the_other_draws_alone():
    options = {"length": 4, "height": 20, "width": 30, "augmentation": EVERY}
    whole, parts = batches_of(4, **options), batches_of(4, **options, crop=(8, 12))
    assert parts[0].visible.shape == (2, 8, 12, 3)
    np.testing.assert_array_equal(indices(parts), indices(whole))
    for left, right in zip(whole, parts, strict=True):  # each image has one grey value
        np.testing.assert_array_equal(left.visible[:, 0, 0], right.visible[:, 0, 0])
    epochs = [np.concatenate([b.boxes[np.argsort(b.index)] for b in half]) for half in (parts[:2], parts[2:])]
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("on_devices", [False, True])
def test_training_on_rgb_only_equals_training_on_pairs_without_lwir(on_devices):
    sharding = device_sharding(2) if on_devices else None
    options = {"batch_size": 6, "augmentation": EVERY, "seed": 3, "sharding": sharding}
    pairs = batches_of(8, **options)
    rgb_only = batches_of(8, source=make_source(7, RGB_ONLY), modalities=RGB_ONLY, **options)
    assert_same_batches(rgb_only, [batch._replace(lwir=None) for batch in pairs])
    # Each random change happened to some images and not to others.
    visible, lwir, boxes, has_person = (
        np.concatenate([np.asarray(leaf).reshape(6, -1) for leaf in leaves])
        for leaves in zip(*((b.visible, b.lwir, b.boxes, b.is_person) for b in pairs), strict=True)
    )
    for changed in (~visible.any(1), ~lwir.any(1), boxes[has_person[:, 0], 0] > 1):
        assert 0 < changed.sum() < len(changed)


@pytest.mark.parametrize("on_devices", [False, True])
def test_resumed_iterator_gives_the_same_next_batches(on_devices, tmp_path):
    sharding = device_sharding() if on_devices else None
    options = {"batch_size": 4, "augmentation": EVERY, "sharding": sharding}
    with ocp.CheckpointManager(tmp_path) as manager:
        with training(**options) as iterator:
            take(iterator, 3)
            state = json.dumps(iterator.get_state())
            manager.save(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
            manager.wait_until_finished()
            expected = take(iterator, 5)
        with training(**options) as iterator:
            take(iterator, 1)
            iterator.set_state(json.loads(state))
            assert_same_batches(take(iterator, 5), expected)
            manager.restore(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(iterator)))
            assert_same_batches(take(iterator, 5), expected)


def test_batches_on_devices_feed_pmap_without_a_transfer():
    devices = jax.local_devices()
    mean = jax.pmap(lambda batch: jax.lax.pmean(batch.index.sum(), "devices"), "devices")
    with training(batch_size=3 * len(devices), sharding=device_sharding()) as iterator:
        mean(next(iterator))
        with jax.transfer_guard("disallow"):
            batch = next(iterator)
            result = mean(batch)
    assert batch.visible.shape == (len(devices), 3, HEIGHT, WIDTH, 3)
    assert {shard.device for shard in batch.boxes.addressable_shards} == set(devices)
    assert float(jax.device_get(result)[0]) == np.asarray(batch.index).sum() / len(devices)


@pytest.mark.parametrize(("length", "batch_size", "processes"), [(7, 3, 1), (6, 3, 1), (9, 4, 2), (2, 2, 3), (7, 3, 2)])
def test_evaluation_has_every_record_once_and_as_many_batches_per_process(length, batch_size, processes):
    options = {"batch_size": batch_size, "process_count": processes}
    shares = [evaluation(length, process_index=process, **options) for process in range(processes)]
    assert len({len(batches) for batches in shares}) == 1
    batches = [batch for share in shares for batch in share]
    assert {batch.visible.shape for batch in batches} == {(batch_size, HEIGHT, WIDTH, 3)}
    valid = np.concatenate([batch.valid for batch in batches])
    assert sorted(indices(batches)[valid]) == list(range(length))
    assert (indices(batches)[~valid] == -1).all()
    for batch in batches:
        assert not (batch.is_person | batch.is_ignore)[~batch.valid].any()
        assert (batch.lwir[batch.valid][:, 0, 0, 0] == 10 + batch.index[batch.valid]).all()


def test_evaluation_keeps_the_order_on_devices_and_for_rgb_only():
    pairs = evaluation(5)
    assert [batch.index.tolist() for batch in pairs] == [[0, 1], [2, 3], [4, -1]]
    rgb_only = [batch._replace(lwir=None) for batch in pairs]
    assert_same_batches(evaluation(5, RGB_ONLY), rgb_only)
    for modalities, on_host in ((MODALITIES, pairs), (RGB_ONLY, rgb_only)):
        on_device = evaluation(5, modalities, sharding=device_sharding(1))
        assert_same_batches(on_device, jax.tree.map(lambda leaf: leaf[None], on_host))


def test_broken_record_raises_an_input_error_that_names_it():
    source = make_source(4)
    source[2] = source[2] | {"lwir": b"broken"}
    with pytest.raises(InputError, match="I00002: the lwir image"):
        batches_of(1, source=source, augmentation=EVERY, batch_size=4, sharding=device_sharding(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "at least 1"),
        ({"process_index": 2, "process_count": 2}, "process 2 of 2"),
        ({"process_count": 8}, "7 training records cannot be shared by 8"),
        ({"augmentation": Augmentation(flip_probability=1.5)}, "augmentation flip_probability is 1.5"),
        ({"augmentation": Augmentation(blank_probability=-0.1)}, "augmentation blank_probability is -0.1"),
        ({"length": 0}, "no records"),
        ({"batch_size": 3, "sharding": TWO_DEVICES}, "3 images cannot be shared evenly by 2 devices"),
    ],
)
def test_invalid_arguments_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        batches_of(0, **options)


def test_videos_are_split_off_by_the_beginnings_of_their_names():
    source = make_source(23)
    rest, videos = pipeline.split_by_name(source, ("I0001", "I00003"))
    assert [record["image_id"] for record in videos] == [b"I00003", *(b"I000%d" % i for i in range(10, 20))]
    assert len(rest) == 12
    for beginnings, message in (
        (("I0001", "I1"), "begins with 'I1'; the first is 'I00000'"),
        (("I",), "all 23 training"),
    ):
        with pytest.raises(InputError, match=message):
            pipeline.split_by_name(source, beginnings)


def test_records_without_people_are_dropped_and_the_order_is_kept():
    source = make_source(8)
    for i, key, values in ((4, "label", [b"people"]), (5, "occlusion", [2, 0]), (7, "occlusion", [2])):
        source[i]["objects"][key] = values
    kept = pipeline.drop_empty(source, BoxFilter(max_occlusion=1))
    assert [record["image_id"] for record in kept] == [b"I00001", b"I00002", b"I00005"]
    assert sorted(indices(batches_of(1, source=kept, batch_size=3))) == [0, 1, 2]
