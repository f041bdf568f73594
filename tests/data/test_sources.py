"""Data sets by the name and options of a config."""

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
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert sizes == {"train": 3, "validation": 1, "test": 2}
    line = describe(builder)
    assert line.startswith("data: synthetic_rgbt/")
    assert "3 train, 1 validation, 2 test" in line
    assert line.endswith(f"in {builder.data_dir}")
    assert str(builder.data_dir).startswith(data.data_dir)
    files = {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()}
    assert describe(prepare(data)) == line
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()} == files
    assert warnings_of(builder) == ()
    info = types.SimpleNamespace(metadata={"warnings": ["one", "two"]})
    assert warnings_of(types.SimpleNamespace(info=info)) == ("one", "two")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moon", {}, r"config.data.name is 'moon'; .*synthetic_rgbt, msrs"),
        ("synthetic_rgbt", {"scenes": 3}, r"config.data.options.*scenes"),
        ("msrs", {"labels": "sonar"}, r"msrs: labels is 'sonar'; it must be one of: fusion, visible, infrared\."),
        ("msrs", {"lables": "visible"}, r"config.data.options: .*lables"),
        ("kaist", {"anotations": "improved"}, r"config.data.options: .*anotations"),
        (
            "kaist",
            {},
            "(?s)(?=.*huggingface.co)(?=.*CC BY-NC-SA)(?=.*:synthetic).*datasets.kaist.prepare --manual_dir=",
        ),
    ],
)
def test_other_name_option_or_missing_copy_is_named(data, name, options, message):
    data.name, data.options = name, options
    with pytest.raises(InputError, match=message):
        prepare(data)


def test_data_dir_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    data.data_dir = str(tmp_path / "file" / "below")
    with pytest.raises(InputError, match=r"file/below.*cannot be written.*config.data.data_dir"):
        prepare(data)
