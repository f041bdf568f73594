"""Data parallel training: processes and devices, placement of state and batches, and the pmapped form of a step.

A process, usually one per host, has its own mesh of devices, its own batches, and its own copy of the state. Processes
communicate in the step's mean over all devices, in the functions of this module and of ``training.fit`` that every
process must call, and in Orbax, when it reads or writes a checkpoint.
"""

import contextlib
import functools
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dcrl_jax import peers
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.jax_errors import SHARED_GPU, is_out_of_memory

AXIS = "devices"
DAY_S = 24 * 3600  # longer than any wait


def start_processes(distributed: str | None) -> None:
    """Join the other processes of a run, if there are any, and find the devices.

    Call it before anything else asks JAX for devices. Only the first process prints to standard output; every process
    reports errors.

    Args:
        distributed: None for a single process; 'auto' on a cluster that JAX knows (Slurm, Open MPI, Kubernetes...); or
            'HOST:PORT,COUNT,INDEX' with the address of the first process, the number of processes, and the index of
            this one.

    Raises:
        InputError: ``distributed`` is none of these, the other processes were not found, or JAX has no device.
    """
    if distributed is None:
        _require_devices()
        return
    late = (
        f"--distributed={distributed}: the processes have not met within {peers.JOIN_S} s. Start all of them, with "
        "the address of the first, which every machine must reach."
    )
    if hasattr(jax.config, "jax_enable_preemption_service"):  # not in 0.7.2
        # XLA's own handler of SIGTERM would replace Python's.
        jax.config.update("jax_enable_preemption_service", False)
    try:
        with peers.meet_in_time(late), _relayed_client() as is_watched:
            # ``peers`` watches the processes in place of XLA's heartbeats, which a process that is held up misses.
            options = {"heartbeat_timeout_seconds": DAY_S} if is_watched else {}
            initialize = functools.partial(
                jax.distributed.initialize, initialization_timeout=2 * peers.JOIN_S, **options
            )
            if distributed == "auto":
                initialize()
            else:
                address, count, index = distributed.split(",")
                if ":" not in address or not 0 <= int(index) < int(count):
                    raise ValueError("the address lacks its port, or the index is not below the count")
                if int(index) == 0:
                    _require_free(_host_and_port(address)[1])
                initialize(address, int(count), int(index))
            _watch_peers()
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"--distributed={distributed}: {error}. Expected HOST:PORT,COUNT,INDEX (the first process's address, the "
            "number of processes, this one's index from 0), or auto on a cluster that JAX knows."
        ) from error
    _use_reachable_address()
    _require_devices()
    if not is_first_process():
        # Every process would print the lines and bars of the first one. The file stays open until the process ends.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        os.environ["TQDM_DISABLE"] = "1"


def _require_free(port: int) -> None:
    """Raise OSError if another program has the port: XLA may share it with its like, or crash."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    socket.create_server(("", port), family=family, dualstack_ipv6=both).close()


def _use_reachable_address() -> None:
    """Connect the CPU devices of several processes over the address by which this machine reaches the first process.

    JAX takes the machine's host name instead. In many containers it does not resolve, and on Debian it resolves to
    127.0.1.1, which other machines cannot reach. GPUs communicate over NCCL, but JAX creates the CPU client there too.
    JAX has no setting for the address (0.7.2 to 0.12), so this replaces the function that creates the connection.
    """
    # If a later JAX has moved these names, its own choice remains.
    with contextlib.suppress(ImportError, AttributeError, OSError):
        from jax._src import distributed, xla_bridge

        owner: Any = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla  # pyright: ignore
        host, port = _host_and_port(distributed.global_state.coordinator_address)
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            own_address = probe.getsockname()[0]
        owner.make_gloo_tcp_collectives = functools.partial(owner.make_gloo_tcp_collectives, hostname=own_address)


@contextlib.contextmanager
def _relayed_client() -> Iterator[bool]:
    """Let JAX connect to the first process through ``peers.relay`` within the block; yield whether it will."""
    from jax._src import distributed

    # If a later JAX has moved this name, its client connects directly.
    owner: Any = getattr(distributed, "_jax", None)
    make_client = getattr(owner, "get_distributed_runtime_client", None)
    if make_client is None:
        yield False
        return

    def make_relayed_client(address: str, index: int, **options: Any) -> Any:
        # At the end the others wait for the first process, which may write a report for long.
        options["shutdown_timeout"] = DAY_S
        return make_client(peers.relay(address) if index else address, index, **options)

    owner.get_distributed_runtime_client = make_relayed_client
    try:
        yield True
    finally:
        owner.get_distributed_runtime_client = make_client


def _watch_peers() -> None:
    # If a later JAX has moved these names, its own watch remains: after minutes, with a stack trace.
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import distributed

        state: Any = distributed.global_state
        client, key = state.client, "dcrl_jax/peers"
        if state.num_processes == 1:
            return
        if state.process_id == 0:
            peers.listen(state.num_processes, lambda port: client.key_value_set(key, port))
        else:
            host, _ = _host_and_port(state.coordinator_address)
            peers.connect(state.process_id, host, int(client.blocking_key_value_get(key, 60_000)))


def _host_and_port(address: str | None) -> tuple[str, int]:
    host, _, port = (address or "").rpartition(":")
    return host.strip("[]"), int(port)


def _require_devices() -> None:
    """Find the devices.

    Raises:
        InputError: JAX cannot use any device, or none of the platform that the user chose; says what to do.
    """
    # JAX logs the stack trace of a plugin's failure before it raises the failure as an error.
    logger = logging.getLogger("jax._src.xla_bridge")
    level = logger.level
    wanted = os.environ.get("JAX_PLATFORMS")
    try:
        if wanted:
            logger.setLevel(logging.CRITICAL)
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it finds none"
        if is_out_of_memory(error):
            raise InputError(f"JAX cannot use the devices of this machine: {reason}\n{SHARED_GPU}") from error
        if not wanted:
            raise InputError(f"JAX cannot use the devices of this machine: {reason}") from error
        raise InputError(
            f"JAX_PLATFORMS={wanted}, and JAX cannot use such a device here: {reason}\n"
            "For an NVIDIA GPU, nvidia-smi must list it, and JAX's CUDA build must be installed, as requirements.txt "
            "does. To use whatever there is, unset JAX_PLATFORMS; JAX_PLATFORMS=cpu takes the CPU."
        ) from error
    finally:
        logger.setLevel(level)


def is_first_process() -> bool:
    """Return whether this process prints, logs and writes results."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; every process must call this function."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def check_same(values: dict[str, Any]) -> None:
    """Check that all processes of a run were started with the same command.

    Args:
        values: what must be equal in all processes, by name.

    Raises:
        InputError: a value differs from that of the first process; names the first ten.
    """
    client, key = _client(), "dcrl_jax/command"
    if jax.process_count() == 1 or client is None:
        return
    own = {name: repr(value) for name, value in values.items()}
    if is_first_process():
        client.key_value_set(key, json.dumps(own))
        return
    first = json.loads(client.blocking_key_value_get(key, DAY_S * 1000))
    if differences := [
        f"{name}: {first.get(name, 'absent')} in the first process, {own.get(name, 'absent')} here"
        for name in sorted(first.keys() | own.keys())
        if first.get(name) != own.get(name)
    ]:
        shown = "\n  ".join(first_few(differences, 10))
        raise InputError(f"the processes were started with different commands:\n  {shown}\nGive all the same.")


def wait_for_all() -> None:
    """Wait for all processes before their first exchange; between CPUs, it fails if one of them comes 30 s later."""
    client = _client()
    if jax.process_count() > 1 and client is not None:
        client.wait_at_barrier("dcrl_jax/start", DAY_S * 1000)


def _client() -> Any:
    """Return what processes exchange words through before they compute; None if a later JAX has moved it."""
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import distributed

        return distributed.global_state.client
    return None


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
