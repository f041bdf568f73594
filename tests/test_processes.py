"""The start of a run's processes; tests/training/test_two_processes.py starts real ones."""

import functools
import os
import socket

import jax
import pytest

from dcrl_jax import peers, processes, roll_call
from dcrl_jax.errors import InputError


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("127.0.0.1:9999", "not enough values"),
        ("127.0.0.1,2,0", "no address with a port"),
        (":9999,2,0", "no address with a port"),
        ("::1:9999,2,0", "no address with a port"),
        ("127.0.0.1:99999,2,0", "the port is not in 1..65535"),
        ("127.0.0.1:0,2,0", "the port is not in 1..65535"),
        ("127.0.0.1:9999,2,2", "the index is not in 0..COUNT-1"),
        ("first:1234,2,1", "DEADLINE_EXCEEDED"),
        ("auto", "DEADLINE_EXCEEDED"),
    ],
)
def test_processes_that_do_not_meet_are_told_what_was_expected(monkeypatch, where, reason):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match=f"^--distributed={where}: .*{reason}.*Expected HOST:PORT,COUNT,INDEX"):
        processes.start(where, {})


@pytest.fixture
def jax_start(monkeypatch):
    """Lets ``jax.distributed.initialize`` do what this returns, and returns the functions that JAX calls in it."""
    from jax._src import distributed

    made = []
    for name in ("service", "client"):
        make = functools.partial(lambda name, *given, **options: made.append((name, given, options)), name)
        monkeypatch.setattr(distributed._jax, f"get_distributed_runtime_{name}", make)
    monkeypatch.setattr(distributed.global_state, "num_processes", 3)
    monkeypatch.setattr(processes, "_use_reachable_address", lambda: None)

    def start(name, *given):
        def initialize(*_, **options):
            assert options == {"heartbeat_timeout_seconds": processes.DAY_S}
            getattr(distributed._jax, f"get_distributed_runtime_{name}")(*given)

        monkeypatch.setattr(jax.distributed, "initialize", initialize)
        processes.start("auto", {"--config.seed": "0"})
        return made

    return start


def test_first_process_calls_the_roll_before_jax_serves(monkeypatch, jax_start):
    calls = []
    monkeypatch.setattr(roll_call, "call_roll", lambda *given: calls.append(given))
    assert jax_start("service", "[::]:7001", 3) == [
        ("service", ("[::]:7001", 3), {"shutdown_timeout": processes.DAY_S})
    ]
    assert calls == [(7001, 3, {"--config.seed": "0", "JAX": jax.__version__})]


def test_others_answer_the_roll_before_jax_connects_through_the_relay(monkeypatch, jax_start):
    calls = []
    monkeypatch.setattr(roll_call, "answer_roll", lambda *given: calls.append(given))
    monkeypatch.setattr(peers, "relay", lambda address: f"relay of {address}")
    monkeypatch.setenv("no_proxy", "node1")
    monkeypatch.setenv("no_grpc_proxy", "")
    made = jax_start("client", "10.0.0.1:7001", 2)
    assert made == [("client", ("relay of 10.0.0.1:7001", 2), {"shutdown_timeout": processes.DAY_S})]
    assert os.environ["no_grpc_proxy"] == "node1,127.0.0.1,10.0.0.1"  # noqa: SIM112
    assert calls == [("10.0.0.1", 7001, 2, 3, {"--config.seed": "0", "JAX": jax.__version__})]


def test_refusal_of_the_roll_is_the_message(monkeypatch, jax_start):
    def refuse(*_):
        raise InputError("process 1 was started with another command")

    monkeypatch.setattr(roll_call, "call_roll", refuse)
    with pytest.raises(InputError, match=r"^--distributed=auto: process 1 was started with another command\.$"):
        jax_start("service", "[::]:7001", 3)


def test_port_of_another_program_is_told(jax_start):
    message = r"^--distributed=auto: .*Address already in use.* Expected HOST:PORT"
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(InputError, match=message):
        jax_start("service", f"[::]:{other.getsockname()[1]}", 3)


def test_cpus_of_several_machines_connect_over_the_address_of_the_watch(monkeypatch):
    from jax._src import xla_bridge

    owner = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla
    made = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: None)
    monkeypatch.setattr(peers, "own_address", lambda: "10.0.0.2")
    monkeypatch.setattr(owner, "make_gloo_tcp_collectives", lambda **given: made.append(given))
    processes.start("[fd00::1]:9,2,0", {})
    owner.make_gloo_tcp_collectives(distributed_client=None)
    assert made == [{"distributed_client": None, "hostname": "10.0.0.2"}]


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
        processes.start(None, {})
