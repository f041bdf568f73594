"""The other processes of a run: call their roll at its start, and watch them until this process ends.

A process that dies closes its connections; a machine that is cut off does not, and a computation under way goes on
waiting for its share. So each process holds a TCP connection to the first one for this alone. The operating systems
send probes over it and answer them, however long the processes compile or compute, and report it as broken after
SILENCE_S without an answer. The first process tells the others whom it lost.

These connections are made before XLA's own and at the same port, since XLA answers a wrong start with a stack trace, a
crash or a long wait. Each process says who it is and what it was started with; the first answers when all are there.
"""

import atexit
import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from dcrl_jax.errors import InputError, first_few

SILENCE_S = 30
JOIN_S = 300  # from the start of a process until it has met all others
PATIENCE_S = 10  # until it says what it waits for
# After a process has stopped in order, by an error or a signal: the others may still have to save their state.
LEFT_S = 60
PROGRAM = b"dcrl_jax "  # the start of every line

_connections: dict[int, socket.socket] = {}  # by the index of the other process
_farewell = threading.Lock()  # taken once, by the first reason to end
_ending = threading.Lock()  # taken once, by the first loss
_left: list[str] = []  # what to say of the processes that have ended in order
_held: list[socket.socket] = []  # open connections of XLA, which no other reference may keep


def call_roll(port: int, count: int, command: Mapping[str, str]) -> None:
    """Wait in the first process for all others, and watch them until this process ends.

    Args:
        port: the port to which the others come; free again afterwards, for XLA.
        count: the number of processes.
        command: what all must have been started with, by name.

    Raises:
        InputError: one has not come within JOIN_S, or was started with something else; the others are told.
        OSError: another program has the port.
    """
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    addresses: dict[int, str] = {}
    deadline = time.monotonic() + JOIN_S
    with socket.create_server(("", port), family=family, backlog=count, dualstack_ipv6=both) as listener:
        listener.settimeout(PATIENCE_S)
        while missing := [str(index) for index in range(1, count) if index not in addresses]:
            waiting = f"waiting at port {port} for the processes {', '.join(missing)} of {count}"
            if time.monotonic() > deadline:
                raise _refusal(f"the first process gave up {waiting}, after {JOIN_S} s; start all of them")
            try:
                connection, (address, *_) = listener.accept()
            except TimeoutError:
                _note(waiting)
                continue
            address = address.removeprefix("::ffff:")
            connection.settimeout(SILENCE_S)
            try:
                kind, card = _receive(connection) or ("", {})
            except (OSError, ValueError):
                continue  # a scan of ports may come here, too
            if kind == "card":
                index = card["index"]
                if reason := _objection(card, address, addresses, count, command):
                    raise _refusal(reason, connection)
                _connections[index], addresses[index] = connection, address
                _start_watch(index, address)
    _tell("welcome")


def _objection(
    card: Mapping[str, Any], address: str, addresses: Mapping[int, str], count: int, command: Mapping[str, str]
) -> str:
    """Return why a process cannot be one of this run; '' if it can."""
    index, others = card["index"], card["command"]
    name = f"process {index} at {address}"
    if card["count"] != count:
        return f"{name} was started as one of {card['count']} processes, the first one as one of {count}"
    if index in addresses:
        return f"{name} has the index of the one at {addresses[index]}; give each process its own, from 0"
    differences = [
        f"{key}: {command.get(key, 'absent')} in the first process, {others.get(key, 'absent')} there"
        for key in sorted(command.keys() | others.keys())
        if command.get(key) != others.get(key)
    ]
    if not differences:
        return ""
    shown = "\n  ".join(first_few(differences, 10))
    return f"{name} was started with another command:\n  {shown}\nGive all processes the same"


def _refusal(reason: str, newcomer: socket.socket | None = None) -> InputError:
    """Tell all why they do not start, and return the error for this process."""
    _ending.acquire()  # what follows from the end of the others is not said
    _tell("refusal", reason, *([newcomer] if newcomer else []))
    _connections.clear()
    return InputError(reason)


def answer_roll(host: str, port: int, index: int, count: int, command: Mapping[str, str]) -> None:
    """Meet the others through the first process, and watch that until this process ends.

    Args:
        host: the address of the first process.
        port: the port of its ``call_roll``.
        index: the number of this process, from 1.
        count: the number of processes.
        command: what all must have been started with, by name.

    Raises:
        InputError: the first process is not there within JOIN_S, or says that not all have come or were started alike.
    """
    connection = _reach(host, port)
    _connections[0] = connection
    _tell("card", {"index": index, "count": count, "command": dict(command)})
    connection.settimeout(JOIN_S + SILENCE_S)
    _probe(connection)
    if not select.select([connection], [], [], PATIENCE_S)[0]:
        _note("waiting until the first process has met all others")
    try:
        kind, value = _next(0, host)
    except ValueError:
        kind, value = "refusal", f"another program answers at {host}:{port}: a former run that has not ended, perhaps"
    if kind == "refusal":
        _connections.clear()
        raise InputError(value)
    if kind != "welcome":
        _end(value)
    _start_watch(0, host)


def _reach(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + JOIN_S
    patience = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection = socket.create_connection((host, port), PATIENCE_S)
            # A port that nobody listens at may be the very one that the system gives to the caller.
            if connection.getsockname() != connection.getpeername():
                return connection
            connection.close()
            reason: object = "Connection refused"
        except OSError as error:
            reason = error.strerror or error
        if time.monotonic() > deadline:
            raise InputError(f"no first process at {host}:{port} within {JOIN_S} s ({reason}); start all processes")
        if time.monotonic() > patience:
            _note(f"waiting for the first process at {host}:{port} ({reason})")
            patience += PATIENCE_S
        time.sleep(0.2)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def are_connected() -> bool:
    """Return whether this process watches others."""
    return bool(_connections)


def leave() -> None:
    """Tell the others that this process ends in order."""
    if _farewell.acquire(blocking=False):
        _tell("leaves")


@contextlib.contextmanager
def lost_peer_first() -> Iterator[None]:
    """Wait before an error leaves the block: if it came from the loss of a process, ``_watch`` says that and exits."""
    try:
        yield
    except Exception as error:
        if _connections:
            time.sleep(5)
            # What follows from the end of another process, whose message says why, is no error of this one.
            if _left and not isinstance(error, InputError | OSError):
                _end(_left[0])
        raise


def relay(address: str) -> str:
    """Return the 'HOST:PORT' of a relay to another address, whose connections stay open when the other's close.

    XLA ends a process with a stack trace as soon as its connection to the first process closes, before this module can
    say why, and its callback for that cannot be called from Python (JAX 0.7.2 to 0.10.2).
    """
    host, _, port = address.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection((host.strip("[]"), int(port)), SILENCE_S)
            except OSError:
                near.close()  # the first process has not started yet; XLA tries again
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _held.append(near)
            threading.Thread(target=_copy, args=(near, far), daemon=True).start()
            threading.Thread(target=_copy, args=(far, near), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def _start_watch(other: int, address: str) -> None:
    _probe(_connections[other])
    _connections[other].settimeout(None)
    threading.Thread(target=_watch, args=(other, address), daemon=True).start()
    # Before JAX's own end, in which the processes wait for each other.
    atexit.register(leave)


def _probe(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"IDLE": SILENCE_S // 3, "INTVL": SILENCE_S // 6, "CNT": 4}.items():
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"), value)


def _watch(other: int, address: str) -> None:
    kind, value = _next(other, address)
    if kind == "leaves":
        _left.append(value)
        while _next(other, address)[0] != "loss":
            pass
        time.sleep(LEFT_S)
    _end(value)


def _next(other: int, address: str) -> tuple[str, Any]:
    """Return what a process says next, as ``_receive`` does; its end is a loss."""
    name = f"process {other} at {address}"
    killed = f"{name} is gone: it has ended without a message (was it killed, or out of memory?)"
    try:
        kind, value = _receive(_connections[other]) or ("loss", killed)
    except ConnectionResetError:
        return "loss", killed
    except OSError:
        return "loss", f"{name} is gone: it does not answer (is its machine or the network down?)"
    return kind, f"{name} has stopped; its message says why" if kind == "leaves" else value


def _end(loss: str) -> NoReturn:
    _ending.acquire()
    if _farewell.acquire(blocking=False):
        _tell("loss", loss)
    print(
        f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from the "
        "newest checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(os.EX_TEMPFAIL)


def _receive(connection: socket.socket) -> tuple[str, Any] | None:
    """Return the next line of ``_tell`` as its kind and value; None if the connection is closed.

    Raises:
        ValueError: another program talks.
    """
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return None
        line += byte
        if not PROGRAM.startswith(line[: len(PROGRAM)]) or len(line) > 1 << 20:
            raise ValueError("another program")
    kind, value = json.loads(line[len(PROGRAM) :])
    return kind, value


def _tell(kind: str, value: Any = None, *others: socket.socket) -> None:
    """Send a line to the connected processes and to others."""
    for connection in (*_connections.values(), *others):
        with contextlib.suppress(OSError):
            connection.sendall(PROGRAM + json.dumps([kind, value]).encode() + b"\n")
