"""Files are opened; pipes, devices and folders are refused at once."""

import os

import pytest

from dcrl_jax.opening import open_regular


def test_only_files_are_opened_at_once(tmp_path):
    (tmp_path / "a").write_bytes(b"ab")
    os.mkfifo(tmp_path / "pipe")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"ab"
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "neither a file nor a folder"),
        ("/dev/zero", "neither a file nor a folder"),
        ("a\0b", "embedded null"),
        ("a" * 999, "File name too long"),
    ):
        with pytest.raises(OSError, match=reason) as refusal:
            open_regular(path)
        assert refusal.value.filename == str(path)
