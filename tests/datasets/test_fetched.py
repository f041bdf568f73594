"""The behaviour that all fetched data sets share: preparation, command, incomplete copies, interruption."""

import importlib
import os
import re
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import caltech_files
import kaist_copies
import nightowls_files
import pytest
import tensorflow_datasets as tfds
from prepared_data import files_below, findings_of, names, prepare, read

from configs import baseline
from datasets import records
from dcrl_jax import parallel, progress
from dcrl_jax.annotations.caltech import frames
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.files import folder_lock

# Files beside a data set that is not prepared; TFDS writes a list of configs into metadata.json.
LEFT = {".lock", "findings.txt", "metadata.json"}
LABELS = (".txt", ".vbb", ".json")
# By data set: a function that makes a small copy, its image ids, the files of its training images and of one scored
# image, and the finding if the latter is missing.
CASES = {
    "kaist": {
        **{"make": kaist_copies.make_copy, "missing": "KAIST cannot be downloaded"},
        **{"train": list(kaist_copies.TRAIN), "scored": list(kaist_copies.TEST), "scored_split": "test"},
        **{"train_files": "images/set0[0-5]", "scored_file": "images/set09/V000/visible/I00019.jpg"},
        "finding": ("image missing", "test: set09/V000/I00019 visible"),
    },
    "caltech_pedestrian": {
        **{"make": caltech_files.write_copy, "missing": "Caltech Pedestrians cannot be downloaded"},
        "train": [f"set00/V000/I{number:05d}" for number in range(2, 65, 3)],
        **{"scored": caltech_files.TEST, "scored_split": "test"},
        **{"train_files": "videos/set00", "scored_file": "videos/set07/V001.seq"},
        "finding": ("video missing", "test: set07/V001"),
    },
    "nightowls": {
        **{"make": nightowls_files.write_copy, "missing": "NightOwls cannot be downloaded"},
        **{"train": ["3", "1", "2"], "scored": ["11", "12"], "scored_split": "validation"},
        **{"train_files": "nightowls_training*", "scored_file": "nightowls_validation/58c11.png"},
        "finding": ("image missing", "validation: {raw}/nightowls_validation/58c11.png"),
    },
}


@pytest.fixture(params=CASES)
def case(request, tmp_path, monkeypatch):
    """A small copy of a data set in ``raw``, prepared to ``data``."""
    monkeypatch.setattr(frames, "TEST_IMAGES", caltech_files.TEST_IMAGES)
    monkeypatch.setattr(frames, "VIDEOS", caltech_files.VIDEOS)
    raw, data = tmp_path / "raw", tmp_path / "data"
    case = SimpleNamespace(name=request.param, raw=raw, data=data, **CASES[request.param])
    case.make(raw)
    package = importlib.import_module(f"datasets.{case.name}")
    case.options = kaist_copies.list_options(tmp_path) if case.name == "kaist" else {}
    case.open = lambda: package.open_builder(str(data), **case.options)
    case.main = importlib.import_module(f"datasets.{case.name}.prepare").main
    case.flags = [f"--manual_dir={raw}", f"--data_dir={data}", *(f"--{k}={v}" for k, v in case.options.items())]
    return case


def config_of(case, **options):
    data = baseline.get_config("synthetic").data
    data.name, data.data_dir, data.manual_dir = case.name, str(case.data), str(case.raw)
    data.options = case.options | options
    return data


def without_doubt(warnings):
    """Return the warnings but KAIST's one about a set that may be the improved one."""
    return [text for text in warnings if "cannot be told" not in text]


def test_run_prepares_a_data_set_once_by_its_name(case, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    before, folder = case.open(), case.data / case.name
    folder.mkdir(parents=True)
    message = f"another process is preparing {case.name} in {folder}; wait for it"
    with folder_lock(folder, "busy"), pytest.raises(InputError, match=message):
        prepare(before, case.raw)
    builder = sources.prepare(config_of(case))
    assert f"{len(case.train)} train, {len(case.scored)} {case.scored_split}" in sources.describe(builder)
    assert names(read(builder, "train")) == case.train
    shown = capsys.readouterr().err
    for what in ("checking train", f"checking {case.scored_split}", "writing train", f"writing {case.scored_split}"):
        assert re.search(rf"^{what}: (\d+) of \1 ", shown, re.MULTILINE)
    with pytest.raises(InputError, match=r"config\.data\.options: .*moon"):
        sources.prepare(config_of(case, moon=1))
    # Prepared data are read without the copy, and left unchanged.
    folder = Path(builder.data_dir)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    moved = case.raw.rename(case.raw.with_name("moved"))
    before.download_and_prepare()
    case.open().download_and_prepare()
    for again in (before, case.open(), tfds.builder_from_directory(folder)):
        assert names(read(again, case.scored_split)) == case.scored
    # A copy at another place is the same source, also through a link.
    case.raw.symlink_to(moved)
    for same in (moved, case.raw):
        prepare(case.open(), same)
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_prepared_data_are_not_used_for_another_folder(case, tmp_path, capsys, monkeypatch):
    builder = prepare(case.open(), case.raw)
    assert sources.describe(builder).endswith(f"; in {builder.data_dir}, made from {case.raw}")
    other = tmp_path / "other"
    shutil.copytree(case.raw, other)
    for name in ("README.md", ".hidden", "Thumbs.db", "notes.txt", "package.json"):
        (other / name).write_text("not read")
    prepare(case.open(), other)
    # Labels of the same size, a new and a missing file.
    changed, scored = next(path for path in sorted(other.rglob("*")) if path.suffix in LABELS), other / case.scored_file
    changed.write_bytes(changed.read_bytes()[:-1] + b"#")
    new = scored.rename(scored.with_suffix(scored.suffix.upper()))
    names = [path.relative_to(other).as_posix() for path in (changed, new, scored)]
    differences = "".join(
        f"\n  1 file {kind}: {name}" for kind, name in zip(("changed", "new", "missing"), names, strict=True)
    )
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        case.main([f"--manual_dir={other}", *case.flags[1:]])
    printed = capsys.readouterr()
    message = f"is prepared already, in {builder.data_dir}, but not from what {other} holds. Compared with what it was "
    assert message + f"made from, {case.raw}, there are{differences}\nTo use {other}, give another" in printed.err
    assert printed.out == ""
    absent = config_of(case)
    absent.manual_dir = str(tmp_path / "absent")
    with pytest.raises(InputError, match=rf"absent: no such folder\.\n{case.missing}"):
        sources.prepare(absent)
    # Other hosts may lack the folder; the first process has compared it.
    monkeypatch.setattr(parallel, "is_first_process", lambda: False)
    sources.prepare(absent)


def test_missing_copy_says_how_to_get_one(case, tmp_path):
    for config in (None, tfds.download.DownloadConfig()):
        with pytest.raises(InputError, match=rf"is not prepared in .*\n{case.missing}") as caught:
            case.open().download_and_prepare(download_config=config)
        assert f"python -m datasets.{case.name}.prepare --manual_dir=FOLDER" in str(caught.value)
    with pytest.raises(InputError, match=rf"absent: no such folder\.\n{case.missing}"):
        prepare(case.open(), tmp_path / "absent")
    assert not case.data.exists()


def test_incomplete_scored_split_is_an_error_unless_allowed(case, capsys):
    (case.raw / case.scored_file).unlink()
    with pytest.raises(SystemExit):
        case.main(case.flags)
    kind, text = case.finding
    message = f"error: the {case.scored_split} split is incomplete: 1 {kind}; "
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)
    assert [one for one in findings_of(case.data) if one[0] == kind] == [(kind, text.format(raw=case.raw))]
    assert {Path(name).name for name in files_below(case.data)} <= LEFT
    case.main([*case.flags, "--allow_incomplete"])
    builder = sources.prepare(config_of(case, allow_incomplete=True))
    scored = names(read(builder, case.scored_split))
    assert set(scored) < set(case.scored)
    (warning,) = without_doubt(sources.warnings_of(builder))
    assert warning.startswith(
        f"incomplete {case.scored_split} split: {len(case.scored) - len(scored)} of {len(case.scored)} images are left "
        "out; scores on it are not comparable with others"
    )
    printed = capsys.readouterr().out
    case.main(case.flags)
    again = capsys.readouterr().out
    for text in (printed, again):
        assert f"\n{builder.info.metadata['table']}\n" in text
        assert f"\nwarning: {warning}\n" in text
    assert f"prepared: {builder.info.full_name}, in {builder.data_dir}\n" in printed
    assert again.startswith(f"prepared already from {case.raw}, in {builder.data_dir}; ")


def test_copy_without_training_images_can_be_scored(case, capsys):
    complete = str(read(prepare(case.open(), case.raw), case.scored_split))
    shutil.rmtree(case.data)
    for path in list(case.raw.glob(case.train_files)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    builder = prepare(case.open(), case.raw)
    assert "no training image found: this data set can be scored but not trained on" in capsys.readouterr().out
    assert without_doubt(sources.warnings_of(builder)) == []
    assert "train" not in builder.info.metadata["table"]
    assert str(read(builder, case.scored_split)) == complete
    with pytest.raises(InputError, match=rf"it has {case.scored_split}\. If the copy that it was prepared from lacked"):
        read(builder, "train")


def test_command_that_receives_sigterm_leaves_nothing_and_can_be_repeated(case, monkeypatch, capsys):
    objects, calls = records.objects, []

    def receive_sigterm(annotations):
        calls.append(annotations)
        if len(calls) == len(case.train) + 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return objects(annotations)

    monkeypatch.setattr(records, "objects", receive_sigterm)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="75"):
        case.main(case.flags)
    assert signal.getsignal(signal.SIGTERM) is former
    assert len(calls) == len(case.train) + 2
    assert "interrupted; nothing incomplete is left. Give the same command to start again\n" in capsys.readouterr().err
    assert {Path(name).name for name in files_below(case.data)} <= LEFT
    case.main(case.flags)
    assert names(read(case.open(), "train")) == case.train
    assert names(read(case.open(), case.scored_split)) == case.scored


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_command_line_ends_with_one_message_and_status_1(case, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare", "--manual_dir=absent", f"--data_dir={case.data}"])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module(f"datasets.{case.name}.prepare", run_name="__main__")
    message = capsys.readouterr().err
    assert message.startswith(f"error: absent: no such folder.\n{case.missing}")
    assert "Traceback" not in message
    case.data.write_text("a file")
    with pytest.raises(SystemExit):
        case.main(case.flags)
    assert re.match(f"error: .*{case.data}", capsys.readouterr().err)
