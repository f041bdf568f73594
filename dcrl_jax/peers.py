"""Watch the other processes of a run: if one is gone, say so and exit, since this one would wait for it for ever.

A process that dies closes its connections; a machine that is cut off does not, and a computation under way goes on
waiting for its share. So each process holds a TCP connection to the first one for this alone. The operating systems
send probes over it and answer them, however long the processes compile or compute, and report it as broken after
SILENCE_S without an answer. The first process tells the others whom it lost.
"""

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from dcrl_jax.errors import InputError

SILENCE_S = 30
JOIN_S = 300  # from the start of a process until it has met all others
# After a process has stopped in order, by an error or a signal: the others may still have to save their state.
LEFT_S = 60

_connections: dict[int, socket.socket] = {}  # by the index of the other process
_farewell = threading.Lock()  # taken once, by the first reason to end
_ending = threading.Lock()  # taken once, by the first loss
_left: list[str] = []  # what to say of the processes that have ended in order
_held: list[socket.socket] = []  # open connections of XLA, which no other reference may keep


def listen(count: int, publish: Callable[[str], None]) -> None:
    """Wait in the first process for all others, and watch them until this process ends.

    Args:
        count: the number of processes.
        publish: takes the port to which the others connect.

    Raises:
        OSError: one of them has not come.
    """
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, backlog=count, dualstack_ipv6=both) as listener:
        listener.settimeout(2 * SILENCE_S)
        publish(str(listener.getsockname()[1]))
        addresses = {}
        while len(_connections) < count - 1:
            connection, (address, *_) = listener.accept()
            connection.settimeout(SILENCE_S)
            index = _read_line(connection)
            if index.isdecimal():  # a scan of ports may come here, too
                _connections[int(index)], addresses[int(index)] = connection, address.removeprefix("::ffff:")
    _start_watch(addresses)


def connect(index: int, host: str, port: int) -> None:
    """Connect process ``index`` to the first one, and watch that until this process ends.

    Raises:
        OSError: it cannot be reached.
    """
    _connections[0] = socket.create_connection((host, port), SILENCE_S)
    _connections[0].sendall(f"{index}\n".encode())
    _start_watch({0: host})


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


@contextlib.contextmanager
def meet_in_time(late: str) -> Iterator[None]:
    """Exit with an error, ``late``, if the block takes longer than JOIN_S; XLA would do so with a stack trace."""

    def give_up():
        print(f"\nerror: {late}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(JOIN_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        with _end_on_signal():
            yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _end_on_signal() -> Iterator[None]:
    """Exit at once on a signal: Python's handlers run only after the call of XLA that waits."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def wait():
        status = {signal.SIGINT: 130, signal.SIGTERM: os.EX_TEMPFAIL}
        while number := reader.recv(1):
            if number[0] in status:
                os._exit(status[signal.Signals(number[0])])

    threading.Thread(target=wait, daemon=True).start()
    former = signal.set_wakeup_fd(writer.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        writer.close()


def relay(address: str) -> str:
    """Return the 'HOST:PORT' of a relay to another address, whose connections stay open when the other's close.

    XLA ends a process with a stack trace as soon as its connection to the first process closes, before this module can
    say why, and its callback for that cannot be called from Python (JAX 0.7.2 to 0.10.2). A close before ``connect``
    means that the first process is gone, which ends this one.
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
            threading.Thread(target=answer, args=(far, near), daemon=True).start()

    def answer(far, near):
        _copy(far, near)
        if not _connections:
            _end(_killed(0, host))

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def _start_watch(addresses: dict[int, str]) -> None:
    probes = {"TCP_KEEPIDLE": SILENCE_S // 3, "TCP_KEEPINTVL": SILENCE_S // 6, "TCP_KEEPCNT": 4}
    for other, connection in _connections.items():
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in probes.items():
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        threading.Thread(target=_watch, args=(other, addresses[other], connection), daemon=True).start()
    # Before JAX's own end, in which the processes wait for each other.
    atexit.register(leave)


def _watch(other: int, address: str, connection: socket.socket) -> None:
    loss = _killed(other, address)
    try:
        line = _read_line(connection)
        if line == "leaves":
            loss = f"process {other} at {address} has stopped; its message says why"
            _left.append(loss)
            while _read_line(connection):
                pass
            time.sleep(LEFT_S)
        elif line:
            loss = line
    except ConnectionResetError:
        pass
    except OSError:
        loss = f"process {other} at {address} is gone: it does not answer (is its machine or the network down?)"
    _end(loss)


def _killed(index: int, address: str) -> str:
    return f"process {index} at {address} is gone: it has ended without a message (was it killed, or out of memory?)"


def _end(loss: str) -> NoReturn:
    _ending.acquire()
    if _farewell.acquire(blocking=False):
        _tell(loss)
    print(
        f"\nerror: {loss}. This process cannot go on without it. The same command on all machines resumes from the "
        "newest checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(os.EX_TEMPFAIL)


def _read_line(connection: socket.socket) -> str:
    """Return the next line without its end, '' if the connection is closed."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


def _tell(line: str) -> None:
    for connection in _connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(f"{line}\n".encode())
