"""Preparing once, by one process: what all builders share, shown by those that need no copy of anything."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets import preparation, synthetic_rgbt, synthetic_visible
from datasets.msrs import Msrs
from dcrl_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SCENES = {"height_px": 32, "width_px": 48, "train": 2, "validation": 1, "test": 1}
GENERATED = pytest.mark.parametrize("data_set", [synthetic_rgbt, synthetic_visible], ids=lambda one: one.__name__)


def hold(folder, held, release):
    with preparation.only_process(folder, "Caltech"):
        held.set()
        release.wait(300)


@pytest.fixture
def holds():
    """A function: another process holds the lock on a folder until the function that it returns is called."""
    context = multiprocessing.get_context("spawn")
    started = []

    def start(folder):
        held, release = context.Event(), context.Event()
        other = context.Process(target=hold, args=(folder, held, release))
        other.start()

        def end():
            release.set()
            other.join(300)

        started.append(end)
        assert held.wait(300)
        return end

    yield start
    for end in started:
        end()


def leave_behind(folder):
    """A folder as a killed preparation leaves it, or one as another process is writing."""
    leftover = folder / "incomplete.A1B2C3_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "train.array_record-00000-of-00001").write_text("half")
    return leftover


def test_second_process_is_refused_while_the_first_one_prepares(tmp_path, holds):
    end = holds(tmp_path / "data")
    with (
        pytest.raises(InputError, match=r"another process is preparing Caltech in .*data; wait for it"),
        preparation.only_process(tmp_path / "data", "Caltech"),
    ):
        pass
    end()
    with preparation.only_process(tmp_path / "data", "Caltech"):
        pass


@GENERATED
def test_what_a_killed_preparation_left_is_removed_and_what_another_process_writes_is_not(tmp_path, holds, data_set):
    builder = data_set.open_builder(str(tmp_path), **SCENES)
    folder = Path(builder.data_path).parent
    leftover = leave_behind(folder)
    end = holds(folder)
    with pytest.raises(InputError, match=f"another process is preparing {builder.name} in {folder}; wait for it"):
        builder.download_and_prepare()
    assert list(leftover.iterdir())
    # Scenes of other options are nobody else's.
    data_set.open_builder(str(tmp_path), **SCENES, seed=1).download_and_prepare()
    end()
    builder.download_and_prepare()
    assert not leftover.exists()
    assert len(builder.as_data_source("train")) == 2


def test_label_sets_of_msrs_take_turns_because_they_unpack_the_same_archives(tmp_path, holds):
    builder = Msrs(config="visible", data_dir=tmp_path, file_format="array_record")
    holds(tmp_path / "msrs")
    with pytest.raises(InputError, match=f"another process is preparing msrs in {tmp_path}/msrs; wait for it"):
        builder.download_and_prepare()


def test_data_that_lies_ready_needs_no_lock(tmp_path, holds):
    first, second = (synthetic_rgbt.open_builder(str(tmp_path), **SCENES) for _ in range(2))
    first.download_and_prepare()
    holds(Path(first.data_path).parent)
    # Made before there was anything to read.
    second.download_and_prepare()
    assert len(second.as_data_source("train")) == 2


PREPARE = """
import json, sys
from datasets import synthetic_rgbt
synthetic_rgbt.open_builder(sys.argv[1], **json.loads(sys.argv[2])).download_and_prepare()
"""


def test_killed_process_leaves_a_folder_and_no_lock(tmp_path):
    options = SCENES | {"train": 2000}
    with subprocess.Popen([sys.executable, "-c", PREPARE, str(tmp_path), json.dumps(options)], cwd=ROOT) as killed:
        for _ in range(600):
            if left := list(tmp_path.glob("synthetic_rgbt/*/incomplete.*")):
                break
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
    assert left
    builder = synthetic_rgbt.open_builder(str(tmp_path), **options)
    with preparation.alone(builder, Path(builder.data_path).parent) as is_missing:
        assert is_missing
    assert not list(tmp_path.glob("synthetic_rgbt/*/incomplete.*"))
