"""Sharing a batch over devices, and the pmapped form of a step."""

import pathlib

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
    parallel.check_shared(pathlib.Path("absent/file"))
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
