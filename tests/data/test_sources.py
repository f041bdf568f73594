import pathlib
import types

import pytest

from configs import teacher
from dcrl_jax.data.sources import describe, prepare, warnings_of
from dcrl_jax.errors import InputError


@pytest.fixture
def data(tmp_path):
    data = teacher.get_config("synthetic").data
    data.data_dir = str(tmp_path / "prepared")
    data.options = {"height_px": 32, "width_px": 40, "train": 3, "validation": 1, "test": 2}
    return data


def test_prepares_once_and_says_where(data, capsys):
    builder = prepare(data)
    assert capsys.readouterr().out == f"preparing {builder.info.full_name} in {builder.data_dir}\n"
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    line = describe(builder)
    assert line.startswith("data: synthetic_rgbt/")
    assert "3 train, 1 validation, 2 test" in line
    assert line.endswith(f"in {builder.data_dir}")
    assert str(builder.data_dir).startswith(data.data_dir)
    files = {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()}
    assert describe(prepare(data)) == line
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()} == files


def test_unknown_data_set_lists_the_known_ones(data):
    data.name = "moon"
    with pytest.raises(InputError, match=r"config.data.name is 'moon'; .*synthetic_rgbt, msrs"):
        prepare(data)


def test_unknown_option_is_named(data):
    data.options.scenes = 3
    with pytest.raises(InputError, match=r"config.data.options.*scenes"):
        prepare(data)


def test_unknown_kind_of_labels_is_named(data):
    data.name = "msrs"
    data.options = {"labels": "sonar"}
    with pytest.raises(InputError, match=r"msrs: labels is 'sonar'; it must be one of: fusion, visible, infrared\."):
        prepare(data)


def test_option_that_msrs_does_not_have_is_named(data):
    data.name, data.options = "msrs", {"lables": "visible"}
    with pytest.raises(InputError, match=r"config.data.options: .*lables"):
        prepare(data)


def test_kaist_without_a_copy_says_how_to_get_it(data):
    data.name, data.options = "kaist", {}
    with pytest.raises(InputError) as error:
        prepare(data)
    for words in (
        "python -m datasets.kaist.prepare --manual_dir=FOLDER",
        "huggingface.co",
        "CC BY-NC-SA",
        ":synthetic",
    ):
        assert words in str(error.value)


def test_option_that_kaist_does_not_have_is_named(data):
    data.name, data.options = "kaist", {"anotations": "improved"}
    with pytest.raises(InputError, match=r"config.data.options: .*anotations"):
        prepare(data)


def test_warnings_are_those_of_the_prepared_data(data):
    builder = prepare(data)
    assert warnings_of(builder) == ()
    info = types.SimpleNamespace(metadata={"warnings": ["one", "two"]})
    assert warnings_of(types.SimpleNamespace(info=info)) == ("one", "two")


def test_data_dir_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    data.data_dir = str(tmp_path / "file" / "below")
    with pytest.raises(InputError, match=r"file/below.*cannot be written.*config.data.data_dir"):
        prepare(data)
