"""The two steps of Sec. IV-A in one command: which teacher, what is refused, what is resumed, what stays frozen."""

import json
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from training_cases import assert_same_bits, newest_params

from dcrl_jax import checkpoints, parallel
from dcrl_jax.data import pipeline
from dcrl_jax.errors import InputError
from dcrl_jax.models.network import build_network
from dcrl_jax.training import data, distill, score, train
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import FrozenTeacher, TrainState, make_step
from dcrl_jax.training.terms import training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STEPS, TEACHER_STEPS = 4, 3


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    """A student's config for a handful of scenes; its teacher takes three steps, it takes four."""
    config = tiny_config("student")
    config.data.options = {"height_px": 32, "width_px": 40, "train": 10, "validation": 4, "test": 5}
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    config.data.height_px, config.data.width_px = 32, 40
    config.backbone.norm = "group"
    config.data.max_boxes = 16
    config.eval.batch_size = 4
    for section, steps in ((config, STEPS), (config.teacher, TEACHER_STEPS)):
        section.optimizer.warmup_steps = 1
        section.train.batch_size = 2 * len(jax.local_devices())
        section.train.steps = steps
        section.train.log_every_steps = 1
        section.train.evaluate_every_epochs = 100.0
    return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, distill.train_student(config, workdir)


def changed(config, changes):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict(changes)
    return other


def test_teacher_s_recipe_is_the_student_s_with_the_teacher_s_own_sections(tiny_config):
    config = tiny_config("student")
    config.data.options.seed = 7
    config.rpn.nms_iou = 0.6
    config.init.vgg16 = "weights.safetensors"
    config.init.checkpoint = "the student's start"
    config.teacher.init.checkpoint = "the teacher's start"
    config.teacher.optimizer.learning_rate = 0.25
    config.teacher.train.steps = 11
    expected = tiny_config("teacher")
    expected.data.options.seed = 7
    expected.rpn.nms_iou = 0.6
    expected.init.update(vgg16="weights.safetensors", checkpoint="the teacher's start")
    expected.optimizer.learning_rate = 0.25
    expected.train.steps = 11
    assert distill.teacher_config(config).to_dict() == expected.to_dict()
    assert config.teacher.train.steps == 11


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.stride": 16}, "config.backbone.stride is 8, the teacher's 16"),
        ({"anchors.per_cell": 5}, "config.anchors.per_cell is 3, the teacher's 5"),
        ({"anchors.smallest_px": 20.0}, "config.anchors.smallest_px is 30.0, the teacher's 20.0"),
        ({"backbone.width": 1 / 16}, "config.backbone.width is 0.03125, the teacher's 0.0625"),
        ({"data.width_px": 80}, "config.data.width_px is 48, the teacher's 80"),
        ({"rpn.offset_std": (1.0, 1.0, 1.0, 1.0)}, "is 0.1, 0.1, 0.2, 0.2, the teacher's 1.0, 1.0, 1.0, 1.0"),
        ({"roi.size": 7}, "config.roi.size is 3, the teacher's 7"),
        ({"segmentation.stages": ("rdr",)}, "config.segmentation.stages is rpg, rdr, the teacher's rdr"),
    ],
)
def test_teacher_that_does_not_fit_is_refused_with_both_values(tiny_config, changes, message):
    config = tiny_config("student")
    other = changed(tiny_config("teacher"), changes)
    with pytest.raises(InputError) as refusal:
        distill.check_fits(config, FrozenTeacher(None, None, other, "runs/other"))
    assert str(refusal.value).startswith("the teacher of runs/other does not fit its student:\n")
    assert message in str(refusal.value)
    assert str(refusal.value).count("the teacher's") == 2


def test_teacher_of_the_same_sections_fits(tiny_config):
    config = tiny_config("student")
    guide = FrozenTeacher(None, None, changed(distill.teacher_config(config), {"roi.hidden": 99, "cfl.groups": 1}), "")
    distill.check_fits(config, guide)


def test_one_command_leaves_teacher_student_scores_and_comparison(finished):
    workdir, result = finished
    assert newest_params(workdir / "teacher")[0] == TEACHER_STEPS
    assert newest_params(workdir)[0] == STEPS
    for folder in (workdir, workdir / "teacher"):
        assert (folder / "evaluation" / "scores.json").is_file()
    names = {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    assert {path.name for path in (workdir / "comparison").iterdir()} == names
    both = json.loads((workdir / "comparison" / "scores.json").read_text())
    assert set(both) == {"teacher", "student"}
    assert both["student"]["reasonable-all"] == 100 * result.scores["reasonable-all"].miss_rate
    alone = json.loads((workdir / "teacher" / "evaluation" / "scores.json").read_text())["scores"]
    assert both["teacher"] == {name: score["miss_rate_percent"] for name, score in alone.items()}


def test_student_s_checkpoint_and_optimizer_hold_nothing_of_the_teacher(finished, config):
    _, params = newest_params(finished[0])
    expected = build_network(config).param_shapes()
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, expected)
    folder = finished[0] / checkpoints.RESUME_FOLDER / str(STEPS) / "optimizer"
    saved = ocp.StandardCheckpointHandler().metadata(folder).tree
    student = sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(expected))
    stored = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(saved))
    # Adam's two moments, and a few counters of steps.
    assert 0 <= stored - 2 * student < 10


def test_finished_teacher_of_the_workdir_is_not_trained_again(finished, config, capsys):
    before = newest_params(finished[0] / "teacher")
    distill.train_student(config, finished[0])
    printed = capsys.readouterr().out
    assert "step 1 of 2" not in printed
    assert "loss" not in printed
    assert_same_bits(newest_params(finished[0] / "teacher"), before)


def test_finished_teacher_of_another_recipe_is_refused(finished, config, tmp_path):
    shutil.copytree(finished[0] / "teacher", tmp_path / "teacher")
    other = changed(config, {"teacher.cfl.aggregation": "average"})
    with pytest.raises(InputError) as error:
        distill.train_student(other, tmp_path)
    assert str(error.value).startswith(
        f"{tmp_path / 'teacher'} holds a run of another config:\n"
        '  config.cfl.aggregation: "attention" in the workdir, "average" now\n'
    )


def test_student_of_another_config_is_refused_before_its_teacher_is_touched(finished, config, capsys):
    before = newest_params(finished[0] / "teacher")
    for changes in ({"distillation.seg": False}, {"teacher.train.steps": TEACHER_STEPS + 1}):
        with pytest.raises(InputError, match=rf"{finished[0]} holds a run of another config"):
            distill.train_student(changed(config, changes), finished[0])
    assert capsys.readouterr().out == ""
    assert_same_bits(newest_params(finished[0] / "teacher"), before)


def test_student_does_not_go_on_with_another_teacher(finished, config, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    moved = shutil.move(run / "teacher", tmp_path / "moved")
    longer = changed(config, {"teacher.checkpoint": str(moved), "train.steps": STEPS + 1})
    lines = (run / "environment.jsonl").read_text()
    (run / "environment.jsonl").write_text(lines.replace('"teacher": "', '"teacher": "0'))
    with pytest.raises(InputError, match=rf"{run} is the run of a student of another teacher"):
        distill.train_student(longer, run)
    assert newest_params(run)[0] == STEPS
    (run / "environment.jsonl").write_text(lines)
    distill.train_student(longer, run)
    assert newest_params(run)[0] == STEPS + 1


def test_named_teacher_is_used_and_none_is_trained(finished, config, tmp_path, capsys):
    other = changed(config, {"teacher.checkpoint": str(finished[0] / "teacher"), "train.steps": STEPS})
    distill.train_student(other, tmp_path)
    assert f"teacher: step {TEACHER_STEPS} of {finished[0] / 'teacher'}" in capsys.readouterr().out
    assert not (tmp_path / "teacher").exists()
    # The same teacher, seed and data: the same student.
    assert_same_bits(newest_params(tmp_path), newest_params(finished[0]))


def test_student_is_refused_as_a_teacher(finished, config, tmp_path):
    other = changed(config, {"teacher.checkpoint": str(finished[0])})
    with pytest.raises(InputError, match=re.escape(f"{finished[0]} holds a student; config.teacher.checkpoint must")):
        distill.train_student(other, tmp_path)


def test_teacher_that_is_not_there_is_named(config, tmp_path):
    other = changed(config, {"teacher.checkpoint": str(tmp_path / "nobody")})
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'nobody'} holds no checkpoint")):
        distill.train_student(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_teacher_of_another_shape_is_refused_before_the_student_starts(finished, config, tmp_path):
    other = changed(config, {"teacher.checkpoint": str(finished[0] / "teacher"), "anchors.per_cell": 4})
    with pytest.raises(InputError, match=r"anchors.per_cell is 4, the teacher's 3"):
        distill.train_student(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_student_is_refused_before_its_teacher_is_trained(config, tmp_path):
    for changes in ({"distillation.zeta": 2.0}, {"teacher.cfl.groups": 3}, {"train.batch_size": 3}):
        with pytest.raises(InputError):
            distill.train_student(changed(config, changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_fault_of_the_teacher_s_recipe_says_whose_it_is(config, tmp_path):
    with pytest.raises(InputError, match=r"the teacher's recipe.*config.train.batch_size is 0"):
        distill.train_student(changed(config, {"teacher.train.batch_size": 0}), tmp_path / "run")


def test_missing_test_split_is_found_before_anything_is_trained(config, tmp_path):
    with pytest.raises(InputError, match="'tset' cannot be opened"):
        distill.train_student(changed(config, {"data.test_split": "tset"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_student_that_distils_nothing_needs_no_teacher(config, tmp_path):
    off = {f"distillation.{term}": False for term in ("fea", "cls", "bbr", "seg")}
    distill.train_student(changed(config, off), tmp_path)
    assert not (tmp_path / "teacher").exists()
    assert not (tmp_path / "comparison").exists()
    assert newest_params(tmp_path)[0] == STEPS


@pytest.mark.parametrize(("run", "step"), [("teacher", 2), ("student", 2)])
def test_killed_run_goes_on_bit_for_bit_where_it_was(finished, config, tmp_path, monkeypatch, run, step):
    original = train.parallel.parallel_step
    built = []

    def parallel_step(*arguments, **keywords):
        compiled = original(*arguments, **keywords)
        built.append(compiled)
        place, calls = len(built), []

        def interrupted(*state_and_batch):
            calls.append(1)
            if place == {"teacher": 1, "student": 2}[run] and len(calls) == step:
                signal.raise_signal(signal.SIGINT)
            return compiled(*state_and_batch)

        interrupted.lower = compiled.lower
        return interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train.parallel, "parallel_step", parallel_step)
        with pytest.raises(KeyboardInterrupt):
            distill.train_student(config, tmp_path)
    folder = tmp_path / "teacher" if run == "teacher" else tmp_path
    assert newest_params(folder)[0] == step
    distill.train_student(config, tmp_path)
    for name in ("teacher", ""):
        assert_same_bits(newest_params(tmp_path / name), newest_params(finished[0] / name))


@pytest.fixture(scope="module")
def placed(config):
    """A student's compiled step on all devices with its state, its teacher's parameters and a batch."""
    network, teacher = build_network(config), build_network(distill.teacher_config(config))
    mesh = parallel.device_mesh()
    optimizer = build_optimizer(config, build_schedule(config, 10))
    step = make_step(network, optimizer, training_rules(config), 0, teacher)
    step = parallel.parallel_step(step, mesh, frozen_arguments=1)
    params = network.init_params(0)
    state = TrainState(np.int32(0), params, optimizer.init(params))
    state = parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), mesh)
    teacher_params = jax.device_get(teacher.init_params(1))
    source = pipeline.open_split(train.sources.prepare(config.data), "train")
    iterator = data.train_batches(source, config, parallel.batch_sharding(mesh))
    batch = next(iterator)
    iterator.close()
    return step, state, teacher_params, batch, mesh


def bytes_moved(capfd, run):
    """Bytes of the arrays whose implicit transfers JAX's own guard logs while ``run`` is called."""
    capfd.readouterr()
    with jax.transfer_guard("log"):
        run()
    logged = capfd.readouterr().err
    shapes = re.findall(r"(?:float32|int32|uint8)\[([\d,]*)\]", logged) + re.findall(r"\bf32\[([\d,]*)\]", logged)
    return sum(4 * int(np.prod([int(side) for side in shape.split(",") if side], dtype=int)) for shape in shapes)


def test_teacher_keeps_every_bit_and_no_step_moves_any_of_it(placed, capfd):
    step, state, teacher_params, batch, mesh = placed
    on_devices = parallel.replicate(teacher_params, mesh)
    pointers = [
        shard.data.unsafe_buffer_pointer() for leaf in jax.tree.leaves(on_devices) for shard in leaf.addressable_shards
    ]
    state, _ = step(state, on_devices, batch)
    states = [state]

    def three_steps():
        for _ in range(3):
            states[0], _ = step(states[0], on_devices, batch)
        jax.block_until_ready(states[0])

    assert bytes_moved(capfd, three_steps) == 0
    # The count sees a tree that lies on the host and is moved.
    on_host = bytes_moved(capfd, lambda: jax.block_until_ready(jax.jit(lambda tree: tree)(teacher_params)))
    assert on_host >= sum(leaf.nbytes for leaf in jax.tree.leaves(teacher_params))
    assert_same_bits(jax.device_get(on_devices), teacher_params)
    assert pointers == [
        shard.data.unsafe_buffer_pointer() for leaf in jax.tree.leaves(on_devices) for shard in leaf.addressable_shards
    ]
    assert int(states[0].step) == 4


def test_trained_student_finds_people_where_no_thermal_image_exists(finished, config, tmp_path, monkeypatch):
    original = pipeline.open_split

    class WithoutThermal:
        def __init__(self, source):
            self.source = source

        def __len__(self):
            return len(self.source)

        def __getitem__(self, index):
            return {key: value for key, value in self.source[index].items() if key != "lwir"}

    monkeypatch.setattr(pipeline, "open_split", lambda *arguments: WithoutThermal(original(*arguments)))
    source = pipeline.open_split(train.sources.prepare(config.data), "test")
    assert "lwir" not in source[0]
    again = score.score_checkpoint(config, tmp_path, score.parallel_network(config), str(finished[0] / "best"))
    assert again.detections.keys() == finished[1].detections.keys()
    for image_id, found in again.detections.items():
        np.testing.assert_array_equal(found.boxes, finished[1].detections[image_id].boxes)
    assert (tmp_path / "evaluation" / "panel.png").is_file()
