"""Preparation of the data sets that a config names."""

import pathlib
import re

import pytest

from configs import teacher
from datasets import synthetic_rgbt
from dcrl_jax.data import pipeline
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
    line = describe(builder)
    assert line.startswith("data: synthetic_rgbt/")
    assert line.endswith(f"3 train, 1 validation, 2 test; in {builder.data_dir}")
    assert str(builder.data_dir).startswith(data.data_dir)
    assert warnings_of(builder) == ()
    files = {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()}
    assert describe(prepare(data)) == line
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in pathlib.Path(builder.data_dir).iterdir()} == files


KAIST = "(?s)(?=.*datasets.kaist.prepare --manual_dir=FOLDER)(?=.*huggingface.co)(?=.*CC BY-NC-SA)(?=.*:synthetic)"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moon", {}, r"config.data.name is 'moon'; .*synthetic_rgbt, msrs"),
        ("synthetic_rgbt", {"scenes": 3}, r"config.data.options.*scenes"),
        ("msrs", {"labels": "sonar"}, r"msrs: labels is 'sonar'; it must be one of: fusion, visible, infrared\."),
        ("msrs", {"missing_labels": "skip"}, r"msrs: missing_labels is 'skip'; it must be one of: background, error\."),
        ("msrs", {"lables": "visible"}, r"config.data.options: .*lables"),
        ("kaist", {"anotations": "improved"}, r"config.data.options: .*anotations"),
        pytest.param("kaist", {}, KAIST, id="no copy of kaist"),
    ],
)
def test_data_that_cannot_be_prepared_are_refused(data, name, options, message):
    data.name, data.options = name, options
    with pytest.raises(InputError, match=message):
        prepare(data)


def test_prepared_data_feed_the_pipeline(data):
    builder = synthetic_rgbt.open_builder(data.data_dir, **data.options)
    with pytest.raises(InputError, match="not prepared"):
        pipeline.open_split(builder, "train")
    source = pipeline.open_split(prepare(data), "train")
    assert isinstance(source[0]["visible"], bytes)
    shapes = {"height": 32, "width": 40, "max_boxes": 9, "box_filter": None}
    (batch,) = pipeline.evaluation_batches(source, batch_size=3, **shapes)
    assert batch.index.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"'test2'.*test, train, validation"):
        pipeline.open_split(prepare(data), "test2")


def test_data_dir_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    data.data_dir = str(tmp_path / "file" / "below")
    with pytest.raises(InputError, match=r"file/below.*cannot be written to.*config.data.data_dir"):
        prepare(data)


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            OSError(28, FULL, "FOLDER/incomplete.X_1.0.0/a.json"),
            InputError,
            f"FOLDER/1.0.0 cannot be written to: {FULL}. M",
        ),
        (
            RuntimeError(f"open() failed: {FULL}; opening FOLDER/incomplete.X_1.0.0/a"),
            InputError,
            "FOLDER/1.0.0 cannot be w",
        ),
        (PermissionError(13, "Permission denied", "/raw/1.png"), PermissionError, "/raw/1.png"),
        (RuntimeError("of the program"), RuntimeError, "of the program"),
    ],
)
def test_disk_of_the_prepared_data_is_told_from_others(data, monkeypatch, error, kind, message):
    builder = synthetic_rgbt.open_builder(data.data_dir, **data.options.to_dict())
    folder = str(pathlib.Path(builder.data_dir).parent)
    values = [value.replace("FOLDER", folder) if isinstance(value, str) else value for value in error.args]
    if isinstance(error, OSError):
        values.append(str(error.filename).replace("FOLDER", folder))

    def fail(*_, **__):
        raise type(error)(*values)

    monkeypatch.setattr(type(builder), "download_and_prepare", fail)
    with pytest.raises(kind, match=re.escape(message.replace("FOLDER", folder))):
        prepare(data)
