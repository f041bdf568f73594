"""What a run leaves about itself, and whose workdir it is."""

import json
import re

import jax
import pytest

from configs import student, teacher
from dcrl_jax.errors import InputError
from dcrl_jax.training import workdir


@pytest.fixture
def config():
    return student.get_config("synthetic")


def test_config_and_a_line_for_each_start_are_written(tmp_path, config, capsys):
    config.seed = 7
    workdir.record(tmp_path, config, 0)
    workdir.record(tmp_path, config, 20)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7
    lines = [json.loads(line) for line in (tmp_path / "environment.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 20]
    assert lines[0]["seed"] == 7
    assert lines[0]["versions"]["jax"] == jax.__version__
    assert lines[0]["devices"] == [device.device_kind for device in jax.local_devices()]
    assert lines[0]["commit"] is None or re.fullmatch(r"[0-9a-f]{12}\+?", lines[0]["commit"])
    assert f"seed 7, commit {lines[0]['commit'] or 'unknown'}, jax {jax.__version__}" in capsys.readouterr().out


def test_empty_workdir_and_that_of_the_same_config_are_free(tmp_path, config):
    workdir.check_config_of(tmp_path, config)
    workdir.record(tmp_path, config, 0)
    workdir.check_config_of(tmp_path, student.get_config("synthetic"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.steps", 900),
        ("train.log_every_steps", 1),
        ("data.data_dir", "elsewhere"),
        ("eval.batch_size", 3),
        ("final.nms_iou", 0.5),
        ("teacher.checkpoint", "runs/teacher"),
        ("teacher.train.log_every_steps", 1),
    ],
)
def test_length_places_and_scoring_may_change(tmp_path, config, key, value):
    workdir.record(tmp_path, config, 0)
    config.update_from_flattened_dict({key: value})
    workdir.check_config_of(tmp_path, config)


def test_other_differences_are_named_with_both_values(tmp_path, config):
    workdir.record(tmp_path, config, 0)
    config.seed = 1
    config.rpn.offset_std = (1.0, 1.0, 1.0, 1.0)
    config.teacher.optimizer.learning_rate = 0.5
    with pytest.raises(InputError) as error:
        workdir.check_config_of(tmp_path, config)
    assert str(error.value) == (
        f"{tmp_path} holds a run of another config:\n"
        "  config.rpn.offset_std: [0.1, 0.1, 0.2, 0.2] in the workdir, [1.0, 1.0, 1.0, 1.0] now\n"
        "  config.seed: 0 in the workdir, 1 now\n"
        "  config.teacher.optimizer.learning_rate: 0.001 in the workdir, 0.5 now\n"
        "Give the config of that run to go on with it, or another --workdir."
    )


@pytest.mark.parametrize(
    ("key", "value"), [("teacher.train.steps", 9), ("init.checkpoint", "elsewhere"), ("teacher.checkpoint", None)]
)
def test_what_the_run_began_with_may_not_change(tmp_path, config, key, value):
    config.teacher.checkpoint = "runs/teacher"
    workdir.record(tmp_path, config, 0)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=rf"config.{key}: .* in the workdir, .* now"):
        workdir.check_config_of(tmp_path, config)


def test_student_goes_on_with_the_teacher_that_it_began_with_wherever_that_lies(tmp_path, config):
    workdir.check_teacher_of(tmp_path, "cd" * 32, "runs/teacher")
    workdir.record(tmp_path, config, 0, "ab" * 32)
    with (tmp_path / "environment.jsonl").open("a") as file:
        file.write('3\n{"teacher": "cdcd')  # not by this program; not written to its end
    workdir.check_teacher_of(tmp_path, "ab" * 32, "moved/teacher")
    with pytest.raises(InputError, match=r"checksum abababababab, those of runs/teacher cdcdcdcdcdcd\. Give"):
        workdir.check_teacher_of(tmp_path, "cd" * 32, "runs/teacher")


def test_keys_that_only_one_of_them_has_are_named(tmp_path, config):
    workdir.record(tmp_path, config, 0)
    with pytest.raises(InputError, match=r'config.role: "student" in the workdir, "teacher" now') as error:
        workdir.check_config_of(tmp_path, teacher.get_config("synthetic"))
    assert "config.cfl.enabled: not there in the workdir, true now" in str(error.value)
    assert "config.distillation.bbr: true in the workdir, not there now" in str(error.value)


def test_config_file_that_is_cut_off_is_named(tmp_path, config):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"config.json: not valid JSON"):
        workdir.check_config_of(tmp_path, config)


def test_compiled_programs_are_kept_in_the_workdir_unless_the_user_chose_a_place(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(workdir.jax.config, "update", lambda *change: chosen.append(change))
    workdir.use_compilation_cache(tmp_path)
    # The tests have a cache of their own.
    assert chosen == []
    with monkeypatch.context() as patch:
        patch.setattr(type(jax.config), "jax_compilation_cache_dir", None, raising=False)
        workdir.use_compilation_cache(tmp_path)
    assert chosen == [("jax_compilation_cache_dir", str(tmp_path / "compilation_cache"))]
