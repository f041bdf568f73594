"""Model cards: what they say is what was given, and nothing is said that was not measured."""

import pytest

from dcrl_jax.checkpoints import config_to_json
from dcrl_jax.inference.model_card import PAPER, model_card

START = {
    "seed": 0,
    "commit": "abc",
    "python": "3.11.7",
    "processes": 2,
    "devices": ["H200"] * 4,
    "versions": {"jax": "0.7.2", "flax": "0.11.2"},
    "command": ["main.py", "--workdir=/home/me/run"],
    "machine": "Linux",
}


def row(miss_rate, people):
    return {
        "miss_rate_percent": miss_rate,
        "recall_percent": 90.125,
        "average_precision_percent": 71.0,
        "people": people,
        "images": 10 * people,
    }


def scores(**changes):
    return {
        "scores": {
            "reasonable-all": row(12.344, 5),
            "reasonable-day": row(None, 0),
            "reasonable-night": row(7.0, 3),
        },
        "further": {},
        "blanked": {},
        "modality_weights": {},
        "warnings": [],
        "data": {"name": "kaist", "split": "test", "options": {"annotations": "improved", "test_list": None}},
        "people_who_count": "at least 55 pixels tall, at most partly occluded",
    } | changes


@pytest.fixture
def card(tiny_config):
    def make(role="teacher", scores=None, start=None, distillation=(), **data):
        config = config_to_json(tiny_config(role))
        config["data"] |= data
        if role == "student":
            config["distillation"] |= dict(distillation)
        return model_card(config, 750, 1234567, "random parameters", scores, "nobody asked", start)

    return make


def table_row(text, title):
    """The cells after the title."""
    (line,) = [line for line in text.splitlines() if line.startswith("|") and title in line]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_front_matter_is_first_and_has_what_the_hub_reads(card):
    top, *_ = card("student").removeprefix("---\n").partition("\n---\n")
    keys = dict(line.split(": ") for line in top.splitlines() if ": " in line)
    assert keys["library_name"] == "dcrl_jax"
    assert keys["pipeline_tag"] == "object-detection"
    assert keys["license"] == "other"
    assert keys["license_name"] == "code-apache-2.0-weights-not-yet-chosen"
    tags = [line[2:] for line in top.partition("tags:\n")[2].splitlines()]
    assert {"jax", "pedestrian-detection", "student", "synthetic_rgbt", "knowledge-distillation"} <= set(tags)
    assert "rgb-thermal" not in tags


@pytest.mark.parametrize(
    ("role", "title", "sees", "call"),
    [
        ("teacher", "DCRL-PDN, the teacher", "RGB and thermal (lwir)", 'detector("visible.png", "lwir.png")'),
        ("student", "DCRD-PDN, the student", "RGB", 'detector("visible.png")'),
        ("baseline", "the RGB-only baseline", "RGB", 'detector("visible.png")'),
    ],
)
def test_card_says_what_it_is_and_how_it_is_used(card, role, title, sees, call):
    text = card(role)
    assert f"\n{title}" in text
    assert table_row(text, "sees") == [sees]
    assert table_row(text, "input")[0].startswith("48x32 pixels")
    assert table_row(text, "parameters |") == ["1,234,567, float32, of step 750"]
    assert 'Detector.from_pretrained("hf://OWNER/NAME")' in text
    assert call in text


def test_student_without_any_distillation_is_called_what_it_is(card):
    off = dict.fromkeys(("fea", "cls", "bbr", "seg"), False)
    for terms in (off, off | {"bbr": True}):
        text = card("student", distillation=terms)
        assert ("has learnt from a teacher" in text) == ("knowledge-distillation" in text) == terms["bbr"]
        assert ("trained without a teacher" in text) != terms["bbr"]


def test_card_without_scores_says_so_and_has_no_table_of_them(card):
    text = card()
    assert "## Measured\n\nNot measured: nobody asked.\n" in text
    assert "miss rate" not in text


def test_scores_stand_in_the_table_as_they_were_measured(card):
    text = card(scores=scores(), data_dir=None)
    assert "Not measured" not in text
    assert "split `test` of kaist (annotations=improved). People who" in text
    assert "People who count (`reasonable-all`): at least 55 pixels tall, at most partly occluded." in text
    assert table_row(text, "log-average miss rate") == ["12.34", "-", "7.00"]
    assert table_row(text, "average precision") == ["71.00"] * 3
    assert table_row(text, "people ") == ["5", "0", "3"]
    assert table_row(text, "images  ") == ["50", "0", "30"]


def test_scores_by_a_benchmark_s_own_rules_have_its_subsets(card):
    own = {"nightowls-reasonable": row(17.5, 5), "nightowls-small": row(None, 0)}
    text = card("baseline", scores=scores(scores=own, people_who_count="at least 50 pixels tall"))
    assert "People who count (`nightowls-reasonable`): at least 50 pixels tall." in text
    assert table_row(text, "reasonable")[:2] == ["reasonable", "small"]
    assert table_row(text, "log-average miss rate") == ["17.50", "-"]


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("student",), "DCRD-PDN, the student: it looks at RGB images alone, and has learnt from a teacher"),
        (("baseline",), "the RGB-only baseline"),
        (("student", "baseline"), "a detector that looks at RGB images alone; fine-tuned on "),
    ],
)
def test_fine_tuned_detector_is_called_what_it_was_and_what_it_became(tiny_config, roles, said):
    config = config_to_json(tiny_config("baseline"))
    config["init"]["roles"] = list(roles)
    text = model_card(config, 750, 1234567, "the parameters of another run", None, "nobody asked", None)
    assert f"\n{said}" in text
    assert "; fine-tuned on synthetic_rgbt, without a teacher. An implementation" in text


def test_blanked_modalities_weights_further_subsets_and_warnings_are_shown(card):
    measured = scores(
        blanked={"lwir": {"reasonable-all": 80.0, "reasonable-day": 70.0, "reasonable-night": 90.0}},
        modality_weights={"all": [0.25, 0.75], "night": [0.1, 0.9]},
        further={"reasonable-near": 4.5},
        warnings=["12 images are missing"],
    )
    text = card(scores=measured)
    assert table_row(text, "lwir switched off") == ["80.00", "70.00", "90.00"]
    assert table_row(text, "mean weight of lwir") == ["0.75", "-", "0.90"]
    assert table_row(text, "reasonable-near") == ["4.50"]
    assert "Warning of the scoring: 12 images are missing" in text


def test_settings_seed_and_versions_are_shown_and_the_command_line_is_not(card):
    text = card("student", start=START)
    assert "Started from random parameters." in text
    assert table_row(text, "`distillation.rho`") == ["0.5"]
    assert table_row(text, "`segmentation.stages`") == ["rpg, rdr"]
    assert "Seed 0; commit abc; Python 3.11.7, jax 0.7.2, flax 0.11.2; devices" in text
    assert "2 x 4 x H200" in text
    assert "/home/me" not in text


def test_run_without_a_record_has_a_seed_and_no_versions(card):
    assert "Seed 0; versions not recorded." in card()


@pytest.mark.parametrize(
    ("data", "said"),
    [("kaist", "CC BY-NC-SA 4.0"), ("synthetic_rgbt", "no photographs"), ("mine", "trained on mine. See its terms.")],
)
def test_data_set_and_its_terms_are_named_and_the_licence_is_left_to_the_publisher(card, data, said):
    text = card(name=data)
    assert said in text
    assert "**The licence of the weights is for the publisher to choose" in text


def test_paper_is_cited(card):
    assert (
        f"title = {{{PAPER}}},\n  author = {{Liu, Tianshan and Lam, Kin-Man and Zhao, Rui and Qiu, Guoping}}" in card()
    )
