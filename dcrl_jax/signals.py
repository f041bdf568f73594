"""Handling of Ctrl-C (SIGINT) and SIGTERM.

Python delivers signals to the main thread only. In any other thread these context managers do nothing.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from dcrl_jax.errors import Preempted

_ERRORS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise Preempted when SIGTERM arrives, as Python raises KeyboardInterrupt on Ctrl-C."""

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
def defer_signals() -> Iterator[None]:
    """Hold signals back during the block and deliver the first one at its end; discard them if the block raises."""
    received = []
    with handle_signals(lambda *call: received.append(call)) as former:
        yield
    _raise_first(received, former)


@contextlib.contextmanager
def recall_signals() -> Iterator[Callable[[], None]]:
    """Deliver signals as usual, and yield a function that raises the first one again.

    Python discards an exception raised inside a garbage-collector callback, and JAX installs such a callback. Call
    the function where a discarded signal would otherwise go unnoticed.
    """
    received = []

    def remember(number, frame):
        received.append((number, frame))
        former[number](number, frame)

    with handle_signals(remember) as former:
        yield lambda: _raise_first(received, former)


@contextlib.contextmanager
def handle_signals(handler: Callable) -> Iterator[dict[int, Callable]]:
    """Install ``handler`` for SIGINT and SIGTERM and yield the former handlers by signal number.

    An ignored signal stays ignored: a shell script starts background commands with SIGINT ignored, so that Ctrl-C
    reaches the script only.
    """
    former = {}
    if _in_main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            current = signal.getsignal(number)
            if callable(current):
                former[number] = current
    try:
        for number in former:
            signal.signal(number, handler)
        yield former
    finally:
        for number, current in former.items():
            signal.signal(number, current)


class SignalLatch:
    """The signals that arrived within ``latch_signals``.

    Attributes:
        numbers: the signals' numbers, in the order of their arrival.
    """

    def __init__(self):
        self.numbers: list[int] = []
        self._is_immediate = False

    def error(self) -> BaseException:
        """Return the exception of the first signal; Preempted if only another process of the run got a signal."""
        return _ERRORS[self.numbers[0]]() if self.numbers else Preempted()

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise signals at once within the block, and at its start a signal that has arrived before."""
        if self.numbers:
            raise self.error()
        self._is_immediate = True
        yield
        self._is_immediate = False

    def _handle(self, number: int, frame: object) -> None:
        self.numbers.append(number)  # Python discards an exception in a callback of the garbage collector
        if len(self.numbers) > 1 or self._is_immediate:
            raise _ERRORS[number]()
        print("\nstopping after the steps under way, with a checkpoint; a second signal stops at once", flush=True)


@contextlib.contextmanager
def latch_signals() -> Iterator[SignalLatch]:
    """Yield a latch that holds the first signal instead of raising it; raise a second signal at once.

    An exception between two lines of a training loop could leave state and data at different steps.
    """
    latch = SignalLatch()
    with raise_on_sigterm(), handle_signals(latch._handle):
        yield latch


def _raise_first(received, handlers):
    if received:
        number, frame = received[0]
        handlers[number](number, frame)


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
