"""The log of a run: its files, what a person sees, and a full disk."""

import contextlib
import io
import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcrl_jax.training import logs
from dcrl_jax.training.logs import RunLog


def metrics_in(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_written_values_are_in_both_files(tmp_path):
    with RunLog(tmp_path, 0, 60) as log:
        log.write(20, {"train/loss": 0.5, "train/fea": 0.125})
        log.write(40, {"validation/reasonable-all": math.nan})
        events = EventAccumulator(str(tmp_path / "logs")).Reload()
        for name, value in (("train/loss", 0.5), ("train/fea", 0.125)):
            assert [(event.step, event.value) for event in events.Scalars(name)] == [(20, value)]
        assert [event.step for event in events.Scalars("validation/reasonable-all")] == [40]
    with RunLog(tmp_path, 40, 60) as log:
        log.write(60, {"train/loss": 1.0})
    assert metrics_in(tmp_path) == [
        {"step": 20, "train/loss": 0.5, "train/fea": 0.125},
        {"step": 40, "validation/reasonable-all": None},
        {"step": 60, "train/loss": 1.0},
    ]


def test_later_start_has_a_later_name_though_the_clock_jumped_back(tmp_path, monkeypatch):
    for step, now in ((0, 2_000), (20, 1_000), (40, 1_000), (60, 3_000)):
        monkeypatch.setattr(logs.time, "time_ns", lambda now=now: now)
        with RunLog(tmp_path, step, 80) as log:
            log.write(step, {"train/loss": 0.5})
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == [f"events.out.tfevents.{number}" for number in (2_000, 2_001, 2_002, 3_000)]
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 20, 40, 60]


def test_without_a_workdir_nothing_is_written_or_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, 0, 40) as log:
        log.write(20, {"train/loss": 0.5})
        log.advance(20)
        log.show_training(20, 0.5, 10.0, 7.0)
        log.show_validation(20, "validation", {"all": 50.0})
        log.say("stopped")
    assert not any(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def test_outside_a_terminal_each_log_is_one_short_line(tmp_path, capsys):
    with RunLog(tmp_path, 0, 7500) as log:
        log.advance(20)
        log.show_training(20, 2.3456, 31.24, 3723)
        log.show_validation(375, "validation", {"all": 57.951, "night": math.nan})
        log.show_training(380, 1.5, 8.0, math.inf)
        log.say("stopped at step 380")
    assert capsys.readouterr() == (
        "step 20/7500: loss 2.346, 31.2 images/s, 1h02m left\n"
        "step 375: miss rate on validation all 57.95 %, night no people\n"
        "step 380/7500: loss 1.500, 8.0 images/s, ? left, validation 57.95 %\n"
        "stopped at step 380\n",
        "",
    )


def test_in_a_terminal_one_bar_is_redrawn_below_the_lines(tmp_path, monkeypatch):
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(logs.sys, "stdout", out)
    monkeypatch.setattr(logs.sys, "stderr", err)
    with RunLog(tmp_path, 100, 750) as log:
        log.advance(120)
        log.show_training(120, 2.0, 31.2, 62)
        log.show_validation(375, "validation", {"all": 57.951})
        log.advance(750)
        log.show_training(750, 1.5, 30.0, 0)
    assert out.getvalue() == "step 375: miss rate on validation all 57.95 %\n"
    drawn = err.getvalue().split("\r")
    assert drawn[1].startswith("step 100/750 |")
    assert any("loss 2.000, 31.2 images/s, 1m02s left" in state for state in drawn)
    assert drawn[-1].startswith("step 750/750 |")
    assert drawn[-1].endswith("loss 1.500, 30.0 images/s, 0m00s left, validation 57.95 %\n")
    assert err.getvalue().count("\n") == 1


@pytest.mark.parametrize("piped", ["stdout", "stderr"])
def test_bar_needs_both_streams_in_a_terminal(tmp_path, monkeypatch, piped):
    streams = {"stdout": Terminal(), "stderr": Terminal()} | {piped: io.StringIO()}
    for name, stream in streams.items():
        monkeypatch.setattr(logs.sys, name, stream)
    with RunLog(tmp_path, 0, 750) as log:
        log.show_training(20, 2.0, 31.2, 62)
    assert streams["stdout"].getvalue() == "step 20/750: loss 2.000, 31.2 images/s, 1m02s left\n"
    assert streams["stderr"].getvalue() == ""


def test_full_disk_is_an_error_of_write_and_hides_no_other(tmp_path, no_room):
    with RunLog(tmp_path, 0, 40) as log, no_room(0), pytest.raises(OSError, match="File too large"):
        log.write(20, {"train/loss": 0.5})

    def run():
        with contextlib.ExitStack() as full, RunLog(tmp_path, 0, 40):
            full.enter_context(no_room(0))
            raise ValueError("the run's own")

    with pytest.raises(ValueError, match="the run's own"):
        run()
