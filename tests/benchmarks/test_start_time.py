"""The output of a command that the benchmark reads, and the command itself."""

import pytest

from benchmarks import start_time
from dcrl_jax.errors import InputError


def test_the_first_step_is_read_from_the_output(monkeypatch):
    monkeypatch.setattr(start_time.time, "monotonic", lambda: 120.0)
    lines = ["data: 40 train\n", "step: 8 images; 0.20 of 23.6 GiB of memory; compiled in 12 s\n", "step 1/1: loss 3\n"]
    assert start_time.first_step(lines, 100.0) == (20, 12)
    with pytest.raises(InputError, match="no such key"):
        start_time.first_step(["error: no such key\n"], 0.0)


def test_only_a_student_is_given_a_teacher(tmp_path):
    data = start_time.data_keys(tmp_path)
    teacher = start_time.command("teacher", tmp_path / "a", data, None)
    assert "--config.train.steps=1" in teacher
    assert not any("checkpoint" in argument for argument in teacher)
    student = start_time.command("student", tmp_path / "b", data, tmp_path / "a")
    assert f"--config.teacher.checkpoint={tmp_path / 'a'}" in student
