"""Whole runs on a handful of tiny scenes."""

import itertools
import json
import re
import signal

import jax
import numpy as np
import pytest

from dcrl_jax import checkpoints, parallel
from dcrl_jax.errors import InputError
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.training import loop
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.step import TrainState, make_step

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STEPS = 6


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    config = tiny_config()
    config.data.options = {"height_px": 32, "width_px": 40, "train": 10, "validation": 4, "test": 5}
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
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
    return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, loop.train_and_evaluate(config, workdir)


def newest_params(workdir):
    params, _, step = checkpoints.restore_params(str(workdir / checkpoints.RESUME_FOLDER))
    return step, jax.device_get(params)


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def stop_in_step(monkeypatch, number):
    """Presses Ctrl-C while a step is under way."""
    original = loop.parallel.parallel_step
    calls = itertools.count(1)

    def parallel_step(*arguments):
        step = original(*arguments)

        def interrupted(state, batch):
            if next(calls) == number:
                signal.raise_signal(signal.SIGINT)
            return step(state, batch)

        return interrupted

    monkeypatch.setattr(loop.parallel, "parallel_step", parallel_step)


def test_run_leaves_checkpoints_logs_config_and_report(finished, config):
    workdir, evaluation = finished
    assert newest_params(workdir)[0] == STEPS
    assert (workdir / "best").is_dir()
    assert json.loads((workdir / "config.json").read_text()) == checkpoints.config_to_json(config)
    assert list((workdir / "logs").glob("events*"))
    names = {"results.txt", "results.json", "images.txt", "scores.json", "miss_rate.png", "panel.png"}
    assert names <= {path.name for path in (workdir / "evaluation").iterdir()}
    assert set(evaluation.detections) == set((workdir / "evaluation" / "images.txt").read_text().split())
    assert len(evaluation.detections) == 5
    assert set(evaluation.blanked_scores) == {"visible", "lwir"}
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text())
    everybody = evaluation.scores["reasonable-all"]
    assert scores["scores"]["reasonable-all"]["miss_rate_percent"] == 100 * everybody.miss_rate


def test_interrupted_run_goes_on_bit_for_bit_where_it_stopped(finished, config, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_in_step(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            loop.train_and_evaluate(config, tmp_path)
    assert newest_params(tmp_path)[0] == 4
    assert "stopped at step 4; the same command goes on from there" in capsys.readouterr().out
    loop.train_and_evaluate(config, tmp_path)
    assert f"resume: step 4 of {STEPS}" in capsys.readouterr().out
    assert_same_bits(newest_params(tmp_path)[1], newest_params(finished[0])[1])


def test_finished_run_is_only_scored_again(finished, config, capsys):
    before = newest_params(finished[0])
    again = loop.train_and_evaluate(config, finished[0])
    assert "loss" not in capsys.readouterr().out
    assert_same_bits(newest_params(finished[0]), before)
    assert again.scores["reasonable-all"].miss_rate == finished[1].scores["reasonable-all"].miss_rate


def test_loss_that_is_not_a_number_names_step_and_remedy_and_keeps_the_last_good_checkpoint(
    config, tmp_path, monkeypatch
):
    original = loop.make_step

    def make_failing_step(*arguments):
        step = original(*arguments)

        def failing(state, batch):
            state, metrics = step(state, batch)
            return state, metrics | {"rdr_cls": jax.numpy.where(state.step > 4, np.nan, metrics["rdr_cls"])}

        return failing

    monkeypatch.setattr(loop, "make_step", make_failing_step)
    with pytest.raises(InputError, match=r"step 5: rdr_cls is not a finite number.*learning_rate"):
        loop.train_and_evaluate(config, tmp_path)
    # The evaluation at step 3 saved a checkpoint; nothing later may have.
    step, params = newest_params(tmp_path)
    assert step == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_workdir_of_another_model_is_refused_and_left_alone(finished, config):
    other = config.copy_and_resolve_references()
    other.roi.hidden = 24
    before = newest_params(finished[0])
    with pytest.raises(InputError, match=r"roi_heads_lwir/fc6.*instead of") as error:
        loop.train_and_evaluate(other, finished[0])
    assert "another workdir" in str(error.value)
    assert_same_bits(newest_params(finished[0]), before)


def test_init_checkpoint_starts_from_its_parameters(finished, config, tmp_path, capsys):
    other = config.copy_and_resolve_references()
    other.init.checkpoint = str(finished[0])
    other.optimizer.learning_rate = 0.0
    other.train.steps = 1
    loop.train_and_evaluate(other, tmp_path)
    assert f"init: all parameters from {finished[0]}" in capsys.readouterr().out
    best, _, _ = checkpoints.restore_params(str(finished[0]))
    assert_same_bits(newest_params(tmp_path)[1], jax.device_get(best))


def test_checkpoint_of_another_model_is_refused_for_scoring(finished, config, tmp_path):
    other = config.copy_and_resolve_references()
    other.backbone.norm = "none"
    with pytest.raises(InputError, match=r"norm1_1.*not expected"):
        loop.score_checkpoint(other, tmp_path, str(finished[0]))


def test_missing_checkpoint_is_named(config, tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'nothing'} holds no checkpoint")):
        loop.score_checkpoint(config, tmp_path, str(tmp_path / "nothing"))


def test_loop_moves_and_traces_nothing_after_the_first_steps(config, tmp_path):
    model, anchors = build_model(config), build_anchors(config)
    mesh = parallel.device_mesh()
    schedule = build_schedule(config, 10)
    optimizer = build_optimizer(config, schedule)
    params = init_params(model, config, 0)
    state = TrainState(np.int32(0), params, optimizer.init(params))
    state = parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), mesh)
    step_function = parallel.parallel_step(
        make_step(model, optimizer, anchors, training_rules(config), config.seed), mesh
    )
    builder = loop.sources.prepare(config.data)
    source = loop.pipeline.open_split(builder, "train")
    iterator = loop.train_data(source, config, parallel.batch_sharding(mesh))
    seen = itertools.count(1)

    class Guarded:
        """Forbids transfers and traces from the third batch on."""

        def __next__(self):
            batch = next(iterator)
            if next(seen) == 3:
                jax.config.update("jax_transfer_guard", "disallow")
                jax.config.update("jax_no_tracing", True)
            return batch

    logged = []

    class Writer:
        def add_scalar(self, name, value, step):
            logged.append((name, step))

    try:
        state = loop.run_steps(
            step_function,
            state,
            Guarded(),
            last_step=STEPS,
            config=config,
            evaluate_every=STEPS,
            learning_rates=np.zeros(STEPS),
            writer=Writer(),
            save=None,
            score_and_save=lambda state, step: None,
        )
    finally:
        jax.config.update("jax_transfer_guard", "allow")
        jax.config.update("jax_no_tracing", False)
        iterator.close()
    assert int(state.step) == STEPS
    assert ("train/loss", STEPS) in logged
