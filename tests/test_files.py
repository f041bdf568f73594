"""Files that appear whole or not at all."""

import pytest

from dcrl_jax import files


def test_file_appears_with_its_folder_when_all_is_written(tmp_path):
    path = tmp_path / "deep" / "picture.png"
    with files.whole(path) as partial:
        assert partial.suffix == ".png"
        partial.write_bytes(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_writing_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "scores.json"
    files.write_atomically(path, "as it was\n")

    def write_half():
        with files.whole(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    with pytest.raises(UnicodeEncodeError):
        files.write_atomically(path, "\N{DEGREE SIGN}")
    assert path.read_bytes() == b"as it was\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_program_left_is_written_over(tmp_path):
    path = tmp_path / "results.txt"
    with files.whole(path) as partial:
        partial.write_text("new")
        name = partial.name
    (tmp_path / name).write_text("of a killed program, and longer")
    files.write_atomically(path, "newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]
