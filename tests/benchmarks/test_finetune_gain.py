"""The pairs that are fine-tuned, and the tables of what came of them."""

import json

import pytest
from detector_cases import detected

from benchmarks import finetune_gain as gain

ARGUMENTS = ("--output=unused", "--students", "s1", "s2", "--baselines", "b1", "b2")


def test_runs_of_a_pair_differ_in_their_start_alone():
    made = gain.recipes(gain.parse([*ARGUMENTS, "--steps=50", "--scenes=100"]), seed=2)
    plain = {row: config.to_dict() for row, config in made.items()}
    assert {row: config.pop("init") for row, config in plain.items()} == {
        "baseline": {"vgg16": None, "checkpoint": "b2", "roles": ("baseline",)},
        "dcrd": {"vgg16": None, "checkpoint": "s2", "roles": ("student",)},
    }
    assert plain["baseline"] == plain["dcrd"]
    assert plain["dcrd"]["seed"] == plain["dcrd"]["data"]["options"]["seed"] == 2
    assert plain["dcrd"]["train"]["steps"] == 50
    # Scored on validation scenes in the end alone.
    assert plain["dcrd"]["train"]["evaluate_every_epochs"] * 100 / plain["dcrd"]["train"]["batch_size"] == 50


def test_as_many_students_as_baselines_are_asked_for(capsys):
    with pytest.raises(SystemExit):
        gain.parse([*ARGUMENTS, "b3"])
    assert "2 students and 3 baselines: give as many of each" in capsys.readouterr().err


def test_tables_show_before_and_after_each_seed_and_the_differences():
    pairs = [
        {
            ("baseline", "before"): detected(0.1),
            ("dcrd", "before"): detected(0.2),
            ("baseline", "after"): detected(0.5),
            ("dcrd", "after"): detected(after),
        }
        for after in (0.8, 0.6)
    ]
    text, figures = gain.summarise(pairs)
    rates = figures["miss_rate_percent"]
    assert rates["baseline, before"]["all"] == pytest.approx([90.0, 90.0])
    assert rates["dcrd, after"]["all"] == pytest.approx([20.0, 40.0])
    assert figures["difference"]["before"]["all"][0] == pytest.approx(-10.0)
    mean, low, high = figures["difference"]["after"]["all"]
    assert mean == pytest.approx(-20.0)
    assert low < -20.0 < high
    lines = {line.partition("  ")[0]: line for line in text.splitlines()[::-1]}
    assert "30.00 ± 14.14" in lines["DCRD (student), fine-tuned"]
    assert "-20.00 [" in lines["DCRD - baseline, fine-tuned"]
    assert "-10.00 [" in lines["DCRD - baseline, before fine-tuning"]
    each = [line.split()[-2:] for line in text.splitlines() if line.startswith("DCRD (student), fine-tuned")]
    assert ["20.00", "40.00"] in each
    json.dumps(figures)
