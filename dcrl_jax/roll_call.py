"""The roll call of a run's processes, before JAX connects them.

XLA answers a wrong start with a stack trace, a crash or a long wait. So the processes meet here first, at the port that
is XLA's afterwards. Each says who it is and what it was started with; the first answers when all are there. Their
connections stay, for ``peers``.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from dcrl_jax import peers
from dcrl_jax.errors import InputError, first_few

JOIN_S = 300  # from the start of a process until it has met all others
PATIENCE_S = 10  # until it says what it waits for
CARD_S = 5  # until a process that has connected has said who it is
LATE_S = 20  # for which a refused run tells so to those that come


class _Card(NamedTuple):
    """Who a process is, and what it was started with, by name."""

    index: int
    count: int
    command: Mapping[str, str]


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

    def waiting():
        missing = ", ".join(str(index) for index in range(1, count) if index not in addresses)
        return f"waiting at port {port} for the processes {missing} of {count}"

    with socket.create_server(("", port), family=family, backlog=count, dualstack_ipv6=both) as listener:
        arrivals = _arrivals(listener, JOIN_S, waiting)
        while len(addresses) < count - 1:
            arrival = next(arrivals, None)
            if arrival is None:
                raise _refusal(listener, count, f"the first process gave up {waiting()}, after {JOIN_S} s; start all")
            connection, address, card = arrival
            if reason := _objection(card, address, addresses, count, command):
                raise _refusal(listener, count, reason, connection)
            addresses[card.index] = address
            peers.watch(card.index, address, connection)
        for connection, _, _ in _arrivals(listener, 0.1):
            peers.send(connection, "refusal", f"all {count} processes have come already; is an index given twice?")
    peers.have_met.set()
    peers.tell("welcome")


def _arrivals(
    listener: socket.socket, seconds: float, waiting: Callable[[], str] | None = None
) -> Iterator[tuple[socket.socket, str, _Card]]:
    """Yield connection, address and card of each process that comes within some time.

    Args:
        listener: where they come.
        seconds: the time.
        waiting: returns what to print every PATIENCE_S.
    """
    deadline, patience = (time.monotonic() + each for each in (seconds, PATIENCE_S))
    while (now := time.monotonic()) < deadline:
        listener.settimeout(max(min(deadline, patience) - now, 0.01))
        try:
            connection, (address, *_) = listener.accept()
        except TimeoutError:
            if waiting and time.monotonic() >= patience:
                peers.note(waiting())
                patience += PATIENCE_S
            continue
        connection.settimeout(CARD_S)
        with contextlib.suppress(OSError, ValueError):  # strangers, such as scans of ports
            match peers.receive(connection):
                case ("card", {"index": int(index), "count": int(of), "command": dict(command)}) if 0 < index < of:
                    yield connection, address.removeprefix("::ffff:"), _Card(index, of, command)


def _objection(card: _Card, address: str, addresses: Mapping[int, str], count: int, command: Mapping[str, str]) -> str:
    """Return why a process cannot be one of this run; '' if it can."""
    name = f"process {card.index} at {address}"
    if card.count != count:
        return f"{name} was started as one of {card.count} processes, the first one as one of {count}"
    if card.index in addresses:
        return f"{name} has the index of the one at {addresses[card.index]}; give each process its own, from 0"
    differences = [
        f"{key}: {command.get(key, 'absent')} in the first process, {card.command.get(key, 'absent')} there"
        for key in sorted(command.keys() | card.command.keys())
        if command.get(key) != card.command.get(key)
    ]
    if not differences:
        return ""
    shown = "\n  ".join(first_few(differences, 10))
    return f"{name} was started with another command:\n  {shown}\nGive all processes the same"


def _refusal(listener: socket.socket, count: int, reason: str, newcomer: socket.socket | None = None) -> InputError:
    """Tell all why they do not start, also those that come a little later; return the error for this process."""
    told = [*peers.connections.values(), *([newcomer] if newcomer else [])]
    peers.forget()
    for connection in told:
        peers.send(connection, "refusal", reason)
    late = _arrivals(listener, LATE_S)
    while len(told) < count - 1 and (arrival := next(late, None)):
        peers.send(arrival[0], "refusal", reason)
        told.append(arrival[0])
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
    connection.settimeout(JOIN_S + peers.SILENCE_S)
    peers.probe(connection)
    peers.connections[0] = connection
    peers.send(connection, "card", {"index": index, "count": count, "command": dict(command)})
    if not select.select([connection], [], [], PATIENCE_S)[0]:
        peers.note("waiting until the first process has met all others")
    kind, value = peers.hear(connection, f"process 0 at {host}")
    if kind == "foreign":
        value = f"another program answers at {host}:{port}: a run that has not ended, or one that has all its processes"
    if kind in ("foreign", "refusal"):
        peers.forget()
        raise InputError(value)
    if kind != "welcome":
        peers.end(value)
    peers.have_met.set()
    peers.watch(0, host, connection)


def _reach(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + JOIN_S
    patience = time.monotonic() + PATIENCE_S
    while True:
        try:
            return peers.dial(host, port, PATIENCE_S)
        except OSError as error:
            reason = error.strerror or error
        if time.monotonic() > deadline:
            raise InputError(f"no first process at {host}:{port} within {JOIN_S} s ({reason}); start all processes")
        if time.monotonic() > patience:
            peers.note(f"waiting for the first process at {host}:{port} ({reason})")
            patience += PATIENCE_S
        time.sleep(0.2)
