"""Ctrl-C and SIGTERM: the second ends a run as the first does, and neither comes between what belongs together.

Both do nothing in another thread than the main one: signals do not come to it, and it may not handle them.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from dcrl_jax.errors import Preempted


@contextlib.contextmanager
def preempted_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises Preempted at once, as Ctrl-C does KeyboardInterrupt."""

    def preempt(number, frame):
        raise Preempted

    if not _in_main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, preempt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait for its end; if it ends by an error, they are forgotten.

    A signal that is ignored, or ends the process without Python's doing, is left as it is.
    """
    came, handlers = [], {}
    if _in_main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM)
        handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        for number in handlers:
            signal.signal(number, lambda *call: came.append(call))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        number, frame = came[0]
        handlers[number](number, frame)


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
