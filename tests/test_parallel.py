"""Sharing a batch over devices, and the pmapped form of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dcrl_jax import parallel
from dcrl_jax.errors import InputError


@pytest.fixture(scope="module")
def mesh():
    return Mesh(jax.local_devices()[:2], (parallel.AXIS,))


def test_mesh_holds_all_local_devices_in_their_order():
    mesh = parallel.device_mesh()
    assert list(mesh.devices) == jax.local_devices()
    assert mesh.axis_names == (parallel.AXIS,)


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (8, 2), (64, 8), (3, 3)])
def test_batch_that_the_devices_share_evenly_is_accepted(batch_size, devices):
    parallel.check_batch(batch_size, devices)


@pytest.mark.parametrize(
    ("batch_size", "devices", "sizes"), [(10, 4, "8 or 12"), (3, 2, "2 or 4"), (2, 8, "8"), (65, 64, "64 or 128")]
)
def test_batch_that_the_devices_cannot_share_is_refused_with_sizes_that_would_do(batch_size, devices, sizes):
    with pytest.raises(InputError) as refusal:
        parallel.check_batch(batch_size, devices)
    assert str(refusal.value) == (
        f"config.train.batch_size is {batch_size}, which {devices} devices cannot share evenly; use {sizes}."
    )


def test_parts_of_a_share_count_too():
    parallel.check_batch(64, 4, 16)
    with pytest.raises(InputError) as refusal:
        parallel.check_batch(64, 4, 6)
    assert str(refusal.value) == (
        "config.train.batch_size is 64, which 4 devices cannot share evenly in 6 steps of accumulation each; "
        "use 48 or 72."
    )


def test_places_in_the_global_batch_follow_the_devices(mesh):
    run = jax.pmap(lambda _: parallel.places_in_global_batch(3), parallel.AXIS, devices=list(mesh.devices))
    np.testing.assert_array_equal(run(np.zeros(2)), [[0, 1, 2], [3, 4, 5]])


def test_processes_take_turns_in_the_global_batch(monkeypatch):
    # Two devices stand for those of two processes.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    run = jax.pmap(lambda _: parallel.places_in_global_batch(3), parallel.AXIS, devices=jax.local_devices()[:2])
    np.testing.assert_array_equal(run(np.zeros(2)), [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("127.0.0.1:9999", "not enough values"),
        ("127.0.0.1,2,0", "lacks its port"),
        ("127.0.0.1:9999,2,2", "not below the count"),
        ("127.0.0.1:9999,two,0", "invalid literal"),
    ],
)
def test_bad_place_among_processes_is_refused_with_the_form_expected(where, reason):
    with pytest.raises(InputError, match=reason) as refusal:
        parallel.start_processes(where)
    assert "Expected HOST:PORT,COUNT,INDEX" in str(refusal.value)


def test_process_alone_decides_alone():
    assert parallel.is_first_process()
    assert [parallel.any_process(flag) for flag in (True, False)] == [True, False]
    assert parallel.first_process_first(lambda: 7) == 7
    tree = {"a": np.arange(3)}
    assert parallel.gather(tree) is tree
    assert parallel.across_processes(tree) is tree
    assert parallel.within_process(tree) is tree


def test_replicated_tree_lies_whole_on_every_device(mesh):
    placed = parallel.replicate({"a": np.arange(3.0), "b": np.float32(7)}, mesh)
    for name, expected in (("a", [0, 1, 2]), ("b", 7)):
        shards = placed[name].addressable_shards
        assert [shard.device for shard in shards] == list(mesh.devices)
        for shard in shards:
            np.testing.assert_array_equal(shard.data, expected)


def test_batch_is_split_along_its_first_axis(mesh):
    placed = jax.device_put(np.arange(12).reshape(2, 3, 2), parallel.batch_sharding(mesh))
    parts = {shard.device: np.asarray(shard.data) for shard in placed.addressable_shards}
    np.testing.assert_array_equal(parts[mesh.devices[0]], [[[0, 1], [2, 3], [4, 5]]])
    np.testing.assert_array_equal(parts[mesh.devices[1]], [[[6, 7], [8, 9], [10, 11]]])


def test_each_device_sees_its_part_of_the_batch_and_all_of_the_state(mesh):
    def step(state, batch):
        mean = jax.lax.pmean(jnp.mean(batch), parallel.AXIS)
        return state + mean, {"largest": jax.lax.pmax(jnp.max(batch), parallel.AXIS), "images": batch.shape[0]}

    run = parallel.parallel_step(step, mesh)
    batch = jax.device_put(np.array([[1.0, 2.0], [3.0, 10.0]], np.float32), parallel.batch_sharding(mesh))
    state, metrics = run(parallel.replicate(np.array([0.5, 1.5], np.float32), mesh), batch)
    np.testing.assert_array_equal(state, [4.5, 5.5])
    assert metrics["largest"] == 10
    assert metrics["images"] == 2


def test_state_is_reused_and_frozen_arguments_and_batch_are_kept(mesh):
    def step(state, teacher, rate, batch):
        update = jax.lax.pmean(rate * teacher["w"] * jnp.sum(batch), parallel.AXIS)
        return state + update, {"update": update}

    run = parallel.parallel_step(step, mesh, frozen_arguments=2)
    state = parallel.replicate(np.float32(1), mesh)
    frozen = parallel.replicate(({"w": np.float32(3)}, np.float32(0.5)), mesh)
    batch = jax.device_put(np.array([[1.0], [5.0]], np.float32), parallel.batch_sharding(mesh))
    first, _ = run(state, *frozen, batch)
    with jax.transfer_guard("disallow"):
        second, _ = run(first, *frozen, batch)
    assert second == 1 + 2 * 0.5 * 3 * 3
    assert state.is_deleted()
    assert first.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((frozen, batch)))


def test_step_on_a_mesh_of_one_device_leaves_the_others_alone():
    mesh = Mesh(jax.local_devices()[1:2], (parallel.AXIS,))
    run = parallel.parallel_step(lambda state, batch: (state + jnp.sum(batch), {}), mesh)
    batch = jax.device_put(np.ones((1, 4), np.float32), parallel.batch_sharding(mesh))
    state, _ = run(parallel.replicate(np.float32(2), mesh), batch)
    assert state == 6
    assert state.devices() == {jax.local_devices()[1]}


@pytest.mark.parametrize("where", ["first:1234,2,1", "auto"])
def test_processes_that_do_not_find_each_other_are_told_what_was_expected(monkeypatch, where):
    def initialize(*_):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match=f"^--distributed={where}: DEADLINE_EXCEEDED.*Expected HOST:PORT,COUNT,INDEX"):
        parallel.start_processes(where)


def test_processes_talk_over_the_address_that_reaches_the_first_one_whatever_the_machine_is_called(monkeypatch):
    from jax._src import distributed, xla_bridge

    owner = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla
    made = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_: None)
    monkeypatch.setattr(distributed.global_state, "coordinator_address", "127.0.0.1:9")
    monkeypatch.setattr(owner, "make_gloo_tcp_collectives", lambda **given: made.append(given))
    parallel.start_processes("127.0.0.1:9,1,0")
    owner.make_gloo_tcp_collectives(distributed_client=None)
    assert made == [{"distributed_client": None, "hostname": "127.0.0.1"}]


def test_gpu_whose_memory_others_hold_is_one_message(monkeypatch):
    def fail():
        raise RuntimeError("failed initializing StreamExecutor: CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    monkeypatch.setattr(jax, "local_devices", fail)
    with pytest.raises(InputError, match=r"CUDA_ERROR_OUT_OF_MEMORY: out of memory\nnvidia-smi shows"):
        parallel.start_processes(None)


@pytest.mark.parametrize("wanted", [None, "cuda"])
def test_devices_that_jax_cannot_use_are_one_message(monkeypatch, wanted):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda': no driver\nmore")

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.delenv("JAX_PLATFORMS")
    if wanted:
        monkeypatch.setenv("JAX_PLATFORMS", wanted)
    expected = (
        r"^JAX_PLATFORMS=cuda, and .* no driver\nFor an NVIDIA GPU" if wanted else r"^JAX cannot use .* no driver$"
    )
    with pytest.raises(InputError, match=expected):
        parallel.start_processes(None)
