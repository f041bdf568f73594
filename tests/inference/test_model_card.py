"""A model card says what it was given, and nothing that was not measured."""

import pytest
from run_records import START, scores, subset

from dcrl_jax.checkpoints import config_to_json
from dcrl_jax.config import keys_affecting
from dcrl_jax.inference.model_card import PAPER, model_card


@pytest.fixture
def card(tiny_config):
    def write(role="teacher", scores=None, start=None, distillation=(), roles=(), **data):
        config = config_to_json(tiny_config(role))
        config["data"] |= data
        config["init"]["roles"] = list(roles)
        if role == "student":
            config["distillation"] |= dict(distillation)
        return model_card(config, 750, 1234567, "float32", "random parameters", scores, "nobody asked", start)

    return write


def table_row(text, title):
    """The cells after the title."""
    (line,) = [line for line in text.splitlines() if line.startswith("|") and title in line]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_front_matter_is_first_and_has_what_the_hub_reads(card):
    top, *_ = card("student").removeprefix("---\n").partition("\n---\n")
    keys, _, tags = top.partition("tags:\n")
    assert keys.splitlines() == [
        "library_name: dcrl_jax",
        "pipeline_tag: object-detection",
        "license: other",
        "license_name: code-apache-2.0-weights-not-yet-chosen",
    ]
    tags = {line.removeprefix("- ") for line in tags.splitlines()}
    assert {"jax", "pedestrian-detection", "student", "synthetic_rgbt", "knowledge-distillation"} <= tags
    assert "rgb-thermal" not in tags
    assert "- rgb-thermal\n" in card("teacher")


@pytest.mark.parametrize(
    ("role", "sees", "call"),
    [
        ("teacher", "RGB and thermal (lwir)", 'detector("visible.png", "lwir.png")'),
        ("baseline", "RGB", 'detector("visible.png")'),
    ],
)
def test_card_describes_the_detector_and_its_use_and_cites_the_paper(card, role, sees, call):
    text = card(role)
    assert table_row(text, "sees") == [sees]
    assert table_row(text, "input")[0].startswith("48x32 pixels")
    assert table_row(text, "parameters |") == ["1,234,567, float32, of step 750"]
    assert 'Detector.from_pretrained("hf://OWNER/NAME")' in text
    assert call in text
    assert "\n\n\n" not in text
    author = "author = {Liu, Tianshan and Lam, Kin-Man and Zhao, Rui and Qiu, Guoping}"
    assert f"title = {{{PAPER}}},\n  {author}" in text


OFF = {"fea": False, "cls": False, "bbr": False, "seg": False}


@pytest.mark.parametrize(
    ("role", "changes", "title", "has_learnt"),
    [
        ("teacher", {}, "DCRL-PDN, the teacher", False),
        ("baseline", {}, "the RGB-only baseline", False),
        ("student", {}, "DCRD-PDN, the student", True),
        ("student", {"distillation": OFF}, "the RGB-only base", False),
        ("student", {"distillation": OFF | {"bbr": True}}, "DCRD-PDN, the student", True),
        ("baseline", {"roles": ["student"]}, "DCRD-PDN, the student", True),
        ("baseline", {"roles": ["baseline"]}, "the RGB-only baseline", False),
        ("baseline", {"roles": ["student", "baseline"]}, "a detector that sees RGB images only; fine-tuned", False),
    ],
)
def test_title_follows_distillation_and_fine_tuning(card, role, changes, title, has_learnt):
    text = card(role, **changes)
    assert f"\n{title}" in text
    assert ("has learnt from a teacher" in text) == has_learnt
    assert ("knowledge-distillation" in text) == (has_learnt and role == "student")
    assert ("; fine-tuned on synthetic_rgbt, without a teacher. An implementation" in text) == ("roles" in changes)


def test_scores_appear_as_measured(card):
    assert "## Measured\n\nNot measured: nobody asked.\n" in card()
    assert "miss rate" not in card()
    measured = scores(
        blanked={"lwir": {"reasonable-all": 80.0, "reasonable-day": 70.0, "reasonable-night": 90.0}},
        modality_weights={"all": [0.25, 0.75], "night": [0.1, 0.9]},
        further={"reasonable-near": 4.5},
        warnings=["12 images are missing"],
    )
    text = card(scores=measured)
    assert "Not measured" not in text
    assert "split `test` of kaist (annotations=improved). People who" in text
    assert "People who count (`reasonable-all`): at least 55 pixels tall, at most partly occluded." in text
    assert table_row(text, "log-average miss rate") == ["12.34", "-", "7.00"]
    assert table_row(text, "the same, visible only") == ["80.00", "70.00", "90.00"]
    assert table_row(text, "COCO AP") == ["31.50"] * 2
    assert table_row(text, "at an overlap of 0.5,") == ["71.00"] * 2
    assert table_row(text, "at an overlap of 0.75") == ["-"] * 2
    assert table_row(text, "mean weight of lwir") == ["0.75", "-", "0.90"]
    assert table_row(text, "people  ") == ["5", "0", "3"]
    assert table_row(text, "images  ") == ["50", "0", "30"]
    assert table_row(text, "reasonable-near") == ["4.50"]
    assert "\n\nWarning of the scoring: 12 images are missing\n\n## Training" in text


def test_scores_by_the_rules_of_another_benchmark_have_its_subsets(card):
    own = {"nightowls-reasonable": subset(17.5, 5), "nightowls-small": subset(None, 0)}
    measured = scores(scores=own, people_who_count="at least 50 pixels tall")
    del measured["coco"]  # as in runs of earlier versions
    text = card("baseline", scores=measured)
    assert "COCO" not in text
    assert "People who count (`nightowls-reasonable`): at least 50 pixels tall." in text
    assert table_row(text, "reasonable")[:2] == ["reasonable", "small"]
    assert table_row(text, "log-average miss rate") == ["17.50", "-"]


def test_settings_seed_and_versions_appear_but_not_the_command(card):
    text = card("student", start=START)
    assert "Started from random parameters." in text
    assert table_row(text, "`distillation.rho`") == ["0.5"]
    assert table_row(text, "`segmentation.stages`") == ["rpg, rdr"]
    settings = {key.name for key in keys_affecting("card") if "student" in key.roles} - {"train.steps"}
    assert {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")} == settings
    assert "Seed 0; commit unknown; Python 3.11.7, jax 0.7.2, flax 0.11.2; devices" in text
    assert ": 2 x 4 x H200.\n" in text
    assert "/home/me" not in text
    assert "Seed 0; versions not recorded." in card()


@pytest.mark.parametrize(
    ("role", "data", "words"),
    [
        (
            "teacher",
            {},
            ["registered pairs of one size", "images are grey, 8 bits", "It needs both images"],
        ),
        ("teacher", {"blank_probability": 0.2}, ["It was trained to do with one camera, too: `detector("]),
        ("teacher", {"options": {"lwir_to_visible": "10, 20, 50, 60"}}, ["every pair", "y2 = 10, 20, 50, 60 of the"]),
        ("teacher", {"options": {"lwir_to_visible": [10, 20, 50, 60]}}, ["y2 = 10, 20, 50, 60 of the"]),
        ("student", {"grey_visible": True}, ["grey visible images", "`data.grey_visible`"]),
    ],
)
def test_limits_say_which_images_suit(card, role, data, words):
    text = card(role, **data)
    assert [word for word in words if word not in text] == []
    assert ("It needs both images" in text) == (role == "teacher" and "blank_probability" not in data)
    assert ("thermal image" in text.partition("## Limits")[2]) == (role == "teacher")
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("data", "terms"),
    [("kaist", "CC BY-NC-SA 4.0"), ("synthetic_rgbt", "not photographs"), ("mine", "trained on mine. See its terms.")],
)
def test_terms_of_the_data_appear_and_the_licence_is_left_open(card, data, terms):
    text = card(name=data)
    assert terms in text
    assert f"\n# Pedestrian detector: teacher, {data}\n" in text
    assert "**The licence of the weights is for the publisher to choose" in text


def test_folder_of_pairs_goes_by_the_name_that_its_options_give_it(card):
    text = card(name="rgbt_folder", options={"name": "llvip"})
    assert "# Pedestrian detector: teacher, llvip\n" in text
    assert "\n- llvip\n" in text
    assert "trained on LLVIP. Its terms are for non-commercial use." in text
    assert "trained on alley. See its terms." in card(name="rgbt_folder", options={"name": "alley"})
