"""The other processes of a run: watch them until this process ends, since it would wait for a lost one for ever.

A process that dies closes its connections; a machine that is cut off does not, and a computation under way goes on
waiting for its share. So each process holds a TCP connection to the first one for this alone, see ``roll_call``. The
operating systems send probes over it and answer them, however long the processes compile or compute, and report it as
broken after SILENCE_S without an answer. The first process tells the others whom it lost.
"""

import atexit
import contextlib
import errno
import ipaddress
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from dcrl_jax.errors import InputError

SILENCE_S = 30
# After a process has stopped in order, by an error or a signal: the others may still have to save their state.
LEFT_S = 60
PROGRAM = b"dcrl_jax "  # the start of every line

connections: dict[int, socket.socket] = {}  # by the index of the other process
have_met = threading.Event()  # set when all processes have come
_farewell = threading.Lock()  # taken once, by the first reason to end
_ending = threading.Lock()  # taken once, by the first loss
_left: list[str] = []  # what to say of the processes that have ended in order
_held: list[socket.socket] = []  # open connections of XLA, which no other reference may keep


def are_connected() -> bool:
    """Return whether this process watches others."""
    return bool(connections)


def leave() -> None:
    """Tell the others that this process ends in order."""
    if _farewell.acquire(blocking=False):
        tell("leaves")


@contextlib.contextmanager
def lost_peer_first() -> Iterator[None]:
    """Wait before an error leaves the block: if it came from the loss of a process, ``end`` says that and exits."""
    try:
        yield
    except Exception as error:
        if connections:
            time.sleep(5)
            # What follows from the end of another process, whose message says why, is no error of this one.
            if _left and not isinstance(error, InputError | OSError):
                end(_left[0])
        raise


def own_address() -> str | None:
    """Return the address of this machine that the others reach; None without others."""
    own = [connection.getsockname()[0].removeprefix("::ffff:") for connection in connections.values()]
    own.sort(key=lambda address: ipaddress.ip_address(address).is_loopback)  # a process on this machine may use that
    return own[0] if own else None


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
                far = dial(host.strip("[]"), int(port), SILENCE_S)
            except OSError:
                near.close()  # the first process has not started yet; XLA tries again
                continue
            far.settimeout(None)
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _held.append(near)
            threading.Thread(target=_copy, args=(near, far), daemon=True).start()
            threading.Thread(target=_copy, args=(far, near), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def watch(index: int, address: str, connection: socket.socket) -> None:
    """Watch another process over its connection until this process ends."""
    connections[index] = connection
    probe(connection)
    connection.settimeout(None)
    threading.Thread(target=_watch, args=(connection, f"process {index} at {address}"), daemon=True).start()
    # Before JAX's own end, in which the processes wait for each other.
    atexit.register(leave)


def forget() -> None:
    """Watch the others no longer: this process ends for a reason that it has told them."""
    _ending.acquire()
    connections.clear()


def probe(connection: socket.socket) -> None:
    """Let the operating systems find out if the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"IDLE": SILENCE_S // 3, "INTVL": SILENCE_S // 6, "CNT": 4}.items():
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"), value)
    # Nothing is probed while data wait for an answer.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE_S)


def _watch(connection: socket.socket, name: str) -> None:
    kind, value = hear(connection, name)
    if kind == "leaves":
        _left.append(value)
        while hear(connection, name)[0] not in ("loss", "foreign"):
            pass
        if have_met.is_set():
            time.sleep(LEFT_S)
    end(value)


def hear(connection: socket.socket, name: str) -> tuple[str, Any]:
    """Return what a process says next as kind and value; its end is a loss, and another program is foreign."""
    killed = f"{name} is gone: it has ended without a message (was it killed, or out of memory?)"
    try:
        kind, value = receive(connection) or ("loss", killed)
    except ConnectionResetError:
        return "loss", killed
    except OSError:
        return "loss", f"{name} is gone: it does not answer (is its machine or the network down?)"
    except ValueError:
        return "foreign", f"{name} is gone: another program answers"
    return kind, f"{name} has stopped; its message says why" if kind == "leaves" else value


def end(loss: str) -> NoReturn:
    """Tell the others and the user of a loss, and exit."""
    _ending.acquire()
    if _farewell.acquire(blocking=False):
        tell("loss", loss)
    note(
        f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from the "
        "newest checkpoint."
    )
    os._exit(os.EX_TEMPFAIL)


def receive(connection: socket.socket) -> tuple[str, Any] | None:
    """Return the next line of ``send`` as its kind and value; None if the connection is closed.

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
    try:
        kind, value = json.loads(line[len(PROGRAM) :])
    except (TypeError, RecursionError) as error:
        raise ValueError("another program") from error
    return str(kind), value


def send(connection: socket.socket, kind: str, value: Any = None) -> None:
    """Send a line, unless the connection is broken; ``hear`` finds that out."""
    with contextlib.suppress(OSError):
        connection.sendall(PROGRAM + json.dumps([kind, value]).encode() + b"\n")


def tell(kind: str, value: Any = None) -> None:
    """Send a line to all connected processes."""
    for connection in connections.values():
        send(connection, kind, value)


def dial(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection to another process.

    Raises:
        OSError: there is none within the time.
    """
    connection = socket.create_connection((host, port), timeout_s)
    if connection.getsockname() == connection.getpeername():
        # Nobody listens at a port that the system gave to the caller. Closed in order, it would be taken for a minute.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return connection


def note(text: str) -> None:
    """Print to standard error, if that can be written to."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
