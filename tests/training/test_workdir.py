"""The records of a run in its workdir, and the check that a run resumes with its own config and teacher."""

import contextlib
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


def test_config_and_one_line_per_start_are_written(tmp_path, config, capsys):
    workdir.check_config_of(tmp_path, config)  # an empty workdir is free
    config.seed = 7
    workdir.record(tmp_path, config, 0)
    workdir.record(tmp_path, config, 20)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7
    starts = [json.loads(line) for line in (tmp_path / "environment.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, 20]
    assert starts[0]["seed"] == 7
    assert starts[0]["versions"]["jax"] == jax.__version__
    assert starts[0]["devices"] == [device.device_kind for device in jax.local_devices()]
    assert starts[0]["commit"] is None or re.fullmatch(r"[0-9a-f]{12}\+?", starts[0]["commit"])
    assert f"seed 7, commit {starts[0]['commit'] or 'unknown'}, jax {jax.__version__}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "may_change"),
    [
        ("train.steps", 900, True),
        ("train.log_every_steps", 1, True),
        ("data.data_dir", "elsewhere", True),
        ("eval.batch_size", 3, True),
        ("final.nms_iou", 0.5, True),
        ("data.options.missing_labels", "error", True),
        ("teacher.checkpoint", "moved/teacher", True),
        ("teacher.train.log_every_steps", 1, True),
        ("teacher.checkpoint", None, False),
        ("teacher.train.steps", 9, False),
        ("init.checkpoint", "elsewhere", False),
    ],
)
def test_length_places_and_scoring_may_change(tmp_path, config, key, value, may_change):
    config.teacher.checkpoint = "runs/teacher"
    workdir.record(tmp_path, config, 0)
    config.update_from_flattened_dict({key: value})
    message = rf"config.{key}: .* in the workdir, .* now"
    with contextlib.nullcontext() if may_change else pytest.raises(InputError, match=message):
        workdir.check_config_of(tmp_path, config)


def test_run_of_an_earlier_version_means_the_defaults_of_later_keys(tmp_path, config):
    workdir.record(tmp_path, config, 0)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["data"]["crop"], saved["teacher"]["cfl"]["init"], saved["rpn"]["nms_iou"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config.rpn.nms_iou = 0.6
    config.data.crop, config.teacher.cfl.init = (16, 24), "identity"
    with pytest.raises(InputError) as refusal:
        workdir.check_config_of(tmp_path, config)
    assert str(refusal.value).splitlines()[1:4] == [
        "  config.data.crop: [] in the workdir, [16, 24] now",
        "  config.rpn.nms_iou: not there in the workdir, 0.6 now",
        '  config.teacher.cfl.init: "gaussian" in the workdir, "identity" now',
    ]
    config.data.crop, config.teacher.cfl.init = (), "gaussian"
    saved["rpn"]["nms_iou"] = 0.6
    (tmp_path / "config.json").write_text(json.dumps(saved))
    workdir.check_config_of(tmp_path, config)


def test_other_differences_are_named_with_both_values(tmp_path, config):
    workdir.record(tmp_path, config, 0)
    config.seed = 1
    config.rpn.offset_std = (1.0, 1.0, 1.0, 1.0)
    config.teacher.optimizer.learning_rate = 0.5
    with pytest.raises(InputError) as refusal:
        workdir.check_config_of(tmp_path, config)
    assert str(refusal.value) == (
        f"{tmp_path} holds a run of another config:\n"
        "  config.rpn.offset_std: [0.1, 0.1, 0.2, 0.2] in the workdir, [1.0, 1.0, 1.0, 1.0] now\n"
        "  config.seed: 0 in the workdir, 1 now\n"
        "  config.teacher.optimizer.learning_rate: 0.001 in the workdir, 0.5 now\n"
        "Give the config of that run to go on with it, or another --workdir."
    )
    with pytest.raises(InputError, match=r'config:\n  config.role: "student" in the workdir, "teacher" now') as refusal:
        workdir.check_config_of(tmp_path, teacher.get_config("synthetic"))
    assert "config.cfl.enabled: not there in the workdir, true now" in str(refusal.value)
    assert "config.distillation.bbr: true in the workdir, not there now" in str(refusal.value)


def test_torn_config_file_is_named(tmp_path, config):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"config.json: not valid JSON"):
        workdir.check_config_of(tmp_path, config)


def test_student_resumes_with_its_first_teacher_from_any_path(tmp_path, config):
    workdir.check_teacher_of(tmp_path, "cd" * 32, "runs/teacher")
    workdir.record(tmp_path, config, 0, "ab" * 32)
    with (tmp_path / "environment.jsonl").open("a") as file:
        file.write('3\n{"teacher": "cdcd')  # of another program, and torn
    workdir.check_teacher_of(tmp_path, "ab" * 32, "moved/teacher")
    with pytest.raises(InputError, match=r"checksum abababababab, those of runs/teacher cdcdcdcdcdcd\. Give"):
        workdir.check_teacher_of(tmp_path, "cd" * 32, "runs/teacher")


def test_run_resumes_on_data_made_from_the_files_that_it_began_with(tmp_path, config):
    first, other = ({"made_from": "/raw", "source_checksum": checksum} for checksum in ("1a2b3c4d", "00ff00ff"))
    workdir.record(tmp_path, config, 0)  # by an earlier version
    workdir.check_data_of(tmp_path, other)
    workdir.record(tmp_path, config, 0, data=first["source_checksum"])
    for metadata in (first, first | {"made_from": "/moved"}, {}):
        workdir.check_data_of(tmp_path, metadata)
    with pytest.raises(InputError, match=r"run on other data: .* checksum 1a2b3c4d, .* one, /raw, 00ff00ff\. Prepare"):
        workdir.check_data_of(tmp_path, other)


def test_compiled_programs_are_kept_in_the_workdir_unless_the_user_chose_a_place(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(workdir.jax.config, "update", lambda *change: chosen.append(change))
    workdir.open_workdir(str(tmp_path))
    assert chosen == []  # the tests have a cache of their own
    with monkeypatch.context() as patch:
        patch.setattr(type(jax.config), "jax_compilation_cache_dir", None, raising=False)
        workdir.open_workdir(str(tmp_path))
    assert chosen == [("jax_compilation_cache_dir", str(tmp_path / "compilation_cache"))]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--workdir=.*file is a file; a run needs a folder"):
        workdir.open_workdir(str(tmp_path / "file"))
