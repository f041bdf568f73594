"""Whole runs on a handful of tiny scenes."""

import contextlib
import errno
import fcntl
import itertools
import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from training_cases import assert_same_bits, newest_params

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.files import folder_lock
from dcrl_jax.reports.losses import read_curves
from dcrl_jax.training import data, fit, score, train
from dcrl_jax.training import run as runs

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STEPS = 6


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    return on_tiny_scenes(tiny_config(), tmp_path_factory.mktemp("data"))


def on_tiny_scenes(config, folder):
    """Changes a config to a run of six steps on a handful of scenes, scored after the third and the last."""
    config.data.options = {"height_px": 32, "width_px": 40, "train": 10, "validation": 4, "test": 5}
    config.data.data_dir = str(folder)
    config.data.height_px, config.data.width_px = 32, 40
    config.backbone.norm = "group"
    config.data.max_boxes = 16
    config.data.options.seed = 0
    config.optimizer.warmup_steps = 2
    config.train.batch_size = 2 * len(jax.local_devices())
    config.train.steps = STEPS
    config.train.log_every_steps = 1
    config.train.evaluate_every_epochs = 3 * config.train.batch_size / 10
    config.eval.batch_size = 4
    config.eval.min_height_px = 8.0  # somebody of every split is that tall
    return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, train.train_and_evaluate(config, workdir)


def validations(workdir):
    return [json.loads(line) for line in (workdir / "validation.jsonl").read_text().splitlines()]


def stop_in_step(monkeypatch, number, sent=signal.SIGINT):
    """Presses Ctrl-C, or sends another signal, while a step is under way."""
    original = train.parallel.parallel_step
    calls = itertools.count(1)

    def parallel_step(*arguments):
        step = original(*arguments)

        def interrupted(state, batch):
            if next(calls) == number:
                signal.raise_signal(sent)
            return step(state, batch)

        interrupted.lower = step.lower
        return interrupted

    monkeypatch.setattr(train.parallel, "parallel_step", parallel_step)


def test_run_leaves_checkpoints_logs_config_and_report(finished, config):
    workdir, evaluation = finished
    assert newest_params(workdir)[0] == STEPS
    assert (workdir / "best").is_dir()
    assert json.loads((workdir / "config.json").read_text()) == checkpoints.config_to_json(config)
    assert list((workdir / "logs").glob("events*"))
    curves = read_curves(workdir / "metrics.jsonl")
    assert {"train/loss", "train/rdr_reg", "train/learning_rate", "validation/reasonable-all"} <= curves.keys()
    assert curves["train/loss"][0].tolist() == list(range(1, STEPS + 1))
    assert curves["validation/reasonable-all"][0].tolist() == [3, STEPS]
    names = {"results.txt", "results.json", "images.txt", "scores.json", "report.html", "miss_rate.png", "panel.png"}
    assert names <= {path.name for path in (workdir / "evaluation").iterdir()}
    assert set(evaluation.detections) == set((workdir / "evaluation" / "images.txt").read_text().split())
    assert len(evaluation.detections) == 5
    assert set(evaluation.blanked_scores) == {"visible", "lwir"}
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text())
    assert scores["parameters"] == checkpoints.fingerprint(checkpoints.restore_params(str(workdir))[0])
    everybody = evaluation.scores["reasonable-all"]
    assert scores["scores"]["reasonable-all"]["miss_rate_percent"] == 100 * everybody.miss_rate


def test_every_validation_leaves_a_line_with_its_step_and_the_miss_rates_in_percent(finished):
    workdir, _ = finished
    lines = validations(workdir)
    assert [line["step"] for line in lines] == [3, STEPS]
    for line in lines:
        assert set(line) == {"step", "reasonable-all", "reasonable-day", "reasonable-night"}
        assert 0 < line["reasonable-all"] <= 100
    # The best parameters are those of the first line with the lowest rate.
    best = min(lines, key=lambda line: line["reasonable-all"])
    assert checkpoints.newest_step(workdir / "best") == best["step"]


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Preempted)])
def test_interrupted_run_goes_on_bit_for_bit_where_it_stopped(
    finished, config, tmp_path, monkeypatch, capsys, sent, error
):
    with monkeypatch.context() as patch:
        stop_in_step(patch, 4, sent)
        with pytest.raises(error):
            train.train_and_evaluate(config, tmp_path)
    assert newest_params(tmp_path)[0] == 4
    assert "stopped at step 4; the same command goes on from there" in capsys.readouterr().out
    train.train_and_evaluate(config, tmp_path)
    assert f"resume: step 4 of {STEPS}" in capsys.readouterr().out
    assert_same_bits(newest_params(tmp_path)[1], newest_params(finished[0])[1])
    assert validations(tmp_path) == validations(finished[0])


@pytest.mark.parametrize("number", [1, 2])
def test_run_stopped_while_it_is_scored_ends_at_once_and_takes_the_scores_first(
    finished, config, tmp_path, monkeypatch, capsys, number
):
    evaluate, calls = train.evaluation.evaluate, itertools.count(1)

    def stopped(*arguments, **options):
        if next(calls) == number:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("went on")
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train.evaluation, "evaluate", stopped)
        with pytest.raises(Preempted):
            train.train_and_evaluate(config, tmp_path)
    assert newest_params(tmp_path)[0] == 3 * number
    assert len(validations(tmp_path)) == number - 1 if number > 1 else not (tmp_path / "validation.jsonl").exists()
    capsys.readouterr()
    train.train_and_evaluate(config, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("step "))
    assert first.startswith(f"step {3 * number}: miss rate on validation")
    assert validations(tmp_path) == validations(finished[0])
    assert_same_bits(newest_params(tmp_path)[1], newest_params(finished[0])[1])


def test_second_run_in_a_workdir_is_refused_while_the_first_is_at_work(finished, config, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    with (
        folder_lock(workdir, "busy"),
        pytest.raises(InputError, match=f"another run is at work in {workdir}; wait for its end"),
    ):
        train.train_and_evaluate(config, workdir)
    train.train_and_evaluate(config, workdir)


def test_file_system_without_locks_is_said_and_no_hindrance(finished, config, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    workdir = shutil.copytree(finished[0], tmp_path / "run")
    monkeypatch.setattr(fcntl, "flock", refuse)
    train.train_and_evaluate(config, workdir)
    assert f"warning: {workdir} cannot be locked (No locks available)" in capsys.readouterr().out


def test_loop_waits_for_the_step_before_the_last_one_so_that_a_signal_s_end_is_near(config, tmp_path, monkeypatch):
    original, wait = train.parallel.parallel_step, jax.block_until_ready
    steps, waited = [], []

    def parallel_step(*arguments):
        compiled = original(*arguments)

        def step(state, batch):
            state, metrics = compiled(state, batch)
            steps.append(metrics)
            return state, metrics

        step.lower = compiled.lower
        return step

    def block(value):
        waited.extend((number, len(steps)) for number, metrics in enumerate(steps, 1) if metrics is value)
        return wait(value)

    monkeypatch.setattr(train.parallel, "parallel_step", parallel_step)
    monkeypatch.setattr(runs.jax, "block_until_ready", block)
    train.train_and_evaluate(config, tmp_path)
    assert waited == [(number, number + 1) for number in range(1, STEPS - 1)]


def test_finished_run_is_only_scored_again(finished, config, capsys):
    before, lines = newest_params(finished[0]), validations(finished[0])
    again = train.train_and_evaluate(config, finished[0])
    assert "loss" not in capsys.readouterr().out
    assert_same_bits(newest_params(finished[0]), before)
    assert validations(finished[0]) == lines
    assert again.scores["reasonable-all"].miss_rate == finished[1].scores["reasonable-all"].miss_rate


def test_run_that_goes_on_for_longer_has_no_scores_until_it_is_finished_again(finished, config, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    longer = config.copy_and_resolve_references()
    longer.train.steps = STEPS + 3

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(longer, workdir)
    assert not (workdir / "evaluation" / "scores.json").exists()
    # One that is at its end keeps them.
    workdir = shutil.copytree(finished[0], tmp_path / "ended")
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(config, workdir)
    assert (workdir / "evaluation" / "scores.json").is_file()


def test_loss_that_is_not_a_number_names_step_and_remedy_and_keeps_the_last_good_checkpoint(
    config, tmp_path, monkeypatch
):
    original = fit.make_step

    def make_failing_step(*arguments, **keywords):
        step = original(*arguments, **keywords)

        def failing(state, batch):
            state, metrics = step(state, batch)
            return state, metrics | {"rdr_cls": jax.numpy.where(state.step > 4, np.nan, metrics["rdr_cls"])}

        return failing

    monkeypatch.setattr(fit, "make_step", make_failing_step)
    with pytest.raises(InputError, match=r"step 5: rdr_cls is not a finite number.*learning_rate") as error:
        train.train_and_evaluate(config, tmp_path)
    message = str(error.value)
    # Every term with its value, and which images it was.
    assert re.search(r"All terms: .*gradient_norm \d.*rdr_cls nan, ", message)
    named = message.partition("Images of the batch: ")[2].partition(". ")[0].split(", ")
    source = train.pipeline.open_split(train.sources.prepare(config.data), "train")
    known = [record["image_id"].decode() for record in source]
    assert len(named) == config.train.batch_size
    assert set(named) <= set(known)
    # The evaluation at step 3 saved a checkpoint; nothing later may have.
    step, params = newest_params(tmp_path)
    assert step == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_workdir_of_another_config_is_refused_and_left_alone(finished, config):
    other = config.copy_and_resolve_references()
    other.roi.hidden = 24
    before = newest_params(finished[0])
    with pytest.raises(InputError, match=r"config.roi.hidden: 8 in the workdir, 24 now\n") as error:
        train.train_and_evaluate(other, finished[0])
    assert "another --workdir" in str(error.value)
    assert_same_bits(newest_params(finished[0]), before)


def test_init_checkpoint_starts_from_its_parameters(finished, config, tmp_path, capsys):
    other = config.copy_and_resolve_references()
    other.init.checkpoint = str(finished[0])
    other.optimizer.learning_rate = 0.0
    other.train.steps = 1
    train.train_and_evaluate(other, tmp_path)
    printed = capsys.readouterr().out
    assert f"init: from {finished[0]}, step " in printed
    assert "  new: nothing\n  left out: nothing\n" in printed
    best, _, _ = checkpoints.restore_params(str(finished[0]))
    assert_same_bits(newest_params(tmp_path)[1], jax.device_get(best))


def test_checkpoint_of_another_model_is_refused_for_scoring(finished, config, tmp_path):
    other = config.copy_and_resolve_references()
    other.roi.hidden = 24
    with pytest.raises(InputError, match=r"instead of"):
        score.score_checkpoint(other, tmp_path, score.parallel_network(other), str(finished[0]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("roi.samples_per_bin", 3, "config.roi.samples_per_bin is 3, in its training it was 2"),
        ("anchors.smallest_px", 60.0, "config.anchors.smallest_px is 60.0, in its training it was 30.0"),
        ("cfl.aggregation", "average", "config.cfl.aggregation is average, in its training it was attention"),
        ("data.height_px", 64, "config.data.height_px is 64, in its training it was 32"),
    ],
)
def test_checkpoint_is_not_scored_as_another_detector_of_the_same_shapes(
    finished, config, tmp_path, key, value, message
):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=re.escape(message)):
        score.score_checkpoint(other, tmp_path, score.parallel_network(other), str(finished[0]))
    assert list(tmp_path.iterdir()) == []


def test_scores_of_another_run_are_not_written_over_a_run_s_own(finished, config, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    detector = score.parallel_network(config)
    before = (workdir / "evaluation" / "scores.json").read_text()
    (workdir / "teacher").symlink_to(finished[0])
    for other in (finished[0], workdir / "teacher", finished[0] / "best"):
        with pytest.raises(InputError, match=f"{workdir} is the workdir of a run, whose scores would be written over"):
            score.score_checkpoint(config, workdir, detector, str(other))
    assert (workdir / "evaluation" / "scores.json").read_text() == before
    score.score_checkpoint(config, workdir, detector, str(workdir / "checkpoints" / "3"))
    assert ", step 3" in (workdir / "evaluation" / "report.html").read_text()


def test_missing_checkpoint_is_named(config, tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'nothing'} holds no checkpoint")):
        score.score_checkpoint(config, tmp_path, score.parallel_network(config), str(tmp_path / "nothing"))


@pytest.mark.parametrize(("role", "thermal"), [("teacher", True), ("student", True), ("baseline", False)])
def test_batches_of_a_baseline_carry_nothing_thermal_and_those_of_a_student_serve_its_teacher(
    config, tiny_config, role, thermal
):
    own = on_tiny_scenes(tiny_config(role), config.data.data_dir)
    source = train.pipeline.open_split(train.sources.prepare(own.data), "train")
    with contextlib.closing(data.train_batches(source, own, None)) as batches:
        batch = next(batches)
    assert batch.visible.shape == (own.train.batch_size, 32, 40, 3)
    assert (batch.lwir is not None) == thermal


def test_baseline_trains_and_is_scored_on_records_without_thermal_images(
    config, tiny_config, tmp_path, monkeypatch, capsys
):
    baseline = on_tiny_scenes(tiny_config("baseline"), config.data.data_dir)
    baseline.train.steps = 2
    open_split = train.pipeline.open_split

    def open_rgb_split(builder, split):
        records = open_split(builder, split)
        return [{k: v for k, v in records[index].items() if k != "lwir"} for index in range(len(records))]

    monkeypatch.setattr(train.pipeline, "open_split", open_rgb_split)
    result = train.train_and_evaluate(baseline, tmp_path)
    step, params = newest_params(tmp_path)
    assert step == 2
    assert set(params) == {"backbone", "rpn", "roi_head", "segmentation_rpg", "segmentation_rdr"}
    assert [line["step"] for line in validations(tmp_path)] == [2]
    assert "RGB-only baseline, step 2" in capsys.readouterr().out
    assert len(result.detections) == 5
    scores = json.loads((tmp_path / "evaluation" / "scores.json").read_text())
    assert scores["blanked"] == scores["modality_weights"] == {}
    assert (tmp_path / "evaluation" / "panel.png").is_file()


def test_steps_move_and_trace_nothing_after_the_first(config, tmp_path, monkeypatch):
    config = config.copy_and_resolve_references()
    config.train.evaluate_every_epochs = 100.0
    wait, logged = runs.Run.wait_for_devices, []

    def guard(run):
        if run.step == 2:
            jax.config.update("jax_transfer_guard", "disallow")
            jax.config.update("jax_no_tracing", True)
        wait(run)

    def release(run, *_):
        jax.config.update("jax_transfer_guard", "allow")
        jax.config.update("jax_no_tracing", False)

    monkeypatch.setattr(runs.Run, "wait_for_devices", guard)
    monkeypatch.setattr(runs.Run, "save", release)
    monkeypatch.setattr(runs.Run, "score", release)
    monkeypatch.setattr(runs.RunLog, "write", lambda log, step, values: logged.append((step, sorted(values))))
    try:
        train.train(config, tmp_path, score.parallel_network(config))
    finally:
        release(None)
    assert [step for step, _ in logged] == list(range(1, STEPS + 1))
    assert "train/loss" in logged[-1][1]
