"""The watch over the other processes of a run; tests/training/test_machines.py kills and cuts off real ones."""

import os
import socket
import threading

import pytest

from dcrl_jax import peers
from dcrl_jax.errors import InputError

LEAVES = b'dcrl_jax ["leaves", null]\n'


class Ended(Exception):
    pass


@pytest.fixture
def watched(monkeypatch):
    """Connections to processes 1 and 2, and their ends there; nothing has been said yet."""

    def end(status):
        raise Ended(status)

    pairs = {1: socket.socketpair(), 2: socket.socketpair()}
    monkeypatch.setattr(peers, "connections", {index: here for index, (here, _) in pairs.items()})
    for name in ("_farewell", "_ending"):
        monkeypatch.setattr(peers, name, threading.Lock())
    monkeypatch.setattr(peers, "_left", [])
    monkeypatch.setattr(peers, "have_met", threading.Event())
    peers.have_met.set()
    monkeypatch.setattr(os, "_exit", end)
    yield pairs
    for pair in pairs.values():
        for end in pair:
            end.close()


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        (b"", "process 1 at 10.0.0.2 is gone: it has ended without a message (was it killed, or out of memory?)"),
        (LEAVES, "process 1 at 10.0.0.2 has stopped; its message says why"),
        (b'dcrl_jax ["loss", "process 3 at 10.0.0.4 is gone: so"]\n', "process 3 at 10.0.0.4 is gone: so"),
    ],
    ids=["killed", "stopped in order", "told by the first"],
)
def test_end_of_a_process_ends_this_one_and_is_passed_on(monkeypatch, capsys, watched, line, loss):
    slept = []
    monkeypatch.setattr(peers.time, "sleep", slept.append)
    watched[1][1].sendall(line)
    watched[1][1].close()
    with pytest.raises(Ended, match=f"^{os.EX_TEMPFAIL}$"):
        peers._watch(watched[1][0], "process 1 at 10.0.0.2")
    expected = f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from"
    assert capsys.readouterr().err == f"{expected} the newest checkpoint.\n"
    assert watched[2][1].recv(999) == f'dcrl_jax ["loss", "{loss}"]\n'.encode()
    assert slept == [peers.LEFT_S] * (b"leaves" in line)


def test_silence_is_told_from_an_end(capsys, watched):
    # What the operating system reports after its probes.
    watched[1][0].settimeout(0.01)
    with pytest.raises(Ended):
        peers._watch(watched[1][0], "process 1 at 10.0.0.2")
    assert "is gone: it does not answer (is its machine or the network down?)" in capsys.readouterr().err


def test_loss_after_the_farewell_is_told_here_alone(capsys, watched):
    peers.leave()
    with pytest.raises(Ended):
        peers.end("process 0 at 10.0.0.1 is gone: so")
    assert "error: process 0 at 10.0.0.1 is gone: so. This process" in capsys.readouterr().err
    watched[1][0].close()
    assert watched[1][1].recv(999) == LEAVES


@pytest.mark.parametrize(
    "error", [RuntimeError("Gloo AllGather failed"), InputError("a mistake"), OSError(5, "a disk")]
)
def test_error_that_follows_from_the_end_of_another_process_is_not_shown(monkeypatch, capsys, watched, error):
    monkeypatch.setattr(peers.time, "sleep", lambda _: peers._left.append("process 1 at 10.0.0.2 has stopped"))
    expected = Ended if isinstance(error, RuntimeError) and not isinstance(error, OSError) else type(error)
    with pytest.raises(expected), peers.lost_peer_first():
        raise error
    assert ("process 1 at 10.0.0.2 has stopped" in capsys.readouterr().err) == (expected is Ended)


def test_process_that_leaves_before_all_have_met_has_nothing_to_save(monkeypatch, watched):
    peers.have_met.clear()
    monkeypatch.setattr(peers.time, "sleep", lambda _: pytest.fail("it waits"))
    watched[1][1].sendall(LEAVES)
    watched[1][1].close()
    with pytest.raises(Ended):
        peers._watch(watched[1][0], "process 1 at 10.0.0.2")


def test_loss_ends_this_process_though_it_cannot_be_printed(monkeypatch, watched):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.print", fail)
    with pytest.raises(Ended, match=f"^{os.EX_TEMPFAIL}$"):
        peers.end("process 1 at 10.0.0.2 is gone")
    assert b"process 1 at 10.0.0.2 is gone" in watched[2][1].recv(999)


def test_own_address_is_the_one_that_other_machines_reach(monkeypatch):
    class Connection:
        def __init__(self, address):
            self.address = address

        def getsockname(self):
            return self.address, 7001

    for own, expected in (
        ([], None),
        (["127.0.0.1"], "127.0.0.1"),
        (["::ffff:127.0.0.1", "::ffff:10.0.0.1"], "10.0.0.1"),
        (["fd00::1", "::1"], "fd00::1"),
    ):
        monkeypatch.setattr(peers, "connections", dict(enumerate(map(Connection, own))))
        assert peers.own_address() == expected


def test_farewell_is_said_once(watched):
    peers.leave()
    peers.leave()
    watched[1][0].close()
    assert watched[1][1].recv(999) == LEAVES


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
