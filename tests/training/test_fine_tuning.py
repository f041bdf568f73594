"""Complete runs of the fine-tuning recipes on small sets: from a checkpoint of another set to their own scores."""

import json

import jax
import pytest
from caltech_files import NOWHERE, jpeg, write_seq, write_vbb
from training_cases import newest_params

from configs import finetune
from dcrl_jax import checkpoints
from dcrl_jax.annotations.caltech import frames
from dcrl_jax.models.network import build_network
from dcrl_jax.training import score, train

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

HEIGHT, WIDTH = 48, 64  # the same for all runs, so that equal programs compile once


@pytest.fixture(scope="module")
def student(tiny_config, random_params, tmp_path_factory):
    """The workdir of a distilled student, of 48x32 pixels, at step 7."""
    workdir, config = tmp_path_factory.mktemp("student"), tiny_config("student")
    params = random_params(build_network(config))
    with checkpoints.open_manager(workdir / checkpoints.BEST_FOLDER) as manager:
        checkpoints.save_best(manager, 7, params, config, 0.5)
    return workdir


@pytest.fixture
def small_recipe(student, tiny_config, tmp_path):
    """Makes a recipe for a tiny network and two steps of two images on each device."""

    def make(recipe):
        config, tiny = finetune.get_config(recipe), tiny_config("baseline")
        for section in ("backbone", "anchors", "rpn", "roi"):
            config[section] = tiny[section]
        config.data.update(data_dir=str(tmp_path / "data"), height_px=HEIGHT, width_px=WIDTH, max_boxes=16)
        config.init.checkpoint = str(student)
        config.train.update(batch_size=2 * jax.local_device_count(), steps=2, log_every_steps=1)
        config.train.evaluate_every_epochs = 100.0
        config.eval.batch_size = 2
        return config

    return make


def fine_tune(config, workdir):
    """Return the evaluation and its scores on record."""
    result = train.train_and_evaluate(config, workdir)
    step, params = newest_params(workdir)
    assert step == 2
    assert set(params) == {"backbone", "rpn", "roi_head", "segmentation_rpg", "segmentation_rdr"}
    folder = workdir / "evaluation"
    assert {"report.html", "miss_rate.png", "panel.png", "loss_curves.png"} <= {path.name for path in folder.iterdir()}
    return result, json.loads((folder / "scores.json").read_text())


def test_student_is_fine_tuned_on_rgb_scenes(student, small_recipe, tmp_path, capsys):
    config = small_recipe("synthetic_visible/dcrd")
    config.data.options = {"height_px": HEIGHT, "width_px": WIDTH, "seed": 0, "train": 8, "validation": 2, "test": 3}
    config.eval.min_height_px = 4.0
    result, scores = fine_tune(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert f"init: from {student}, step 7, a student; " in printed
    assert "  new: nothing\n  left out: adaption_layer (" in printed
    assert "DCRD-PDN (student), fine-tuned, step 2, synthetic_visible test" in printed
    assert list(scores["scores"]) == ["reasonable-all", "reasonable-day", "reasonable-night"]
    assert scores["blanked"] == scores["modality_weights"] == {}
    assert result.scores["reasonable-all"].images == 3
    # A student can be scored before it is fine-tuned; what only its distillation used is left out.
    score.score_checkpoint(config, tmp_path / "before", score.parallel_network(config), str(student))
    assert "DCRD-PDN (student), step 7, synthetic_visible test" in capsys.readouterr().out


@pytest.mark.slow
def test_caltech_is_scored_by_its_rules(small_recipe, tmp_path, monkeypatch, capsys):
    # A copy of two videos: two test images, and as many to train on; one with nobody.
    monkeypatch.setattr(frames, "TEST_IMAGES", {"set06/V000": 2})
    monkeypatch.setattr(frames, "VIDEOS", {"train": ("set00/V000",), "test": ("set06/V000",)})
    people = [("person", (100, 200, 41, 100), NOWHERE), ("person", (300, 200, 12, 30), NOWHERE)]
    people.append(("people", (400, 200, 90, 80), NOWHERE))
    for video in ("set00/V000", "set06/V000"):
        write_seq(tmp_path / "raw" / f"{video}.seq", [jpeg(number % 3) for number in range(60)])
        write_vbb(tmp_path / "raw" / f"{video}.vbb", [people if number == 29 else [] for number in range(60)])
    config = small_recipe("caltech")
    config.data.manual_dir, config.data.options.train_skip = str(tmp_path / "raw"), 10
    result, scores = fine_tune(config, tmp_path / "run")
    assert list(scores["scores"]) == ["caltech-reasonable"]
    assert (result.scores["caltech-reasonable"].people, result.scores["caltech-reasonable"].images) == (1, 2)
    printed = capsys.readouterr().out
    assert "step 2: miss rate on test reasonable " in printed
    assert "RGB-only detector, fine-tuned, step 2, caltech_pedestrian test" in printed
    assert (tmp_path / "run" / "evaluation" / "results" / "set06" / "V000.txt").is_file()
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    assert "Detections less than 40 pixels tall are left out." in page
    assert "given a width of 0.41 of their height" in page
    # Rules with day and night work on a set without night.
    config.eval.rules = "kaist"
    again = score.score_checkpoint(config, tmp_path / "run", score.parallel_network(config))
    assert [(each.images, each.people) for each in again.scores.values()] == [(2, 1), (2, 1), (0, 0)]
