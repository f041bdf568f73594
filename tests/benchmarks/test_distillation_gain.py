"""The pairs that the benchmark trains, and the tables that it makes of their results."""

import json

import pytest
from detector_cases import detected

from benchmarks import distillation_gain as gain


def options(*arguments):
    return gain.parse(["--output=unused", *arguments])


def test_runs_of_a_pair_differ_in_their_loss_alone():
    made = gain.recipes(options("--table4", "--override=optimizer.learning_rate=0.5"), seed=7)
    assert list(made) == ["baseline", "student", *gain.TABLE_IV[1:-1]]
    plain = made["baseline"].to_dict()
    assert (plain["seed"], plain["optimizer"]["learning_rate"]) == (7, 0.5)
    assert plain["data"]["options"]["seed"] == 7
    assert plain["data"]["options"]["label_noise"] is True
    for name, config in made.items():
        own = config.to_dict()
        for section in ("role", "distillation", "teacher"):
            own.pop(section, None)
        assert own == {key: value for key, value in plain.items() if key != "role"}, name
    teachers = [config.teacher.to_dict() for config in made.values() if config.role == "student"]
    assert all(teacher == teachers[0] for teacher in teachers)


def test_variants_have_keys_of_their_own_and_clean_labels_no_noise():
    made = gain.recipes(
        options("--labels=clean", "--variant=soft:distillation.zeta=0.0;distillation.fea=False"), seed=1
    )
    assert made["soft"].distillation.zeta == 0.0
    assert made["soft"].distillation.fea is False
    assert made["student"].distillation.zeta == 0.5
    assert not made["baseline"].data.options.label_noise


def test_another_seed_has_other_scenes():
    first, second = (gain.recipes(options(), seed)["baseline"].data.options for seed in (1, 2))
    assert first.seed != second.seed


def test_tables_show_means_spreads_differences_and_the_share_of_the_gap():
    pairs = {
        1: {"teacher": detected(1.0), "baseline": detected(0.5), "student": detected(0.8)},
        2: {"teacher": detected(1.0), "baseline": detected(0.5), "student": detected(0.7)},
    }
    text, figures = gain.summarise(pairs, ["teacher", "baseline", "student"])
    rates = figures["miss_rate_percent"]
    assert rates["baseline"]["all"] == pytest.approx([50.0, 50.0])
    assert rates["student"]["all"] == pytest.approx([20.0, 30.0])
    mean, low, high = figures["difference_from_baseline"]["student"]["all"]
    assert mean == pytest.approx(-25.0)
    assert low < -25.0 < high < 0.0
    # The teacher misses nobody: 30 and 20 of 50 points.
    assert figures["gap_closed_percent"]["student"]["all"] == pytest.approx([60.0, 40.0], abs=0.01)
    assert "25.00 ± 7.07" in text
    assert "-25.00 [" in text
    assert "50.00 ± 14.14" in text
    json.dumps(figures)


def test_equal_detectors_differ_by_nothing():
    pairs = {1: {"teacher": detected(1.0), "baseline": detected(0.5), "student": detected(0.5)}}
    _, figures = gain.summarise(pairs, ["teacher", "baseline", "student"])
    assert figures["difference_from_baseline"]["student"]["all"] == [0.0, 0.0, 0.0]
