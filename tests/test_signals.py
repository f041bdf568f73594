"""Ctrl-C and SIGTERM: when they are raised, and where they are left alone."""

import signal
import threading

import pytest

from dcrl_jax.errors import Preempted
from dcrl_jax.signals import defer_signals, latch_signals, raise_on_sigterm, recall_signals

ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


@pytest.mark.parametrize("number", ERRORS)
def test_signal_is_raised_at_the_end_of_what_holds_it(number):
    done = []

    def work():
        with raise_on_sigterm(), defer_signals():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("all")
        done.append("more")

    former = {number: signal.getsignal(number) for number in ERRORS}
    with pytest.raises(ERRORS[number]):
        work()
    assert done == ["all"]
    assert {number: signal.getsignal(number) for number in ERRORS} == former


@pytest.mark.parametrize("number", ERRORS)
def test_signal_that_was_lost_is_raised_again(number):
    former = {number: signal.getsignal(number) for number in ERRORS}
    with raise_on_sigterm(), recall_signals() as raise_lost_signal:
        raise_lost_signal()
        with pytest.raises(ERRORS[number]):
            signal.raise_signal(number)
        with pytest.raises(ERRORS[number]):
            raise_lost_signal()
    assert {number: signal.getsignal(number) for number in ERRORS} == former


def test_error_within_is_raised_as_it_is():
    def fail():
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
            raise OSError("full")

    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="full"):
        fail()
    assert signal.getsignal(signal.SIGINT) is former


def test_ignored_signal_stays_ignored():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with defer_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)


def test_run_that_a_script_started_in_the_background_goes_on_ignoring_ctrl_c():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with latch_signals() as noted:
            signal.raise_signal(signal.SIGINT)
            assert noted.numbers == []
            signal.raise_signal(signal.SIGTERM)
            assert noted.numbers == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, former)


def test_thread_that_gets_no_signals_goes_on_as_it_is():
    done = []

    def work():
        with raise_on_sigterm(), recall_signals(), defer_signals():
            done.append("all")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["all"]
