"""Sharing a batch over devices, and the pmapped form of a step."""

import socket
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dcrl_jax import parallel
from dcrl_jax.errors import InputError


@pytest.fixture(scope="module")
def mesh():
    mesh = parallel.device_mesh()
    assert list(mesh.devices) == jax.local_devices()
    return Mesh(mesh.devices[:2], mesh.axis_names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2), "3, which 2 devices cannot share evenly; use 2 or 4"),
        ((2, 8), "2, which 8 devices cannot share evenly; use 8"),
        ((64, 4, 6), "64, which 4 devices cannot share evenly in 6 steps of accumulation each; use 48 or 72"),
    ],
)
def test_batch_must_be_shared_evenly(arguments, message):
    parallel.check_batch(64, 8)
    parallel.check_batch(64, 4, 16)
    with pytest.raises(InputError, match=rf"^config\.train\.batch_size is {message}\.$"):
        parallel.check_batch(*arguments)


@pytest.mark.parametrize(("processes", "indices"), [(1, [[0, 1, 2], [3, 4, 5]]), (2, [[0, 2, 4], [1, 3, 5]])])
def test_indices_follow_devices_and_processes_take_turns(monkeypatch, mesh, processes, indices):
    # Two devices stand for those of two processes.
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    run = jax.pmap(lambda _: parallel.indices_in_global_batch(3), parallel.AXIS, devices=list(mesh.devices))
    np.testing.assert_array_equal(run(np.zeros(2)), indices)


def test_single_process_waits_for_no_other():
    assert parallel.is_first_process()
    assert [parallel.any_process(flag) for flag in (True, False)] == [True, False]
    assert parallel.first_process_first(lambda: 7) == 7
    tree = {"a": np.arange(3)}
    assert parallel.gather(tree) is parallel.across_processes(tree) is parallel.within_process(tree) is tree


def test_step_reuses_the_state_and_keeps_frozen_arguments_and_batch(mesh):
    def step(state, teacher, rate, batch):
        update = jax.lax.pmean(rate * teacher["w"] * jnp.sum(batch), parallel.AXIS)
        return state + update, {"largest": jax.lax.pmax(jnp.max(batch), parallel.AXIS), "images": batch.shape[0]}

    run = parallel.parallel_step(step, mesh, frozen_arguments=2)
    state = parallel.replicate(np.float32(1), mesh)
    frozen = parallel.replicate(({"w": np.float32(3)}, np.float32(0.5)), mesh)
    batch = jax.device_put(np.array([[1.0], [5.0]], np.float32), parallel.batch_sharding(mesh))
    first, metrics = run(state, *frozen, batch)
    assert (metrics["largest"], metrics["images"]) == (5, 1)
    with jax.transfer_guard("disallow"):
        second, _ = run(first, *frozen, batch)
    assert second == 1 + 2 * 0.5 * 3 * 3  # the mean of 1 and 5 is 3
    assert state.is_deleted()
    assert first.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((frozen, batch)))


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("127.0.0.1:9999", "not enough values"),
        ("127.0.0.1,2,0", "lacks its port"),
        ("127.0.0.1:9999,2,2", "not below the count"),
        ("first:1234,2,1", "DEADLINE_EXCEEDED"),
        ("auto", "DEADLINE_EXCEEDED"),
    ],
)
def test_processes_that_do_not_meet_are_told_what_was_expected(monkeypatch, where, reason):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match=f"^--distributed={where}: .*{reason}.*Expected HOST:PORT,COUNT,INDEX"):
        parallel.start_processes(where)


def test_port_of_another_program_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]},2,0"
        with pytest.raises(InputError, match=f"^--distributed={where}: .*Address already in use"):
            parallel.start_processes(where)


class Store:
    """What the client of JAX's first process keeps for all."""

    values: ClassVar = {}

    def key_value_set(self, key, value):
        self.values[key] = value

    def blocking_key_value_get(self, key, timeout_ms):
        return self.values[key]


def test_processes_with_different_commands_are_told_the_differences(monkeypatch):
    from jax._src import distributed

    first = {"--mode": "train", "--config.data.height_px": 32, "--config.data.lwir_range": (0, 1), "--config.seed": 0}
    monkeypatch.setattr(distributed.global_state, "client", Store())
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index, values in ((0, first), (1, first)):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parallel.check_same(dict(values))
    other = first | {"--config.seed": 1, "--config.loss.new": 1.5}
    del other["--config.data.lwir_range"]
    with pytest.raises(InputError) as refusal:
        parallel.check_same(other)
    assert str(refusal.value) == (
        "the processes were started with different commands:\n"
        "  --config.data.lwir_range: (0, 1) in the first process, absent here\n"
        "  --config.loss.new: absent in the first process, 1.5 here\n"
        "  --config.seed: 0 in the first process, 1 here\n"
        "Give all the same."
    )


def test_processes_talk_over_the_address_of_the_first_one(monkeypatch):
    from jax._src import distributed, xla_bridge

    owner = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla
    made = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: None)
    monkeypatch.setattr(distributed.global_state, "coordinator_address", "127.0.0.1:9")
    monkeypatch.setattr(owner, "make_gloo_tcp_collectives", lambda **given: made.append(given))
    parallel.start_processes("127.0.0.1:9,1,0")
    owner.make_gloo_tcp_collectives(distributed_client=None)
    assert made == [{"distributed_client": None, "hostname": "127.0.0.1"}]


NO_DRIVER = "Unable to initialize backend 'cuda': no driver\nmore"
FULL = "failed initializing StreamExecutor: CUDA_ERROR_OUT_OF_MEMORY: out of memory"


@pytest.mark.parametrize(
    ("error", "wanted", "message"),
    [
        (NO_DRIVER, None, r"^JAX cannot use the devices of this machine: .* no driver$"),
        (NO_DRIVER, "cuda", r"^JAX_PLATFORMS=cuda, and .* no driver\nFor an NVIDIA GPU"),
        (FULL, None, r"^JAX cannot use .*: out of memory\nnvidia-smi shows"),
    ],
    ids=["none", "not the wanted one", "full"],
)
def test_devices_that_jax_cannot_use_are_one_message(monkeypatch, error, wanted, message):
    def fail():
        raise RuntimeError(error)

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.delenv("JAX_PLATFORMS")
    if wanted:
        monkeypatch.setenv("JAX_PLATFORMS", wanted)
    with pytest.raises(InputError, match=message):
        parallel.start_processes(None)
