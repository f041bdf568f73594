"""The start of a run's processes: join the others, if there are any, and find the devices.

JAX has no public setting for much of what this needs; each private name is used only if it is there (0.7.2 to 0.10.2).
"""

import contextlib
import functools
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from dcrl_jax import peers, roll_call
from dcrl_jax.errors import InputError
from dcrl_jax.jax_errors import SHARED_GPU, is_out_of_memory

DAY_S = 24 * 3600  # longer than any wait


def start(distributed: str | None, command: Mapping[str, str]) -> None:
    """Join the other processes of a run, if there are any, and find the devices.

    Call it before anything else asks JAX for devices. Only the first process prints to standard output; every process
    reports errors.

    Args:
        distributed: None for a single process; 'auto' on a cluster that JAX knows (Slurm, Open MPI, Kubernetes...); or
            'HOST:PORT,COUNT,INDEX' with the address of the first process, the number of processes, and the index of
            this one.
        command: what all processes must have been started with, by name.

    Raises:
        InputError: ``distributed`` is none of these, the other processes were not found or were started with something
            else, or JAX has no device.
    """
    if distributed is None:
        _require_devices()
        return
    # XLA's own handler of SIGTERM would replace Python's, and ``_roll_call`` sees to proxies.
    for name in ("jax_enable_preemption_service", "jax_check_proxy_envs"):
        with contextlib.suppress(AttributeError):  # not in 0.7.2
            jax.config.update(name, False)
    try:
        with _roll_call(dict(command) | {"JAX": jax.__version__}) as is_watched:
            # ``peers`` watches the processes in place of XLA's heartbeats, which a process that is held up misses.
            options: dict[str, Any] = {"heartbeat_timeout_seconds": DAY_S} if is_watched else {}
            if distributed == "auto":
                jax.distributed.initialize(**options)
            else:
                jax.distributed.initialize(*_parse(distributed), **options)
    except InputError as error:
        raise InputError(f"--distributed={distributed}: {error}.") from None
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"--distributed={distributed}: {error}. Expected HOST:PORT,COUNT,INDEX (the first process's address, the "
            "number of processes, this one's index from 0), or auto on a cluster that JAX knows."
        ) from error
    _use_reachable_address()
    _require_devices()
    if jax.process_index():
        # Every process would print the lines and bars of the first one. The file stays open until the process ends.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        os.environ["TQDM_DISABLE"] = "1"


def wait_for_all() -> None:
    """Wait for all processes before their first exchange; between CPUs, it fails if one of them comes 30 s later."""
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import distributed

        client: Any = distributed.global_state.client
        if jax.process_count() > 1:
            client.wait_at_barrier("dcrl_jax/start", DAY_S * 1000)


@contextlib.contextmanager
def _roll_call(command: Mapping[str, str]) -> Iterator[bool]:
    """Let the processes meet in ``peers`` before JAX connects them within the block; yield whether they will.

    If a later JAX has moved the names, the processes meet in XLA alone: a loss ends them after minutes, with its own
    stack trace, and nobody compares commands.
    """
    from jax._src import distributed

    owner: Any = getattr(distributed, "_jax", None)
    make_service = getattr(owner, "get_distributed_runtime_service", None)
    make_client = getattr(owner, "get_distributed_runtime_client", None)
    if make_service is None or make_client is None:
        yield False
        return

    # At the end the others wait for the first process, which may write a report for long: ``shutdown_timeout``.
    def meet_others(address: str, count: int, **options: Any) -> Any:
        roll_call.call_roll(_host_and_port(address)[1], count, command)
        options["shutdown_timeout"] = DAY_S
        return make_service(address, count, **options)

    def meet_first(address: str, index: int, **options: Any) -> Any:
        options["shutdown_timeout"] = DAY_S
        host, port = _host_and_port(address)
        if index:
            roll_call.answer_roll(host, port, index, distributed.global_state.num_processes, command)
            address = peers.relay(address)
        # gRPC would go to the relay, too, by the proxy of the web.
        direct = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy", "")  # noqa: SIM112
        os.environ["no_grpc_proxy"] = f"{direct},127.0.0.1,{host}"  # noqa: SIM112
        return make_client(address, index, **options)

    owner.get_distributed_runtime_service, owner.get_distributed_runtime_client = meet_others, meet_first
    try:
        yield True
    finally:
        owner.get_distributed_runtime_service, owner.get_distributed_runtime_client = make_service, make_client


def _use_reachable_address() -> None:
    """Connect the CPU devices of several processes over the address by which the others reach this machine.

    JAX takes the machine's host name instead. In many containers it does not resolve, and on Debian it resolves to
    127.0.1.1, which other machines cannot reach. GPUs communicate over NCCL, but JAX creates the CPU client there too.
    JAX has no setting for the address (0.7.2 to 0.12), so this replaces the function that creates the connection.
    """
    # If a later JAX has moved these names, its own choice remains.
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import xla_bridge

        owner: Any = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla  # pyright: ignore
        if address := peers.own_address():
            make = functools.partial(owner.make_gloo_tcp_collectives, hostname=address)
            owner.make_gloo_tcp_collectives = make


def _parse(distributed: str) -> tuple[str, int, int]:
    """Return address, count and index of HOST:PORT,COUNT,INDEX.

    Raises:
        ValueError: it is none.
    """
    address, count, index = distributed.split(",")
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):[0-9]+", address):
        raise ValueError("HOST:PORT is no address with a port, such as node1:12345 or [fd00::1]:12345")
    if not 0 < _host_and_port(address)[1] < 1 << 16:
        raise ValueError("the port is not in 1..65535")
    if not 0 <= int(index) < int(count):
        raise ValueError("the index is not in 0..COUNT-1")
    return address, int(count), int(index)


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
