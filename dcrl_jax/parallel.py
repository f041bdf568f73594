"""Data parallel training: placement of state and batches, and the pmapped form of a step."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dcrl_jax.errors import InputError

AXIS = "devices"


def device_mesh() -> Mesh:
    """All local devices in one row."""
    return Mesh(jax.local_devices(), (AXIS,))


def check_batch(batch_size: int, devices: int) -> None:
    """Refuse a global batch that the devices cannot share evenly; raises InputError naming sizes that would do."""
    if batch_size % devices:
        below = batch_size // devices * devices
        sizes = [size for size in (below, below + devices) if size]
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {devices} devices cannot share evenly; "
            f"use {' or '.join(map(str, sizes))}."
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Place a tree whole on every device of the mesh, once."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch [devices, per device, ...] along its first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def parallel_step(step: Callable, mesh: Mesh, frozen_arguments: int = 0) -> Callable:
    """Pmap ``step(state, *frozen, batch) -> (state, metrics)`` over the mesh.

    State and frozen arguments go in replicated and are not copied; the state's buffers are reused for the new state;
    everything that comes out must be equal on all devices.

    Args:
      step: a pure function that averages gradients and metrics over the axis ``AXIS``.
      mesh: of ``device_mesh``.
      frozen_arguments: how many replicated arguments stand between state and batch.
    """
    in_axes = (None,) * (1 + frozen_arguments) + (0,)
    return jax.pmap(step, AXIS, in_axes=in_axes, out_axes=None, donate_argnums=(0,), devices=list(mesh.devices.flat))
