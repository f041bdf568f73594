"""Ctrl-C and SIGTERM of a run: noted during the steps of training, raised where nothing would be lost."""

import contextlib
import signal
from collections.abc import Iterator

import jax

from dcrl_jax.errors import Preempted
from dcrl_jax.signals import handle_signals, raise_on_sigterm

_ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


class Signals:
    """The signals that came so far."""

    def __init__(self):
        self.numbers: list[int] = []
        self._at_once = False

    def error(self) -> BaseException:
        """What the first signal means; a process that got none stops because another one of its run did."""
        return _ERRORS[self.numbers[0]]() if self.numbers else Preempted()

    def note(self, number, frame):
        """Handler of ``signal.signal``: raises a second one, and one that comes within ``raised``."""
        if self.numbers or self._at_once:
            raise _ERRORS[number]()
        self.numbers.append(number)
        print("\nstopping after the steps under way, with a checkpoint; a second signal stops at once", flush=True)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Within it nothing would be lost: a signal ends the run at once.

        Of several processes none may leave alone, for the others wait for it: they go on to the end.
        """
        if jax.process_count() > 1:
            yield
            return
        if self.numbers:
            raise self.error()
        self._at_once = True
        yield
        self._at_once = False


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note the first Ctrl-C or SIGTERM instead of raising it: torn between two lines, state and data would not fit."""
    signals = Signals()
    with raise_on_sigterm(), handle_signals(signals.note):
        yield signals
