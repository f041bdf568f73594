"""The roll call of a run's processes; tests/training/test_two_processes.py starts real ones."""

import concurrent.futures
import json
import os
import re
import socket
import threading

import pytest

from dcrl_jax import peers, roll_call
from dcrl_jax.errors import InputError

COMMAND = {"--config.seed": "0", "--config.data.lwir_range": "(0, 1)"}
LEAVES = b'dcrl_jax ["leaves", null]\n'


class Ended(Exception):
    pass


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
    """No connections yet; returns index and address of those whose watch starts."""
    started = []

    def watch(index, address, connection):
        peers.connections[index] = connection
        started.append((index, address))

    new = {"connections": {}, "_ending": threading.Lock(), "_farewell": threading.Lock()}
    for name, value in (new | {"have_met": threading.Event(), "watch": watch}).items():
        monkeypatch.setattr(peers, name, value)
    return started


@pytest.fixture
def roll(unwatched):
    """The port at which three processes meet, and the call of their roll, which takes place in a thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield port, pool.submit(roll_call.call_roll, port, 3, COMMAND)


def come(port, index, count, command):
    """Connect to the first process and say who this is."""
    connection = roll_call._reach("127.0.0.1", port)
    say(connection, index, count, command)
    return connection


def say(connection, index, count, command):
    line = json.dumps(["card", {"index": index, "count": count, "command": command}])
    connection.sendall(f"dcrl_jax {line}\n".encode())


def test_processes_meet_whatever_else_connects(unwatched, roll):
    port, call = roll
    lines = (b"5", b'["card", null]', b'["card", {"index": 0, "count": 3, "command": {}}]', b"[" * 9999)
    strangers = (b"GET / HTTP/1.1\r\n\r\n", b"", b'dcrl_jax ["lo')
    for hello in (*strangers, *(b"dcrl_jax " + line + b"\n" for line in lines)):
        with roll_call._reach("127.0.0.1", port) as stranger:
            stranger.sendall(hello)
    processes = [come(port, index, 3, COMMAND) for index in (2, 1)]
    call.result(20)
    assert unwatched == [(2, "127.0.0.1"), (1, "127.0.0.1")]
    assert sorted(peers.connections) == [1, 2]
    assert [process.recv(99) for process in processes] == [b'dcrl_jax ["welcome", null]\n'] * 2
    # XLA listens there next, while these connections stay.
    socket.create_server(("", port)).close()


@pytest.mark.parametrize(("cards", "message"), ROLL.values(), ids=ROLL)
def test_processes_of_different_starts_are_all_told(roll, cards, message):
    port, call = roll
    processes = [come(port, *card) for card in cards]
    late = [come(port, 2, 3, COMMAND)] * (len(cards) < 2)
    with pytest.raises(InputError) as refusal:
        call.result(20)
    assert str(refusal.value) == message
    for process in (*processes, *late):
        assert process.recv(999) == f"dcrl_jax {json.dumps(['refusal', message])}\n".encode()
    assert not peers.are_connected()


def test_process_that_comes_after_all_others_is_told(roll):
    port, call = roll
    processes = [roll_call._reach("127.0.0.1", port) for _ in range(3)]
    for process, index in zip(processes, (1, 2, 2), strict=True):
        say(process, index, 3, COMMAND)
    call.result(20)
    told = [process.recv(99) for process in processes]
    assert told[:2] == [b'dcrl_jax ["welcome", null]\n'] * 2
    assert b"all 3 processes have come already; is an index given twice?" in told[2]


@pytest.mark.usefixtures("unwatched")
def test_processes_that_do_not_come_in_time_are_named(monkeypatch, capsys):
    monkeypatch.setattr(roll_call, "LATE_S", 0)
    monkeypatch.setattr(roll_call, "JOIN_S", 0.3)
    monkeypatch.setattr(roll_call, "PATIENCE_S", 0.2)
    with pytest.raises(InputError, match=r"^the first process gave up waiting at port 0 for the processes 1, 2 of 3"):
        roll_call.call_roll(0, 3, COMMAND)
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
        call = pool.submit(roll_call.answer_roll, "127.0.0.1", first.getsockname()[1], 1, 3, COMMAND)
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
    monkeypatch.setattr(roll_call, "JOIN_S", 0.3)
    monkeypatch.setattr(roll_call, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=rf"^no first process at 127.0.0.1:{port} within 0.3 s \(Connection refused\)"):
        roll_call.answer_roll("127.0.0.1", port, 1, 3, COMMAND)
    assert f"waiting for the first process at 127.0.0.1:{port} (Connection refused)\n" in capsys.readouterr().err
