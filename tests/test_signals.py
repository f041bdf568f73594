"""Ctrl-C and SIGTERM: when they are raised, and where they are ignored."""

import signal
import threading

import pytest

from dcrl_jax.errors import Preempted
from dcrl_jax.signals import defer_signals, latch_signals, raise_on_sigterm, recall_signals

ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}
every_signal = pytest.mark.parametrize("number", ERRORS)


@pytest.fixture(autouse=True)
def handlers_come_back():
    former = {number: signal.getsignal(number) for number in ERRORS}
    yield
    assert {number: signal.getsignal(number) for number in ERRORS} == former


@pytest.fixture
def ignored_ctrl_c():
    """As a shell script starts a command in the background."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, former)


@every_signal
def test_deferred_signal_is_raised_at_the_end_of_the_block(number):
    done = []

    def work():
        with raise_on_sigterm(), defer_signals():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("all")
        done.append("more")

    with pytest.raises(ERRORS[number]):
        work()
    assert done == ["all"]


def test_deferred_signal_does_not_replace_an_error():
    def fail():
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()


@every_signal
def test_lost_signal_is_raised_again(number):
    with raise_on_sigterm(), recall_signals() as raise_lost_signal:
        raise_lost_signal()
        with pytest.raises(ERRORS[number]):
            signal.raise_signal(number)
        with pytest.raises(ERRORS[number]):
            raise_lost_signal()


@every_signal
def test_latch_holds_the_first_signal_and_raises_the_second(number, capsys):
    with latch_signals() as latch:
        assert isinstance(latch.error(), Preempted)  # another process got a signal
        signal.raise_signal(number)
        assert latch.numbers == [number]
        assert isinstance(latch.error(), ERRORS[number])
        assert "stopping after the steps under way" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_latch_raises_at_once_within_an_immediate_block():
    with latch_signals() as latch:
        with latch.immediate(), pytest.raises(Preempted):
            signal.raise_signal(signal.SIGTERM)
        # Python may have discarded the exception; the run stops at the next look.
        assert latch.numbers == [signal.SIGTERM]
    with latch_signals() as latch:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), latch.immediate():
            pytest.fail("a signal from before is raised at the beginning")


@pytest.mark.usefixtures("ignored_ctrl_c")
def test_ignored_ctrl_c_stays_ignored():
    with defer_signals():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    with latch_signals() as latch:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert latch.numbers == [signal.SIGTERM]


def test_other_threads_get_no_signals():
    done = []

    def work():
        with raise_on_sigterm(), recall_signals(), defer_signals():
            done.append("all")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["all"]
