"""The paired runs of both gains, and the tables of their results."""

import json

import numpy as np
import pytest

from benchmarks import distillation_gain, finetune_gain, real_pairs
from configs import baseline
from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, score_subsets
from dcrl_jax.evaluation.rules import CONDITIONS, reasonable

SUBSETS = reasonable(10.0)
STARTS = ["--students", "s1", "s2", "--baselines", "b1", "b2"]


def detector(share, images=20):
    """Scores and matches where a detector finds ``share`` of one person per image, and a false alarm in each image."""
    truths, detections = [], {}
    for index in range(images):
        condition = CONDITIONS[1 + index % 2]
        truths.append(ImageTruth(str(index), condition, np.array([[0, 0, 10, 20]]), ["person"], [0], [False]))
        boxes, scores = [[50, 50, 10, 20]], [0.1]
        if index < share * images:
            boxes, scores = [[0, 0, 10, 20], *boxes], [0.9, *scores]
        detections[str(index)] = ImageDetections(np.array(boxes, float), np.array(scores))
    scores = score_subsets(truths, detections, SUBSETS)
    return {s.condition: (scores[s.name], match(truths, detections, s)) for s in SUBSETS}


def distillation_recipes(*arguments, seed=1):
    return distillation_gain.recipes(distillation_gain.parse(["--output=unused", *arguments]), seed)


def test_distillation_runs_of_a_seed_differ_in_their_loss_only():
    configs = distillation_recipes("--table4", "--config.optimizer.learning_rate=0.5", seed=7)
    assert list(configs) == ["baseline", "student", *distillation_gain.TABLE_IV[1:-1]]
    baseline, student = (configs[name].to_dict() for name in ("baseline", "student"))
    assert (baseline["seed"], baseline["optimizer"]["learning_rate"]) == (7, 0.5)
    assert (baseline["data"]["options"]["seed"], baseline["data"]["options"]["label_noise"]) == (7, True)
    for name, config in configs.items():
        config = config.to_dict()
        assert {key: config[key] for key in baseline} == baseline | {"role": config["role"]}, name
        assert config.get("teacher") == (student["teacher"] if config["role"] == "student" else None)
    assert distillation_recipes(seed=2)["student"].data.options.seed == 2


def test_variants_have_keys_of_their_own_and_clean_labels_no_noise():
    configs = distillation_recipes("--labels=clean", "--variant=soft:distillation.zeta=0;distillation.fea=False")
    assert (configs["soft"].distillation.zeta, configs["soft"].distillation.fea) == (0.0, False)
    assert configs["student"].distillation.zeta == 0.5
    assert not configs["baseline"].data.options.label_noise
    with pytest.raises(InputError, match="the config has no key 'zero'"):
        distillation_recipes("--variant=soft:distillation.zero=0")


def test_distillation_tables_show_means_differences_and_the_gap():
    pairs = [{"teacher": detector(1.0), "baseline": detector(0.5), "student": detector(s)} for s in (0.8, 0.7)]
    text, figures = distillation_gain.summarise(pairs)
    rates = figures["miss_rate_percent"]
    assert rates["baseline"]["all"] == pytest.approx([50.0, 50.0])
    assert rates["student"]["all"] == pytest.approx([20.0, 30.0])
    mean, low, high = figures["difference_from_baseline"]["student"]["all"]
    assert mean == pytest.approx(-25.0)
    assert low < -25.0 < high < 0.0
    # The teacher misses nobody: 30 and 20 of 50 points.
    assert figures["gap_closed_percent"]["student"]["all"] == pytest.approx([60.0, 40.0], abs=0.01)
    for cell in ("25.00 ± 7.07", "-25.00 [", "50.00 ± 14.14"):
        assert cell in text
    json.dumps(figures)
    text, figures = distillation_gain.summarise([pairs[0] | {"student": detector(0.5)}])
    assert figures["difference_from_baseline"]["student"]["all"] == [0.0, 0.0, 0.0]
    assert "±" not in text.splitlines()[-1]  # one seed has no spread


def test_finetuned_runs_of_a_seed_differ_in_their_start_only():
    options = finetune_gain.parse(["--output=unused", *STARTS, "--steps=50", "--scenes=100"])
    configs = {row: config.to_dict() for row, config in finetune_gain.recipes(options, seed=2).items()}
    assert {row: config.pop("init") for row, config in configs.items()} == {
        "baseline": {"vgg16": None, "rescale": False, "checkpoint": "b2", "roles": ("baseline",)},
        "dcrd": {"vgg16": None, "rescale": False, "checkpoint": "s2", "roles": ("student",)},
    }
    dcrd = configs["dcrd"]
    assert configs["baseline"] == dcrd
    assert dcrd["seed"] == dcrd["data"]["options"]["seed"] == 2
    assert dcrd["train"]["steps"] == 50
    # Scored on validation scenes at the end only.
    assert dcrd["train"]["evaluate_every_epochs"] * 100 / dcrd["train"]["batch_size"] == 50


def test_as_many_students_as_baselines_are_asked_for(capsys):
    with pytest.raises(SystemExit):
        finetune_gain.parse(["--output=unused", *STARTS, "b3"])
    assert "2 students and 3 baselines: give as many of each" in capsys.readouterr().err


def test_finetuning_tables_show_both_states_each_seed_and_differences():
    before = {"baseline, before": detector(0.1), "dcrd, before": detector(0.2)}
    pairs = [before | {"baseline, after": detector(0.5), "dcrd, after": detector(share)} for share in (0.8, 0.6)]
    text, figures = finetune_gain.summarise(pairs)
    rates = figures["miss_rate_percent"]
    assert rates["baseline, before"]["all"] == pytest.approx([90.0, 90.0])
    assert rates["dcrd, after"]["all"] == pytest.approx([20.0, 40.0])
    assert figures["difference"]["before"]["all"][0] == pytest.approx(-10.0)
    mean, low, high = figures["difference"]["after"]["all"]
    assert mean == pytest.approx(-20.0)
    assert low < -20.0 < high
    means, seeds, differences = text.split("\n\n")
    assert means.splitlines()[-1].split("  ")[0] == "dcrd, after"
    assert "30.00 ± 14.14" in means.splitlines()[-1]
    assert seeds.splitlines()[-1].split()[-2:] == ["20.00", "40.00"]
    assert "-10.00 [" in differences.splitlines()[-2]
    assert "-20.00 [" in differences.splitlines()[-1]
    json.dumps(figures)


def test_real_pairs_are_scored_against_every_label_set(tmp_path, monkeypatch, capsys):
    config = baseline.get_config("msrs")
    (tmp_path / "config.json").write_text(json.dumps(checkpoints.config_to_json(config)))
    asked = []

    def score_runs(config, workdirs):
        asked.append((config.data.options.labels, list(workdirs)))
        return {"student": detector(0.75), "baseline": detector(0.5), "teacher": detector(0.9)}

    monkeypatch.setattr(real_pairs, "score_runs", score_runs)
    real_pairs.main(["--students", "s", "--baselines", str(tmp_path), "--teacher", "t"])
    assert asked == [(labels, ["teacher", "student", "baseline"]) for labels in ("fusion", "visible", "infrared")]
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith("student - baseline")]
    assert [line[3] for line in lines] == ["-25.00"] * 3
    assert "miss rate, %, labels infrared" in printed
    with pytest.raises(SystemExit):
        real_pairs.main(["--students", "s", "s", "--baselines", "b"])
    assert "2 students and 1 baselines" in capsys.readouterr().err
