"""Files that appear completely or not at all, and files of lines that grow."""

import errno
import fcntl
import os

import pytest

from dcrl_jax import files


def test_file_appears_with_its_folder_once_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "picture.png"
    with files.atomic_path(path) as partial:
        assert partial.suffix == ".png"
        partial.write_bytes(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    # A stale file of a killed program is overwritten.
    partial.write_bytes(b"of a killed program, and longer")
    files.write_atomically(path, "newer")
    assert path.read_text() == "newer"
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    files.write_atomically(path, "as it was\n")

    def write_half():
        with files.atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    with pytest.raises(UnicodeEncodeError):
        files.write_atomically(path, "\N{DEGREE SIGN}")
    assert path.read_bytes() == b"as it was\n"
    assert list(tmp_path.iterdir()) == [path]


def test_torn_lines_are_skipped_and_the_next_line_is_separate(tmp_path):
    path = tmp_path / "records.jsonl"
    assert list(files.read_json_lines(path)) == []
    files.append_json_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('[2]\n{"step": 3, "of a killed pro')
    files.append_json_line(path, {"step": 4})
    files.append_json_line(path, {"step": 5})
    assert list(files.read_json_lines(path)) == [{"step": 1}, {"step": 4}, {"step": 5}]
    assert path.read_text().endswith('of a killed pro\n{"step": 4}\n{"step": 5}\n')


def test_folder_or_the_nearest_one_above_is_tried_without_a_trace(tmp_path, no_room):
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        files.check_writable(folder)
        with no_room(0), pytest.raises(OSError, match="File too large"):
            files.check_writable(folder)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.check_writable(tmp_path / "file" / "below")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_only_a_file_system_without_locks_does_without(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"), files.folder_lock(tmp_path, "busy"):
            pass
        return
    with files.folder_lock(tmp_path, "busy"):
        printed = capsys.readouterr().out
    reason = os.strerror(number)
    assert printed == f"warning: {tmp_path} cannot be locked ({reason}); let no second process work in it\n"


def test_error_of_the_write_is_not_replaced_by_that_of_its_cleaning(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    def write():
        with files.atomic_path(tmp_path / "scores.json"):
            raise ValueError("of the program")

    monkeypatch.setattr(files.Path, "unlink", refuse)
    with pytest.raises(ValueError, match="of the program"):
        write()
