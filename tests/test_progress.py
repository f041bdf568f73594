"""Progress in a terminal and outside of one."""

import io

import pytest

from dcrl_jax import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Shows three items' progress on a stream; returns what stands on it."""

    def run(stream, **changes):
        for name, value in changes.items():
            monkeypatch.setattr(progress, name, value)
        monkeypatch.setattr(progress.sys, "stderr", stream)
        assert list(progress.progress_bar("abc", "reading", 3, "images")) == ["a", "b", "c"]
        return stream.getvalue()

    return run


def test_terminal_has_one_bar_that_is_drawn_over(shown):
    text = shown(Terminal())
    assert "reading: 100%|" in text
    assert "3/3" in text
    assert text.count("\n") == 1


def test_short_work_leaves_no_line_in_a_file(shown):
    assert shown(io.StringIO()) == ""


def test_long_work_leaves_a_line_now_and_then_in_a_file(shown):
    text = shown(io.StringIO(), SECONDS_BETWEEN_LINES=0.0)
    assert "\r" not in text
    assert text.startswith("reading: 0 of 3 images, 00:00 so far, ? left\n")
    assert text.splitlines()[-1].startswith("reading: 3 of 3 images, 00:00 so far, 00:00 left")
