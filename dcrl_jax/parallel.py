"""Data parallel training: processes and devices, placement of state and batches, and the pmapped form of a step.

A process, usually one per host, has its own mesh of devices, its own batches, and its own copy of the state. Processes
communicate in the step's mean over all devices, in the functions of this module and of ``training.fit`` that every
process must call, and in Orbax, when it reads or writes a checkpoint.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dcrl_jax.errors import InputError

AXIS = "devices"


def is_first_process() -> bool:
    """Return whether this process prints, logs and writes results."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; every process must call this function."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def first_process_first(action: Callable[[], Any]) -> Any:
    """Wait for all processes, run an action in the first one, then run it in the others.

    Returns:
        The action's result.

    Raises:
        InputError: the action failed in the first process. There the action's own error is raised instead.
    """
    if jax.process_count() == 1:
        return action()
    multihost_utils.sync_global_devices("first process first")
    result, error = None, None
    if is_first_process():
        try:
            result = action()
        except Exception as failure:  # any error: the other processes wait for an answer
            error = failure
    if any_process(error is not None):
        raise error or InputError("the first process has stopped; its message says why.")
    return result if is_first_process() else action()


def check_shared(file: Path) -> None:
    """Check that all processes see the same folder: write a number to a file in it and read it in all of them.

    Raises:
        InputError: a process does not see what the first one writes there.
        OSError: the first one cannot write there.
    """
    if jax.process_count() == 1:
        return
    number = str(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    first_process_first(lambda: file.write_text(number, "ascii") if is_first_process() else None)
    if any_process(not file.exists() or file.read_text("ascii") != number):
        raise InputError(
            f"{file.parent} is not the same folder for all processes; give one that all machines share, over NFS for "
            "example."
        )


def gather(tree: Any) -> Any:
    """Concatenate the NumPy arrays of all processes along their first axis; shapes must be equal in all processes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.concatenate, multihost_utils.process_allgather(tree))


def device_mesh() -> Mesh:
    """Return the mesh of this process's devices, along one axis."""
    return Mesh(jax.local_devices(), (AXIS,))


def check_batch(batch_size: int, devices: int, accumulation_steps: int = 1) -> None:
    """Check that devices can share a global batch evenly.

    Args:
        batch_size: the config's ``train.batch_size``.
        devices: number of devices of all processes together.
        accumulation_steps: number of parts of each device's share.

    Raises:
        InputError: they cannot; names the nearest sizes that they can share.
    """
    parts = devices * accumulation_steps
    if batch_size % parts:
        below = batch_size // parts * parts
        sizes = [size for size in (below, below + parts) if size]
        shared = f"{devices} devices cannot share evenly"
        if accumulation_steps > 1:
            shared += f" in {accumulation_steps} steps of accumulation each"
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {shared}; use {' or '.join(map(str, sizes))}."
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Place a copy of a tree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch [devices, per device, ...] along its first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def across_processes(tree: Any) -> Any:
    """Return a replicated tree as arrays over the devices of all processes, the form in which Orbax saves it."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, _global_mesh(), PartitionSpec())


def within_process(tree: Any) -> Any:
    """Return a tree of ``across_processes`` as arrays on this process's devices."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.global_array_to_host_local_array(tree, _global_mesh(), PartitionSpec())


def indices_in_global_batch(images: int) -> jax.Array:
    """Return the indices of this device's images in the global batch, int32 [images]; call it inside a step.

    Processes take turns: of P processes, image i of process p has the index i P + p (see ``data.pipeline``).
    """
    processes = jax.process_count()
    process, device = jnp.divmod(jax.lax.axis_index(AXIS), jax.lax.psum(1, AXIS) // processes)
    return (device * images + jnp.arange(images)) * processes + process


def parallel_step(step: Callable, mesh: Mesh, frozen_arguments: int = 0) -> Callable:
    """Pmap ``step(state, *frozen, batch) -> (state, metrics)`` over the meshes of all processes.

    State and frozen arguments must be replicated already; they are not copied. The new state reuses the buffers of the
    old one. All results must be equal on all devices.

    Args:
        step: a pure function that averages gradients and metrics over the axis ``AXIS``.
        mesh: the mesh of ``device_mesh``.
        frozen_arguments: number of replicated arguments between state and batch.
    """
    in_axes = (None,) * (1 + frozen_arguments) + (0,)
    devices = list((mesh if jax.process_count() == 1 else _global_mesh()).devices.flat)
    return jax.pmap(step, AXIS, in_axes=in_axes, out_axes=None, donate_argnums=(0,), devices=devices)


def _global_mesh():
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(devices, (AXIS,))
