"""The watch over the other processes of a run; tests/training/test_machines.py kills and cuts off real ones."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dcrl_jax import peers
from dcrl_jax.errors import InputError

ROOT = Path(__file__).parents[1]


class Ended(Exception):
    pass


@pytest.fixture
def watched(monkeypatch):
    """Connections to processes 1 and 2, and their ends there; nothing has been said yet."""

    def end(status):
        raise Ended(status)

    pairs = {1: socket.socketpair(), 2: socket.socketpair()}
    monkeypatch.setattr(peers, "_connections", {index: here for index, (here, _) in pairs.items()})
    for name in ("_farewell", "_ending"):
        monkeypatch.setattr(peers, name, threading.Lock())
    monkeypatch.setattr(peers, "_left", [])
    monkeypatch.setattr(os, "_exit", end)
    yield pairs
    for pair in pairs.values():
        for end in pair:
            end.close()


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        (b"", "process 1 at 10.0.0.2 is gone: it has ended without a message (was it killed, or out of memory?)"),
        (b"leaves\n", "process 1 at 10.0.0.2 has stopped; its message says why"),
        (b"process 3 at 10.0.0.4 is gone: so\n", "process 3 at 10.0.0.4 is gone: so"),
    ],
    ids=["killed", "stopped in order", "told by the first"],
)
def test_end_of_a_process_ends_this_one_and_is_passed_on(monkeypatch, capsys, watched, line, loss):
    slept = []
    monkeypatch.setattr(peers.time, "sleep", slept.append)
    watched[1][1].sendall(line)
    watched[1][1].close()
    with pytest.raises(Ended, match=f"^{os.EX_TEMPFAIL}$"):
        peers._watch(1, "10.0.0.2", watched[1][0])
    expected = f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from"
    assert capsys.readouterr().err == f"{expected} the newest checkpoint.\n"
    assert watched[2][1].recv(999) == f"{loss}\n".encode()
    assert slept == [peers.LEFT_S] * (line == b"leaves\n")


def test_silence_is_told_from_an_end(capsys, watched):
    # What the operating system reports after its probes.
    watched[1][0].settimeout(0.01)
    with pytest.raises(Ended):
        peers._watch(1, "10.0.0.2", watched[1][0])
    assert "is gone: it does not answer (is its machine or the network down?)" in capsys.readouterr().err


def test_loss_after_the_farewell_is_told_here_alone(capsys, watched):
    peers.leave()
    with pytest.raises(Ended):
        peers._end("process 0 at 10.0.0.1 is gone: so")
    assert "error: process 0 at 10.0.0.1 is gone: so. This process" in capsys.readouterr().err
    watched[1][0].close()
    assert watched[1][1].recv(999) == b"leaves\n"


@pytest.mark.parametrize(
    "error", [RuntimeError("Gloo AllGather failed"), InputError("a mistake"), OSError(5, "a disk")]
)
def test_error_that_follows_from_the_end_of_another_process_is_not_shown(monkeypatch, capsys, watched, error):
    monkeypatch.setattr(peers.time, "sleep", lambda _: peers._left.append("process 1 at 10.0.0.2 has stopped"))
    expected = Ended if isinstance(error, RuntimeError) and not isinstance(error, OSError) else type(error)
    with pytest.raises(expected), peers.lost_peer_first():
        raise error
    assert ("process 1 at 10.0.0.2 has stopped" in capsys.readouterr().err) == (expected is Ended)


def test_farewell_is_said_once(watched):
    peers.leave()
    peers.leave()
    watched[1][0].close()
    assert watched[1][1].recv(999) == b"leaves\n"


def test_processes_meet_whatever_else_connects(monkeypatch):
    monkeypatch.setattr(peers, "_connections", {})
    monkeypatch.setattr(peers.atexit, "register", lambda _: None)
    started = {}
    monkeypatch.setattr(peers, "_start_watch", started.update)
    port = []

    def visit(number):
        port.append(int(number))
        for hello in (b"GET / HTTP/1.1\r\n", b"1\n"):
            connection = socket.create_connection(("127.0.0.1", port[0]))
            connection.sendall(hello)

    peers.listen(2, visit)
    assert started == {1: "127.0.0.1"}
    assert list(peers._connections) == [1]


@pytest.fixture
def relayed():
    """A connection through a relay, the end of the first process, and what stops that one from listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, _, port = peers.relay(f"127.0.0.1:{server.getsockname()[1]}").partition(":")
        with socket.create_connection((host, int(port))) as near:
            far, _ = server.accept()
            yield near, far, server.close


def test_relay_stays_open_when_the_other_end_closes(watched, relayed):
    near, far, stop_listening = relayed
    near.sendall(b"question")
    assert far.recv(99) == b"question"
    far.sendall(b"answer")
    far.close()
    assert near.recv(99) == b"answer"
    near.settimeout(0.2)
    with pytest.raises(TimeoutError):
        near.recv(99)
    # The first process has not started yet: the caller must try again.
    stop_listening()
    with socket.create_connection(near.getpeername()) as later:
        assert later.recv(99) == b""


def test_first_process_that_ends_before_it_is_watched_ends_this_one(monkeypatch, capsys, watched, relayed):
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set() if status == os.EX_TEMPFAIL else None)
    monkeypatch.setattr(peers, "_connections", {})
    relayed[1].close()
    assert ended.wait(10)
    assert "error: process 0 at 127.0.0.1 is gone: it has ended without a message" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, os.EX_TEMPFAIL)])
def test_signal_ends_the_wait_for_the_others(number, expected):
    script = "from dcrl_jax import peers; import signal, socket; signal.signal(signal.SIGTERM, lambda *_: None)\n"
    script += "with peers.meet_in_time('late'), socket.create_server(('127.0.0.1', 0)) as server:\n"
    # As in XLA, Python's own handlers do not end the wait.
    script += "    signal.signal(signal.SIGINT, lambda *_: None); print('waits', flush=True); server.accept()\n"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"waits\n"
    process.send_signal(number)
    assert process.wait(20) == expected
    process.stdout.close()


def test_processes_that_do_not_meet_in_time_exit(monkeypatch, capsys):
    late = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: late.set() if status == 1 else None)
    monkeypatch.setattr(peers, "JOIN_S", 0.01)
    with peers.meet_in_time("they have not met"):
        assert late.wait(10)
    assert capsys.readouterr().err == "\nerror: they have not met\n"
    monkeypatch.setattr(peers, "JOIN_S", 0.2)
    late.clear()
    with peers.meet_in_time("they have not met"):
        pass
    assert not late.wait(0.4)
