"""Progress in a terminal and outside of one."""

import io

import pytest

from dcrl_jax import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch):
    """Returns what the progress of three items prints on a stream."""

    def run(stream, seconds=progress.SECONDS_BETWEEN_LINES):
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
        monkeypatch.setattr(progress.sys, "stderr", stream)
        assert list(progress.progress_bar("abc", "reading", 3, "images")) == ["a", "b", "c"]
        return stream.getvalue()

    return run


def test_terminal_has_one_bar(printed):
    text = printed(Terminal())
    assert "reading: 100%|" in text
    assert "3/3" in text
    assert text.count("\n") == 1


def test_short_work_prints_no_line_into_a_file(printed):
    assert printed(io.StringIO()) == ""


def test_long_work_prints_lines_into_a_file(printed):
    text = printed(io.StringIO(), seconds=0.0)
    assert "\r" not in text
    assert text.startswith("reading: 0 of 3 images, 00:00 so far, ? left\n")
    assert text.splitlines()[-1].startswith("reading: 3 of 3 images, 00:00 so far, 00:00 left")
