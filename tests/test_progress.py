"""Progress in a terminal and outside of one."""

import io
import re

import pytest

from dcrl_jax import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


BAR = r"\rreading: +0%\|.*\rreading: 100%\|.* 3/3 .*\n"
LINES = r"reading: 0 of 3 images, 00:00 so far, \? left\n[^\r]*\nreading: 3 of 3 images, 00:00 so far, 00:00 left\n"


@pytest.mark.parametrize(
    ("stream", "seconds", "pattern"),
    [(Terminal, 30.0, BAR), (io.StringIO, 30.0, ""), (io.StringIO, 0.0, LINES)],
    ids=["terminal", "short work in a file", "long work in a file"],
)
def test_progress_is_one_bar_in_a_terminal_and_lines_elsewhere(monkeypatch, stream, seconds, pattern):
    stream = stream()
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    monkeypatch.setattr(progress.sys, "stderr", stream)
    assert list(progress.progress_bar("abc", "reading", 3, "images")) == ["a", "b", "c"]
    assert re.fullmatch(pattern, stream.getvalue())
