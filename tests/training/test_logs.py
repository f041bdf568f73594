"""TensorBoard's file: what it holds, and what a disk without room does to it."""

import contextlib
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from dcrl_jax.training.logs import ScalarLog


def events_in(folder):
    """The scalars of a folder's one file, (name, value, step), by TFRecord's framing: length, check, data, check."""
    (path,) = folder.iterdir()
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        found += [(value.tag, value.simple_value, event.step) for value in event.summary.value]
        place += 16 + length
    return found


def test_scalars_stand_in_the_file_once_flushed(tmp_path):
    with ScalarLog(tmp_path / "logs") as scalars:
        scalars.add_scalar("train/loss", 0.5, 20)
        scalars.add_scalar("validation/reasonable-all", 0.25, 40)
        scalars.flush()
        assert events_in(tmp_path / "logs") == [("train/loss", 0.5, 20), ("validation/reasonable-all", 0.25, 40)]


def test_without_a_folder_everything_is_thrown_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ScalarLog(None) as scalars:
        scalars.add_scalar("train/loss", 0.5, 20)
        scalars.flush()
    assert not any(tmp_path.iterdir())


def test_full_disk_is_an_error_and_not_a_run_that_waits_for_ever(tmp_path, no_room):
    with ScalarLog(tmp_path / "logs") as scalars:
        scalars.add_scalar("train/loss", 0.5, 20)
        with no_room(0), pytest.raises(OSError, match="File too large"):
            scalars.flush()


def test_error_that_ended_a_run_is_not_hidden_by_its_log(tmp_path, no_room):
    def run():
        with contextlib.ExitStack() as full, ScalarLog(tmp_path / "logs") as scalars:
            scalars.add_scalar("train/loss", 0.5, 20)
            full.enter_context(no_room(0))
            raise ValueError("the run's own")

    with pytest.raises(ValueError, match="the run's own"):
        run()
