"""The watch over the other processes of a run; tests/training/test_machines.py kills and cuts off real ones."""

import concurrent.futures
import json
import os
import re
import socket
import threading

import pytest

from dcrl_jax import peers
from dcrl_jax.errors import InputError

COMMAND = {"--config.seed": "0", "--config.data.lwir_range": "(0, 1)"}
LEAVES = b'dcrl_jax ["leaves", null]\n'


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
        peers._watch(1, "10.0.0.2")
    expected = f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from"
    assert capsys.readouterr().err == f"{expected} the newest checkpoint.\n"
    assert watched[2][1].recv(999) == f'dcrl_jax ["loss", "{loss}"]\n'.encode()
    assert slept == [peers.LEFT_S] * (b"leaves" in line)


def test_silence_is_told_from_an_end(capsys, watched):
    # What the operating system reports after its probes.
    watched[1][0].settimeout(0.01)
    with pytest.raises(Ended):
        peers._watch(1, "10.0.0.2")
    assert "is gone: it does not answer (is its machine or the network down?)" in capsys.readouterr().err


def test_loss_after_the_farewell_is_told_here_alone(capsys, watched):
    peers.leave()
    with pytest.raises(Ended):
        peers._end("process 0 at 10.0.0.1 is gone: so")
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


def test_farewell_is_said_once(watched):
    peers.leave()
    peers.leave()
    watched[1][0].close()
    assert watched[1][1].recv(999) == LEAVES


ROLL = {
    "index twice": (
        [(1, 3, COMMAND), (1, 3, COMMAND)],
        "process 1 at 127.0.0.1 has the index of the one at 127.0.0.1; give each process its own, from 0",
    ),
    "other count": (
        [(2, 4, COMMAND)],
        "process 2 at 127.0.0.1 was started as one of 4 processes, the first one as one of 3",
    ),
    "other command": (
        [(1, 3, COMMAND), (2, 3, {"--config.seed": "1", "--config.loss.new": "1.5"})],
        "process 2 at 127.0.0.1 was started with another command:\n"
        "  --config.data.lwir_range: (0, 1) in the first process, absent there\n"
        "  --config.loss.new: absent in the first process, 1.5 there\n"
        "  --config.seed: 0 in the first process, 1 there\n"
        "Give all processes the same",
    ),
}


@pytest.fixture
def unwatched(monkeypatch):
    """No connections yet; returns those whose watch starts."""
    started = []
    new = {"_connections": {}, "_ending": threading.Lock(), "_farewell": threading.Lock()}
    for name, value in (new | {"_start_watch": lambda *given: started.append(given)}).items():
        monkeypatch.setattr(peers, name, value)
    return started


@pytest.fixture
def roll(unwatched):
    """The port at which three processes meet, and the call of their roll, which takes place in a thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield port, pool.submit(peers.call_roll, port, 3, COMMAND)


def come(port, index, count, command):
    """Connect to the first process and say who this is."""
    connection = peers._reach("127.0.0.1", port)
    line = json.dumps(["card", {"index": index, "count": count, "command": command}])
    connection.sendall(f"dcrl_jax {line}\n".encode())
    return connection


def test_processes_meet_whatever_else_connects(unwatched, roll):
    port, call = roll
    for hello in (b"GET / HTTP/1.1\r\n\r\n", b"", b'dcrl_jax ["lo'):
        with peers._reach("127.0.0.1", port) as stranger:
            stranger.sendall(hello)
    processes = [come(port, index, 3, COMMAND) for index in (2, 1)]
    call.result(20)
    assert unwatched == [(2, "127.0.0.1"), (1, "127.0.0.1")]
    assert sorted(peers._connections) == [1, 2]
    assert [process.recv(99) for process in processes] == [b'dcrl_jax ["welcome", null]\n'] * 2
    # XLA listens there next, while these connections stay.
    socket.create_server(("", port)).close()


@pytest.mark.parametrize(("cards", "message"), ROLL.values(), ids=ROLL)
def test_processes_of_different_starts_are_all_told(roll, cards, message):
    port, call = roll
    processes = [come(port, *card) for card in cards]
    with pytest.raises(InputError) as refusal:
        call.result(20)
    assert str(refusal.value) == message
    for process in processes:
        assert process.recv(999) == f"dcrl_jax {json.dumps(['refusal', message])}\n".encode()
    assert not peers.are_connected()


@pytest.mark.usefixtures("unwatched")
def test_processes_that_do_not_come_in_time_are_named(monkeypatch, capsys):
    monkeypatch.setattr(peers, "JOIN_S", 0.1)
    monkeypatch.setattr(peers, "PATIENCE_S", 0.2)
    with pytest.raises(InputError, match=r"^the first process gave up waiting at port 0 for the processes 1, 2 of 3"):
        peers.call_roll(0, 3, COMMAND)
    assert capsys.readouterr().err == "waiting at port 0 for the processes 1, 2 of 3\n"


ANSWERS = {
    "refused": (b'dcrl_jax ["refusal", "process 2 did"]\n', InputError, "^process 2 did$"),
    "web server": (b"HTTP/1.1 400 Bad Request\r\n", InputError, "^another program answers at 127.0.0.1:"),
    "XLA of a run": (b"\x00\x00$\x04\x00\x00\x00", InputError, "^another program answers at 127.0.0.1:"),
    "killed": (b"", Ended, "process 0 at 127.0.0.1 is gone: it has ended without a message"),
    "stopped": (LEAVES, Ended, "process 0 at 127.0.0.1 has stopped; its message says why"),
    "told of a loss": (b'dcrl_jax ["loss", "process 2 is gone"]\n', Ended, "process 2 is gone"),
    "welcome": (b'dcrl_jax ["welcome", null]\n', None, ""),
}


@pytest.mark.parametrize(("answer", "error", "message"), ANSWERS.values(), ids=ANSWERS)
def test_answer_of_the_first_process_decides(monkeypatch, capsys, unwatched, answer, error, message):
    def end(status):
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    with socket.create_server(("127.0.0.1", 0)) as first, concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(peers.answer_roll, "127.0.0.1", first.getsockname()[1], 1, 3, COMMAND)
        connection, _ = first.accept()
        said = json.loads(connection.makefile().readline().removeprefix("dcrl_jax "))
        assert said == ["card", {"index": 1, "count": 3, "command": COMMAND}]
        connection.sendall(answer)
        connection.close()
        ending = call.exception(20)
    assert type(ending) is (error or type(None))
    assert re.search(message, str(ending) if error is InputError else capsys.readouterr().err)
    assert unwatched == ([] if error else [(0, "127.0.0.1")])


@pytest.mark.usefixtures("unwatched")
def test_missing_first_process_is_told(monkeypatch, capsys):
    monkeypatch.setattr(peers, "JOIN_S", 0.3)
    monkeypatch.setattr(peers, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=rf"^no first process at 127.0.0.1:{port} within 0.3 s \(Connection refused\)"):
        peers.answer_roll("127.0.0.1", port, 1, 3, COMMAND)
    assert f"waiting for the first process at 127.0.0.1:{port} (Connection refused)\n" in capsys.readouterr().err


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
