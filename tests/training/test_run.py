"""A run and its workdir, with a step that adds up its batches and miss rates that follow from the parameters."""

import errno
import fcntl
import json
import shutil
import signal
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import assert_same_bits, changed, json_lines, newest_params

from dcrl_jax import checkpoints, parallel
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.evaluation.rules import reasonable
from dcrl_jax.files import folder_lock
from dcrl_jax.training import run as runs
from dcrl_jax.training.step import TrainState
from dcrl_jax.training.train import run_steps

STEPS = 6
STOP = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


def make_record(number):
    image = cv2.imencode(".png", np.full((12, 16, 3), number, np.uint8))[1].tobytes()
    objects = {"box": [], "label": [], "occlusion": [], "ignore": []}
    return {"image_id": b"I%d" % number, "visible": image, "condition": 0, "objects": objects}


SOURCE = [make_record(number) for number in range(10)]


@jax.jit
def add(state, batch):
    """Return a state that depends on the former one, its optimizer's state and the order of the data."""
    total = jnp.sum(batch.index * jnp.arange(1, 5).reshape(batch.index.shape))
    moment = 0.5 * state.opt_state["moment"] + total
    return TrainState(state.step + 1, {"w": state.params["w"] + moment}, {"moment": moment}), {"loss": moment}


def scores_of(params):
    """Return an evaluation whose miss rate seems random."""
    rates = (float(np.sin(params["w"]) ** 2), float("nan"))
    subsets = reasonable(55.0, None)
    scores = {s.name: SimpleNamespace(miss_rate=rate, subset=s) for s, rate in zip(subsets, rates, strict=False)}
    coco = {"all": SimpleNamespace(ap=0.25, ap50=0.5)}
    return SimpleNamespace(scores=scores, coco=coco, warnings=("labels are missing",))


@pytest.fixture(scope="module")
def config(tiny_config):
    """Six steps of four of the ten images, scored after the third and the last."""
    config = tiny_config("baseline")
    config.data.update(height_px=16, width_px=16)
    config.train.update(batch_size=4, steps=STEPS, log_every_steps=1, evaluate_every_epochs=3 * 4 / 10)
    return config


@pytest.fixture(scope="module", autouse=True)
def evaluate():
    """A bench is a function from parameters to an evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.evaluation, "evaluate", lambda bench, params: bench(params))
        yield


def start(workdir, config, step=add, bench=scores_of):
    """Start or resume a run, and return its last state."""
    resumes = runs.has_checkpoint(workdir)
    with runs.Run(workdir, config, SOURCE) as run:
        state = TrainState(np.int32(0), {"w": np.float32(0)}, {"moment": np.float32(0)})
        state = parallel.replicate(state, parallel.device_mesh())
        if resumes:
            state = run.restore(state)
        run.begin(state, 1, None, np.linspace(0.6, 0.1, config.train.steps))
        return run_steps(run, step, state, bench)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The workdir of a complete run, and its last state."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, jax.device_get(start(workdir, config))


def validations(workdir):
    return json_lines(workdir / "validation.jsonl")


def signal_in_step(number, sent):
    """Return the step; while it runs for the ``number``-th time a signal arrives."""
    calls = []

    def step(state, batch):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(sent)
        return add(state, batch)

    return step


def test_run_leaves_checkpoints_metrics_and_scores(finished, config):
    workdir, state = finished
    step, params = newest_params(workdir)
    assert step == STEPS
    assert_same_bits(params, state.params)
    assert json.loads((workdir / "config.json").read_text()) == checkpoints.config_to_json(config)
    metrics = json_lines(workdir / "metrics.jsonl")
    losses = [(line["step"], line["train/learning_rate"]) for line in metrics if "train/loss" in line]
    assert losses == [(n, pytest.approx(0.7 - n / 10)) for n in range(1, STEPS + 1)]
    lines = validations(workdir)
    assert [line["step"] for line in lines] == [3, STEPS]
    assert {line["reasonable-day"] for line in lines} == {None}  # nobody walks there
    percent = {line["step"]: line["reasonable-all"] for line in lines}
    assert percent[STEPS] == pytest.approx(100 * np.sin(params["w"]) ** 2)
    # The best parameters are those of the lowest miss rate in the first subset.
    assert checkpoints.newest_step(workdir / "best") == min(percent, key=percent.get)
    assert [line["validation/reasonable-all"] for line in metrics if "validation/reasonable-all" in line] == [
        pytest.approx(rate / 100) for rate in percent.values()
    ]
    assert [line["validation/coco-ap50"] for line in metrics if "validation/coco-ap50" in line] == [0.5] * len(percent)


@pytest.mark.parametrize(("sent", "stopped_in"), [(signal.SIGINT, 4), (signal.SIGTERM, 2)])
def test_stopped_run_resumes_bit_for_bit(finished, config, tmp_path, capsys, sent, stopped_in):
    with pytest.raises(STOP[sent]):
        start(tmp_path, config, signal_in_step(stopped_in, sent))
    assert newest_params(tmp_path)[0] == stopped_in
    printed = capsys.readouterr().out
    assert f"stopped at step {stopped_in}; the same command goes on from there" in printed
    assert_same_bits(jax.device_get(start(tmp_path, config)), finished[1])
    assert f"resume: step {stopped_in} of {STEPS}" in capsys.readouterr().out
    assert validations(tmp_path) == validations(finished[0])


@pytest.mark.parametrize("number", [1, 2])
def test_run_stopped_during_scoring_scores_first_afterwards(finished, config, tmp_path, capsys, number):
    calls = []

    def stopped(params):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("went on")
        return scores_of(params)

    with pytest.raises(Preempted):
        start(tmp_path, config, bench=stopped)
    assert newest_params(tmp_path)[0] == 3 * number
    assert (tmp_path / "validation.jsonl").exists() == (number == 2)
    capsys.readouterr()
    assert_same_bits(jax.device_get(start(tmp_path, config)), finished[1])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("step ", "warning"))]
    assert lines[0].startswith(f"step {3 * number}: miss rate on validation all ")
    assert lines[1] == "warning: labels are missing"
    assert validations(tmp_path) == validations(finished[0])


def test_finished_run_neither_trains_nor_scores(finished, config, tmp_path, capsys):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / "evaluation").mkdir()
    scores = workdir / "evaluation" / "scores.json"
    scores.touch()
    assert_same_bits(jax.device_get(start(workdir, config, step=None, bench=None)), finished[1])
    assert "loss" not in capsys.readouterr().out
    assert validations(workdir) == validations(finished[0])
    assert scores.is_file()
    # A longer run has no scores until it is finished again.
    with pytest.raises(KeyboardInterrupt):
        start(workdir, changed(config, {"train.steps": STEPS + 3}), signal_in_step(1, signal.SIGINT))
    assert newest_params(workdir)[0] == STEPS + 1
    assert not scores.exists()


def test_checkpoints_are_saved_by_the_clock(config, tmp_path):
    own = changed(config, {"train.checkpoint_every_minutes": 1e-9, "train.log_every_steps": 4})
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, own, signal_in_step(2, signal.SIGINT))
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"1", "2"}


def test_busy_or_unwritable_workdir_is_refused(config, tmp_path):
    with folder_lock(tmp_path, "busy"), pytest.raises(InputError, match=f"is at work in {tmp_path}; wait for its end"):
        start(tmp_path, config)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/run cannot be written to: Not a directory\. Give another --workdir\."):
        start(tmp_path / "file" / "run", config)


def test_file_system_without_locks_is_a_warning(config, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    start(tmp_path, changed(config, {"train.steps": 1}))
    assert f"warning: {tmp_path} cannot be locked (No locks available)" in capsys.readouterr().out


def test_loss_that_is_not_finite_ends_the_run_at_the_last_good_checkpoint(config, tmp_path):
    def step(state, batch):
        new, metrics = add(state, batch)
        return new, metrics | {"rdr_cls": jnp.where(state.step > 3, jnp.nan, 1.0)}

    with pytest.raises(InputError, match=r"step 5: rdr_cls is not a finite number.*learning_rate") as refusal:
        start(tmp_path, config, step)
    terms, _, images = str(refusal.value).partition("All terms: ")[2].partition(". Images of the batch: ")
    assert terms.startswith("loss ")
    assert terms.endswith(", rdr_cls nan")
    named = images.partition(". ")[0].split(", ")
    assert len(set(named)) == config.train.batch_size
    assert set(named) <= {record["image_id"].decode() for record in SOURCE}
    # The evaluation at step 3 saved a checkpoint.
    assert newest_params(tmp_path)[0] == 3


def test_loop_waits_for_the_step_before_the_last_and_moves_nothing(config, tmp_path, monkeypatch):
    wait, steps, waited = jax.block_until_ready, [], []

    def step(state, batch):
        if len(steps) == 2:
            jax.config.update("jax_transfer_guard", "disallow")
            jax.config.update("jax_no_tracing", True)
        state, metrics = add(state, batch)
        steps.append(metrics)
        return state, metrics

    def block(value):
        waited.extend((number, len(steps)) for number, metrics in enumerate(steps, 1) if metrics is value)
        return wait(value)

    def release(*_):
        jax.config.update("jax_transfer_guard", "allow")
        jax.config.update("jax_no_tracing", False)

    monkeypatch.setattr(runs.jax, "block_until_ready", block)
    monkeypatch.setattr(runs.Run, "save", release)
    monkeypatch.setattr(runs.Run, "score", release)
    try:
        start(tmp_path, changed(config, {"train.evaluate_every_epochs": 100.0}), step)
    finally:
        release()
    assert waited == [(number, number + 1) for number in range(1, STEPS - 1)]
