"""Complete trainings of a teacher and its student on a few tiny scenes, and what is refused before them."""

import contextlib
import json
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from training_cases import assert_same_bits, changed, json_lines, newest_params, on_tiny_scenes, write_pairs

from dcrl_jax import checkpoints, param_trees
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.models.network import build_network
from dcrl_jax.training import data, distill, run, score, train
from dcrl_jax.training.fit import Fit
from dcrl_jax.training.step import FrozenTeacher

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STEPS, TEACHER_STEPS = 4, 3


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    """A student of four steps, whose teacher takes three; both see crops and are scored twice.

    The student also sees two pairs without labels.
    """
    config = on_tiny_scenes(tiny_config("student"), tmp_path_factory.mktemp("data"), STEPS, evaluate_every=2)
    config.data.crop = (24, 32)
    config.data.unlabelled = str(write_pairs(tmp_path_factory.mktemp("unlabelled")))
    return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The workdir of a student, with its teacher's, and the student's evaluation."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, distill.train_student(config, workdir)


@pytest.fixture(scope="module")
def teacher(finished, config):
    """The teacher's config, its workdir, and its network on all devices."""
    own = distill.teacher_config(config)
    return own, finished[0] / "teacher", score.parallel_network(own)


def test_teacher_config_is_the_student_s_with_the_teacher_s_sections(tiny_config):
    config, expected = tiny_config("student"), tiny_config("teacher")
    shared = {"data.options.seed": 7, "rpn.nms_iou": 0.6, "init.vgg16": "weights.safetensors"}
    own = {"init.checkpoint": "the teacher's start", "optimizer.learning_rate": 0.25, "train.steps": 11}
    config.update_from_flattened_dict(shared | {"init.checkpoint": "the student's start", "optimizer.momentum": 0.1})
    config.update_from_flattened_dict({f"teacher.{key}": value for key, value in own.items()})
    expected.update_from_flattened_dict(shared | own)
    assert distill.teacher_config(config).to_dict() == expected.to_dict()
    assert config.teacher.train.steps == 11
    config.teacher.width = 0.25
    assert distill.teacher_config(config).backbone.width == 0.25


def test_outputs_of_teacher_and_student_must_mean_the_same(tiny_config):
    others = {"data.width_px": 80, "segmentation.stages": ("rdr",), "roi.hidden": 99}  # the last may differ
    teacher = FrozenTeacher(None, None, changed(tiny_config("teacher"), others), "runs/other")
    with pytest.raises(InputError) as refusal:
        distill.check_fits(tiny_config("student"), teacher)
    narrow = FrozenTeacher(None, None, changed(tiny_config("teacher"), {"backbone.width": 0.5}), "runs/wide")
    with pytest.raises(InputError, match=r"config.teacher.width .* means [0-9.]+, the teacher has 0.5"):
        distill.check_fits(tiny_config("student"), narrow)
    distill.check_fits(changed(tiny_config("student"), {"teacher.width": 0.5}), narrow)
    problems, _, remedy = str(refusal.value).rpartition("\n")
    assert problems.splitlines() == [
        "the teacher of runs/other does not fit its student:",
        "  config.data.width_px is 48, the teacher's 80",
        "  config.segmentation.stages is rpg, rdr, the teacher's rdr",
    ]
    assert remedy.startswith("Give the student the teacher's values")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation.zeta": 2.0}, "config.distillation.zeta is 2.0"),
        ({"teacher.cfl.groups": 3}, "the teacher's recipe.*config.cfl.groups is 3; it must divide"),
        ({"teacher.train.batch_size": 0}, "the teacher's recipe.*config.train.batch_size is 0"),
        ({"train.batch_size": 3}, "config.train.batch_size is 3"),
        ({"data.test_split": "tset"}, "'tset' cannot be opened"),
        ({"teacher.checkpoint": "nobody"}, "/nobody holds no checkpoint"),
        ({"teacher.checkpoint": "DIR"}, "DIR holds a student; config.teacher.checkpoint must name a teacher"),
        ({"teacher.checkpoint": "DIR/teacher", "anchors.per_cell": 4}, "anchors.per_cell is 4, the teacher's 3"),
        ({"teacher.checkpoint": "DIR/teacher", "init.checkpoint": "nobody"}, "/nobody holds no checkpoint"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(finished, config, tmp_path, changes, message):
    def filled(value):
        return value.replace("DIR", str(finished[0])) if isinstance(value, str) else value

    with pytest.raises(InputError, match=filled(message)):
        distill.train_student(changed(config, {k: filled(v) for k, v in changes.items()}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_config_is_refused_and_left_alone(finished, config, tmp_path):
    teacher = finished[0] / "teacher"
    copy = shutil.copytree(teacher, tmp_path / "teacher")
    with pytest.raises(InputError, match=rf"^{finished[0]} .*:\n  config.distillation.seg: true in the workdir, false"):
        distill.train_student(changed(config, {"distillation.seg": False}), finished[0])
    with pytest.raises(InputError, match=rf"^{copy} .*:\n  config.train.batch_size: 4 in the workdir, 8 now"):
        distill.train_student(changed(config, {"teacher.train.batch_size": 8}), tmp_path)
    assert_same_bits(newest_params(copy), newest_params(teacher))


def test_student_does_not_resume_with_another_teacher(finished, config, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    starts = workdir / "environment.jsonl"
    starts.write_text(starts.read_text().replace('"teacher": "', '"teacher": "0'))
    with pytest.raises(InputError, match=rf"{workdir} is the run of a student of another teacher"):
        distill.train_student(config, workdir)


def test_student_that_distils_nothing_needs_no_teacher(config, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(distill, "train_and_evaluate", lambda *arguments: calls.append(arguments))
    off = changed(config, {f"distillation.{term}": False for term in ("fea", "cls", "bbr", "seg")})
    distill.train_student(off, tmp_path)
    assert calls == [(off, tmp_path)]


@pytest.mark.parametrize(("role", "has_thermal"), [("teacher", True), ("student", True), ("baseline", False)])
def test_batches_have_thermal_images_where_a_teacher_needs_them(config, tiny_config, role, has_thermal):
    own = on_tiny_scenes(tiny_config(role), config.data.data_dir, STEPS, 2)
    own.data.train_drop_empty = True
    source = data.open_train_source(train.sources.prepare(own.data), own.data)
    with contextlib.closing(data.train_batches(source, own, None)) as batches:
        batch = next(batches)
    assert batch.visible.shape == (4, 32, 40, 3)
    assert (batch.lwir is not None) == has_thermal
    # The batch that a step is compiled for has the same shapes.
    empty = jax.tree.map(lambda leaf: (leaf.shape[2:], leaf.dtype), data.empty_batch(own, 2))
    assert empty == jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), batch)


def test_one_command_leaves_teacher_student_scores_and_comparison(finished):
    workdir, result = finished
    for folder, steps in ((workdir / "teacher", TEACHER_STEPS), (workdir, STEPS)):
        assert newest_params(folder)[0] == steps
        assert [line["step"] for line in json_lines(folder / "validation.jsonl")] == [2, steps]
        names = {"results.txt", "results.json", "images.txt", "scores.json", "report.html", "miss_rate.png"}
        assert names | {"panel.png"} <= {path.name for path in (folder / "evaluation").iterdir()}
    assert set(result.detections) == set((workdir / "evaluation" / "images.txt").read_text().split())
    assert len(result.detections) == 5
    assert set(json.loads((workdir / "unlabelled.json").read_text())) == {"street/0", "street/1"}
    compared = json.loads((workdir / "comparison" / "scores.json").read_text())
    for role, folder in (("teacher", workdir / "teacher"), ("student", workdir)):
        scores = json.loads((folder / "evaluation" / "scores.json").read_text())
        assert compared[role] == {name: score["miss_rate_percent"] for name, score in scores["scores"].items()}
        assert set(scores["blanked"]) == ({"visible", "lwir"} if role == "teacher" else set())
        assert scores["parameters"] == param_trees.fingerprint(checkpoints.restore_params(str(folder))[0])
    assert compared["student"]["reasonable-all"] == 100 * result.scores["reasonable-all"].miss_rate


def test_checkpoint_of_the_student_has_nothing_of_the_teacher(finished, config):
    _, params = newest_params(finished[0])
    expected = build_network(config).param_shapes()
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, expected)
    folder = finished[0] / checkpoints.RESUME_FOLDER / str(STEPS) / "optimizer"
    saved = ocp.StandardCheckpointHandler().metadata(folder).tree
    student = sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(expected))
    # Adam's two moments, and a few counters of steps.
    assert 0 <= sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(saved)) - 2 * student < 10


def test_finished_teacher_is_not_trained_again(finished, config, teacher, capsys):
    own, folder, detector = teacher
    before = newest_params(folder)
    assert_same_bits(distill.ready_teacher(config, finished[0]).params, checkpoints.restore_params(str(folder))[0])
    assert capsys.readouterr().out.endswith(f"teacher: step {checkpoints.newest_step(folder / 'best')} of {folder}\n")
    train.train(own, folder, detector)
    assert "loss" not in capsys.readouterr().out
    assert_same_bits(newest_params(folder), before)


def test_killed_student_resumes_bit_for_bit(finished, config, tmp_path, monkeypatch):
    detector, teacher = score.parallel_network(config), distill.load_teacher(str(finished[0] / "teacher"))
    record, steps = run.Run.record, []

    def stopped(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGTERM)
        record(self, *arguments)

    monkeypatch.setattr(run.Run, "record", stopped)
    with pytest.raises(Preempted):
        train.train(config, tmp_path, detector, teacher)
    assert newest_params(tmp_path)[0] == 3
    train.train(config, tmp_path, detector, teacher)
    assert_same_bits(newest_params(tmp_path), newest_params(finished[0]))
    assert json_lines(tmp_path / "validation.jsonl") == json_lines(finished[0] / "validation.jsonl")


def test_training_starts_from_the_parameters_of_init_checkpoint(teacher, tmp_path, monkeypatch, capsys):
    own, folder, detector = teacher
    states = []
    monkeypatch.setattr(train, "fit_training_step", lambda *_: Fit(None, 1, 0.0))
    monkeypatch.setattr(train, "run_steps", lambda run, step, state, bench: states.append(jax.device_get(state)))
    train.train(changed(own, {"init.checkpoint": str(folder)}), tmp_path, detector)
    printed = capsys.readouterr().out
    assert f"init: from {folder}, step " in printed
    assert "  new: nothing\n  left out: nothing\n" in printed
    assert states[0].step == 0
    assert_same_bits(states[0].params, jax.device_get(checkpoints.restore_params(str(folder))[0]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("roi.hidden", 24, "instead of"),
        ("anchors.smallest_px", 60.0, "config.anchors.smallest_px is 60.0, in its training it was 30.0"),
        ("data.height_px", 64, "config.data.height_px is 64, in its training it was 32"),
    ],
)
def test_checkpoint_is_not_scored_as_another_detector(teacher, tmp_path, key, value, message):
    other = changed(teacher[0], {key: value})
    with pytest.raises(InputError, match=re.escape(message)):
        score.score_checkpoint(other, tmp_path, score.parallel_network(other), str(teacher[1]))
    assert list(tmp_path.iterdir()) == []


def test_scores_of_a_run_are_not_overwritten_with_another_s(finished, teacher, monkeypatch):
    own, folder, detector = teacher
    for workdir, other in ((folder, finished[0]), (finished[0], folder), (finished[0], folder / "best")):
        with pytest.raises(InputError, match=f"{workdir} is the workdir of a run, whose scores would be written over"):
            score.score_checkpoint(own, workdir, detector, str(other))
    # Another checkpoint of the run is scored.
    monkeypatch.setattr(score, "open_test_bench", lambda *_: pytest.skip("reached"))
    with pytest.raises(pytest.skip.Exception, match="reached"):
        score.score_checkpoint(own, folder, detector, str(folder / "checkpoints" / "2"))
