"""An output folder is filled completely or left as it was."""

import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.inference.output_folder import fill_folder, new_folder


def fill(output, error=None):
    with fill_folder(output) as folder:
        (folder / "a.txt").write_text("a")
        save_file({"b": np.zeros(1000, np.float32)}, folder / "b.safetensors")
        if error is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        if error:
            raise error


def test_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError) as refusal:
            new_folder(str(path))
        assert str(refusal.value) == f"{path} exists and is not an empty folder: give another --output."


def test_what_a_failed_disk_kept_does_not_count(tmp_path):
    leftover = tmp_path / "out" / ".partial1"
    leftover.mkdir(parents=True)
    (leftover / "a.txt").write_text("half")
    fill(new_folder(tmp_path / "out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.txt", "b.safetensors"]


def test_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path, no_room):
    message = f"^{tmp_path}/new/out cannot be written to: File too large. Make room, or give another --output.$"
    with no_room(0), pytest.raises(InputError, match=message):
        new_folder(tmp_path / "new/out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt, None),
        (NotImplementedError("no operator"), None),
        ("full disk", "File too large. Make room"),
        ("move", "Permission denied. Change its permissions"),
    ],
    ids=["signal", "exception", "full disk", "move"],
)
def test_folder_stays_as_it_was_after_an_error(tmp_path, monkeypatch, no_room, error, reason, existed):
    output, rename, moved = tmp_path / "new/out", Path.rename, []
    if existed:
        output.mkdir(parents=True)

    def denied(self, target):
        if moved:
            raise PermissionError(13, "Permission denied")
        moved.append(rename(self, target))

    if error == "move":
        monkeypatch.setattr(Path, "rename", denied)
    size = 500 if error == "full disk" else 2**30
    expected = (KeyboardInterrupt, NotImplementedError) if reason is None else InputError
    message = reason and f"^{output} cannot be written to: {reason}, or give another --output.$"
    with no_room(size), pytest.raises(expected, match=message):
        fill(output, None if isinstance(error, str) else error)
    assert output.exists() == existed
    assert not existed or not any(output.iterdir())
    monkeypatch.undo()
    fill(new_folder(output))
    assert sorted(file.name for file in output.iterdir()) == ["a.txt", "b.safetensors"]


def test_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"^{tmp_path}/file/out cannot be written to: Not a directory"):
        fill(tmp_path / "file/out")
