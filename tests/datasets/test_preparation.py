"""The lock under which a data set is prepared once, and the record of what it was made from."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorflow_datasets.core.constants import INCOMPLETE_PREFIX

from datasets import msrs, synthetic_rgbt, synthetic_visible
from datasets.preparation import SOURCE_FILE, check_source, preparation_lock, read_contents
from dcrl_jax.errors import InputError
from dcrl_jax.files import folder_lock

ROOT = Path(__file__).resolve().parents[2]
SCENES = {"height_px": 32, "width_px": 48, "train": 2, "validation": 1, "test": 1}


def test_second_process_is_refused_and_leftovers_are_deleted(tmp_path):
    builder = synthetic_rgbt.open_builder(str(tmp_path), **SCENES)
    folder = Path(builder.data_path).parent
    leftover = folder / f"{INCOMPLETE_PREFIX}A1B2C3_1.0.0"  # of a killed process
    leftover.mkdir(parents=True)
    (leftover / "train.array_record-00000-of-00001").write_text("half")
    # Two file descriptors of one process exclude each other as those of two processes do.
    with folder_lock(folder, "busy"):
        with pytest.raises(InputError, match=f"another process is preparing {builder.name} in {folder}; wait for it"):
            builder.download_and_prepare()
        assert list(leftover.iterdir())
        # Scenes of other options have their own lock.
        synthetic_rgbt.open_builder(str(tmp_path), **SCENES, seed=1).download_and_prepare()
    other = synthetic_rgbt.open_builder(str(tmp_path), **SCENES)
    builder.download_and_prepare()
    assert not leftover.exists()
    # A prepared data set needs no lock, even if the builder was created before there was anything to read.
    with folder_lock(folder, "busy"):
        other.download_and_prepare()
    assert len(other.as_data_source("train")) == 2


@pytest.mark.parametrize("data_set", [synthetic_visible, msrs], ids=["synthetic_visible", "msrs"])
def test_other_builders_have_a_lock_too(tmp_path, data_set):
    builder = data_set.open_builder(str(tmp_path))
    # All label sets of MSRS share one lock.
    folder = tmp_path / "msrs" if data_set is msrs else Path(builder.data_path).parent
    folder.mkdir(parents=True)
    message = f"another process is preparing {builder.name} in {folder}; wait for it"
    with folder_lock(folder, "busy"), pytest.raises(InputError, match=message):
        builder.download_and_prepare()


def test_data_prepared_while_waiting_for_the_lock_are_not_prepared_again(tmp_path, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr("datasets.preparation.is_prepared", lambda builder: next(answers))
    with preparation_lock(synthetic_rgbt.open_builder(str(tmp_path), **SCENES), tmp_path / "lock") as needs_preparing:
        assert not needs_preparing


def test_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with preparation_lock(synthetic_rgbt.open_builder(str(tmp_path), **SCENES), tmp_path) as needs_preparing:
        assert needs_preparing
    assert "cannot be locked (No locks available)" in capsys.readouterr().out


def test_files_are_compared_by_size_and_content(tmp_path, capsys):
    builder, root = msrs.open_builder(str(tmp_path / "data")), tmp_path / "raw"
    record = Path(builder.data_path) / SOURCE_FILE
    root.mkdir()
    paths = {name: root / name for name in ("a.txt", "b.png", "c.png", "d.png", "gone.txt")}

    def check():
        check_source(builder, root, paths)

    for name in ("a.txt", "b.png", "c.png", "d.png"):
        paths[name].write_bytes(bytes(100000))
    record.parent.mkdir(parents=True)
    check()
    assert f"has no record of the files that it was made from, so it is used without comparing it with {root}" in (
        capsys.readouterr().out
    )
    record.write_text("{")
    with pytest.raises(InputError, match=rf"{SOURCE_FILE}: cannot be read .* delete {builder.data_dir}"):
        check()
    record.write_text(json.dumps(read_contents(paths, root)))
    os.utime(paths["b.png"], (1, 1))
    check()
    middle = bytes(99999)
    for name, content in {"a.txt": b"1" + middle, "b.png": middle + b"1", "d.png": b"1" + middle}.items():
        paths[name].write_bytes(content)
    paths["c.png"].unlink()
    with pytest.raises(InputError, match=r"\n  4 files changed: a\.txt, b\.png, c\.png, d\.png\nTo use"):
        check()


def test_killed_process_leaves_a_folder_and_no_lock(tmp_path):
    options = SCENES | {"train": 1000}
    call = f"open_builder({str(tmp_path)!r}, **{options}).download_and_prepare()"
    code = f"from datasets.synthetic_rgbt import open_builder; {call}"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as killed:
        for _ in range(600):
            if left := list(tmp_path.glob("synthetic_rgbt/*/incomplete.*")):
                break
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
    assert left
    builder = synthetic_rgbt.open_builder(str(tmp_path), **options)
    with preparation_lock(builder, Path(builder.data_path).parent) as needs_preparing:
        assert needs_preparing
    assert not list(tmp_path.glob("synthetic_rgbt/*/incomplete.*"))
