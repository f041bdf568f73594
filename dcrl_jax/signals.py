"""Ctrl-C and SIGTERM: the second ends a run as the first does, and neither comes between what belongs together.

All of it does nothing in another thread than the main one: signals do not come to it, and it may not handle them.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from dcrl_jax.errors import Preempted


@contextlib.contextmanager
def preempted_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises Preempted at once, as Ctrl-C does KeyboardInterrupt."""

    def preempt(number, frame):
        raise Preempted

    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    former = signal.signal(signal.SIGTERM, preempt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait for its end; if it ends by an error, they are forgotten."""
    came = []
    with handled_signals(lambda *call: came.append(call)) as former:
        yield
    _raise_first(came, former)


@contextlib.contextmanager
def remembered_signals() -> Iterator[Callable[[], None]]:
    """Within it Ctrl-C and SIGTERM are raised as ever; gives a function that raises again what was lost.

    Python drops what is raised in a callback of its garbage collector, and JAX has one there.
    """
    came = []

    def remember(number, frame):
        came.append((number, frame))
        former[number](number, frame)

    with handled_signals(remember) as former:
        yield lambda: _raise_first(came, former)


@contextlib.contextmanager
def handled_signals(handler: Callable) -> Iterator[dict[int, Callable]]:
    """Handle Ctrl-C and SIGTERM, and yield the former handlers; a signal that is ignored stays ignored.

    A shell's script starts its background commands with Ctrl-C ignored, which is meant for the script alone.
    """
    former = {}
    if _in_main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM)
        former = {number: found for number in numbers if callable(found := signal.getsignal(number))}
    try:
        for number in former:
            signal.signal(number, handler)
        yield former
    finally:
        for number, found in former.items():
            signal.signal(number, found)


def _raise_first(came, handlers):
    if came:
        number, frame = came[0]
        handlers[number](number, frame)


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
