"""Whole runs of the fine-tuning recipes on small sets: from a checkpoint of another set to its own scores."""

import json

import jax
import pytest
from caltech_files import NOWHERE, jpeg, write_seq, write_vbb
from nightowls_files import annotation, image, png, write_annotations
from training_cases import newest_params

from configs import finetune
from dcrl_jax import checkpoints
from dcrl_jax.annotations.caltech import frames
from dcrl_jax.models.network import build_network
from dcrl_jax.training import data, score, train

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STEP = 7
# One for all, so that equal programs compile once.
SIZE = (48, 64)


@pytest.fixture(scope="module")
def start(tiny_config, random_params, tmp_path_factory):
    """The workdir of a distilled student, of 48x32 pixels."""
    workdir, config = tmp_path_factory.mktemp("student"), tiny_config("student")
    params = random_params(build_network(config))
    with checkpoints.open_manager(workdir / checkpoints.BEST_FOLDER) as manager:
        checkpoints.save_best(manager, STEP, params, config, 0.5)
    return workdir


@pytest.fixture
def small_run(start, tiny_config, tmp_path):
    """Makes a recipe for a tiny network and two steps of two images on each device."""

    def make(recipe, size):
        config, tiny = finetune.get_config(recipe), tiny_config("baseline")
        for section in ("backbone", "anchors", "rpn", "roi"):
            config[section] = tiny[section]
        config.data.data_dir = str(tmp_path / "data")
        config.data.height_px, config.data.width_px = size
        config.data.max_boxes = 16
        config.init.checkpoint = str(start)
        config.train.batch_size = 2 * jax.local_device_count()
        config.train.steps = 2
        config.train.log_every_steps = 1
        config.train.evaluate_every_epochs = 100.0
        config.eval.batch_size = 2
        return config

    return make


def run(config, workdir):
    result = train.train_and_evaluate(config, workdir)
    step, params = newest_params(workdir)
    assert step == 2
    assert "adaption_layer" not in params
    evaluation = workdir / "evaluation"
    for name in ("report.html", "miss_rate.png", "panel.png", "loss_curves.png"):
        assert (evaluation / name).is_file(), name
    return result, json.loads((evaluation / "scores.json").read_text())


def test_synthetic_visible_is_tuned_from_a_student_and_scored_before_and_after(start, small_run, tmp_path, capsys):
    config = small_run("synthetic_visible/dcrd", SIZE)
    config.data.options = {"height_px": 48, "width_px": 64, "seed": 0, "train": 8, "validation": 2, "test": 3}
    config.eval.min_height_px = 4.0
    result, scores = run(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert f"init: from {start}, step {STEP}, a student; " in printed
    assert "  new: nothing\n  left out: adaption_layer (" in printed
    assert "DCRD-PDN (student), fine-tuned, step 2, synthetic_visible test" in printed
    assert list(scores["scores"]) == ["reasonable-all", "reasonable-day", "reasonable-night"]
    assert result.scores["reasonable-all"].images == 3
    # A student is scored as it is, before anything is tuned; what only its distillation used is left out.
    score.score_checkpoint(config, tmp_path / "before", score.parallel_network(config), str(start))
    assert f"DCRD-PDN (student), step {STEP}, synthetic_visible test" in capsys.readouterr().out


@pytest.fixture
def caltech(tmp_path, monkeypatch):
    """A copy of two videos: two test images, and as many to train on; one with nobody."""
    monkeypatch.setattr(frames, "TEST_IMAGES", {"set06/V000": 2})
    monkeypatch.setattr(frames, "VIDEOS", {"train": ("set00/V000",), "test": ("set06/V000",)})
    people = [("person", (100, 200, 41, 100), NOWHERE), ("person", (300, 200, 12, 30), NOWHERE)]
    people.append(("people", (400, 200, 90, 80), NOWHERE))
    for video in ("set00/V000", "set06/V000"):
        write_seq(tmp_path / "raw" / f"{video}.seq", [jpeg(number % 3) for number in range(60)])
        write_vbb(tmp_path / "raw" / f"{video}.vbb", [people if number == 29 else [] for number in range(60)])
    return tmp_path / "raw"


@pytest.mark.parametrize("recipe", ["caltech", "caltech/dcrd"])
def test_recipe_names_what_was_tuned(recipe):
    assert (
        score._name_of(finetune.get_config(recipe))
        == {
            "caltech": "RGB-only detector, fine-tuned",
            "caltech/dcrd": "DCRD-PDN (student), fine-tuned",
        }[recipe]
    )


def test_caltech_is_scored_by_its_rules_where_nobody_walks_by_night(small_run, caltech, tmp_path, capsys):
    config = small_run("caltech", SIZE)
    config.data.manual_dir, config.data.options.train_skip = str(caltech), 10
    result, scores = run(config, tmp_path / "run")
    assert list(scores["scores"]) == ["caltech-reasonable"]
    assert result.scores["caltech-reasonable"].people == 1
    assert result.scores["caltech-reasonable"].images == 2
    printed = capsys.readouterr().out
    assert "step 2: miss rate on test reasonable " in printed
    assert "RGB-only detector, fine-tuned, step 2, caltech_pedestrian test" in printed
    assert (tmp_path / "run" / "evaluation" / "results" / "set06" / "V000.txt").is_file()
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    assert "Detections less than 40 pixels tall are left out." in page
    assert "given a width of 0.41 of their height" in page
    # The rules of a set with day and night do not mind that there is no night.
    config.eval.rules = "kaist"
    again = score.score_checkpoint(config, tmp_path / "run", score.parallel_network(config))
    assert [(one.images, one.people) for one in again.scores.values()] == [(2, 1), (2, 1), (0, 0)]


def test_nightowls_has_dawn_and_areas_to_leave_alone(small_run, tmp_path):
    config = small_run("nightowls/dcrd", SIZE)
    root = tmp_path / "raw"
    config.data.manual_dir = str(root)
    entries = {"training": [], "validation": []}
    for place, split in enumerate(entries):
        entries[split] = [image(10 * place + n, hour) for n, hour in enumerate(("day", "night", "dawn", "night"), 1)]
        boxes = [annotation(10 * place + n, (100, 200, 60, 150)) for n in (1, 2, 3)]
        boxes += [
            annotation(10 * place + 4, (100, 200, 60, 150), 2),
            annotation(10 * place + 1, (500, 100, 400, 300), 4),
        ]
        write_annotations(root / f"nightowls_{split}.json", entries[split], boxes)
        (root / f"nightowls_{split}").mkdir()
        for one in entries[split]:
            (root / f"nightowls_{split}" / one["file_name"]).write_bytes(png(grey=one["id"]))
    builder = train.sources.prepare(config.data)
    source = data.open_train_source(builder, config.data)
    assert len(source) == 3  # the fourth has a rider alone
    batch = next(iter(data.train_batches(source, config, None)))
    first = batch.index.tolist().index(0)
    assert (batch.is_person[first].tolist()[:2], batch.is_ignore[first].tolist()[:2]) == ([True, False], [False, True])
    assert batch.lwir is None

    result, scores = run(config, tmp_path / "run")
    assert list(scores["scores"]) == [f"nightowls-{name}" for name in ("reasonable", "small", "occluded", "all")]
    assert {(one.people, one.images) for one in result.scores.values()} == {(3, 4), (0, 4)}
    found = json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())
    assert {one["image_id"] for one in found} <= {11, 12, 13, 14}
