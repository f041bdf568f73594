"""The figures of a network's first steps, on a baseline of the fewest channels."""

import json

import jax
import numpy as np
import pytest

from benchmarks import first_steps
from benchmarks.term_gradients import ALL, measure_terms
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import Batch
from dcrl_jax.training.terms import training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")


def make_batch(seed):
    rng = np.random.default_rng(seed)
    boxes = np.tile(np.float32([[4, 4, 12, 24], [0, 0, 0, 0]]), (2, 1, 1))
    return Batch(
        visible=rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8),
        lwir=rng.integers(0, 256, (2, 32, 48, 1), dtype=np.uint8),
        boxes=boxes,
        is_person=np.array([[True, False]] * 2),
        is_ignore=np.zeros((2, 2), bool),
        is_night=np.zeros(2, bool),
        index=np.arange(2, dtype=np.int32),
        valid=np.ones(2, bool),
    )


@pytest.fixture(scope="module")
def baseline(tiny_config, random_params):
    config = tiny_config("baseline")
    network = build_network(config)
    return config, network, random_params(network)


def test_terms_have_their_sizes_and_gradients(baseline):
    config, network, params = baseline
    rules = training_rules(config)
    rules = rules._replace(weights={**rules.weights, "rpg_seg": 0.0, "rdr_cls": 2.0})
    found = measure_terms(network, params, rules, [make_batch(0), make_batch(1)], seed=3)
    assert set(found) == {"rpg_cls", "rpg_reg", "rdr_cls", "rdr_reg", "rdr_seg", ALL}
    total = sum(rules.weights[name] * term.size for name, term in found.items() if name != ALL)
    assert found[ALL].size == pytest.approx(total)
    assert found["rdr_cls"].size == pytest.approx(np.log(2), abs=0.1)  # two classes at random
    norms = [term.norm for name, term in found.items() if name != ALL]
    assert min(norms) > 0
    # The gradient of a sum is no longer than its parts together.
    assert max(norms) - sum(sorted(norms)[:-1]) <= found[ALL].norm <= sum(norms)


def test_dead_channels_are_those_that_no_image_wakes(baseline):
    _, network, params = baseline
    conv5 = params["backbone"]["conv5_1"]
    alive = {"kernel": conv5["kernel"], "bias": np.full_like(conv5["bias"], 9)}
    dead = jax.tree.map(np.copy, alive)
    dead["kernel"][..., 1], dead["bias"][1] = 0, -1
    shares = []
    for layer in (alive, dead):
        own = {**params, "backbone": {**params["backbone"], "conv5_1": layer}}
        shares.append(first_steps._features(network, own, [make_batch(0), make_batch(1)]))
    channels = conv5["bias"].size
    assert [share["dead channels of conv5, visible"] for share in shares] == ["0.0 %", f"{100 / channels:.1f} %"]
    assert float(shares[0]["RMS of conv5, visible"]) > float(shares[1]["RMS of conv5, visible"]) > 0
    assert "weight of lwir: mean, least, largest" not in shares[0]


def test_a_column_has_the_losses_of_its_run(baseline, tmp_path, monkeypatch):
    config, _, params = baseline
    values = {"train/loss": 99.0, "train/rpg_branches": 9.0, "train/rdr_cls": 1.0}
    lines = [{"step": step, "train/rpg_cls": 9.0 - step} | values for step in range(10)] + [
        {"step": 10, "test/rate": 1}
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(first_steps.checkpoints, "restore_params", lambda path: (params, config, 10))
    monkeypatch.setattr(first_steps.sources, "prepare", lambda data: None)
    monkeypatch.setattr(first_steps, "open_train_source", lambda builder, data: None)
    monkeypatch.setattr(first_steps, "_batches", lambda source, config: [make_batch(0)])
    monkeypatch.setattr(first_steps, "first_params", lambda *_: params)
    figures, norms = first_steps.measure(tmp_path)
    assert list(figures.values())[:3] == [10, "10.00", "1.00"]
    first, trained = norms[ALL].split(", ")
    assert first == trained
