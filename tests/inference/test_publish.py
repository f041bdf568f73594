"""Publishing writes exactly the scored parameters, with their scores and without private paths."""

import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, published
from dcrl_jax.errors import InputError
from dcrl_jax.inference.publish import publish, without_places

FILES = ["README.md", "config.json", "model.safetensors"]
HOME = "/home/me"
PLACES = {
    "data.data_dir": f"{HOME}/data",
    "data.manual_dir": "kaist-copy",
    "init.checkpoint": "gs://bucket/mine",
    "init.vgg16": f"{HOME}/vgg16.safetensors",
    "teacher.checkpoint": "my-teacher",
    "teacher.init.checkpoint": f"{HOME}/old",
}
START = {"seed": 0, "commit": None, "python": "3.11.7", "processes": 1, "devices": ["cpu"], "versions": {}}


@pytest.fixture(scope="module")
def models(trained):
    """A student's config with places in it, its best parameters and its last ones."""
    config = trained("student").config.copy_and_resolve_references()
    config.update_from_flattened_dict(PLACES)
    best = trained("student").params
    return config, best, jax.tree.map(lambda leaf: leaf + 1, best)


def save(folder, step, params, config):
    with checkpoints.open_manager(folder) as manager:
        checkpoints.save_best(manager, step, params, config, 0.5)


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """A workdir with the best parameters at step 7 and the last ones at step 9."""
    config, best, last = models
    folder = tmp_path_factory.mktemp("run")
    save(folder / "best", 7, best, config)
    save(folder / "checkpoints", 9, last, config)
    return folder


@pytest.fixture
def workdir(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def write_scores(workdir, params):
    keys = ("miss_rate_percent", "recall_percent", "average_precision_percent", "people", "images")
    scores = {
        "scores": {f"reasonable-{name}": dict.fromkeys(keys, 11.25) for name in ("all", "day", "night")},
        "further": {},
        "blanked": {},
        "modality_weights": {},
        "warnings": [],
        "data": {"name": "synthetic", "split": "test", "options": {}},
        "people_who_count": "at least 16 pixels tall, at most partly occluded",
    }
    if params is not None:
        scores["parameters"] = checkpoints.fingerprint(params)
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation/scores.json").write_text(json.dumps(scores))


def assert_holds(output, params, step):
    assert sorted(path.name for path in output.iterdir()) == FILES
    restored, _, restored_step = published.read(str(output))
    assert restored_step == step
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), params)


def card(output):
    return (output / "README.md").read_text(encoding="utf-8")


def test_workdir_gives_its_best_parameters_with_their_scores(workdir, models, tmp_path, capsys):
    _, best, _ = models
    write_scores(workdir, best)
    publish(str(workdir), tmp_path / "out")
    assert_holds(tmp_path / "out", best, 7)
    assert "| 11.25 |" in card(tmp_path / "out")
    assert f"| {sum(leaf.size for leaf in jax.tree.leaves(best)):,}, float32, of step 7 |" in card(tmp_path / "out")
    printed = capsys.readouterr().out
    assert printed.startswith(f"student, step 7 of {workdir}, with its scores\n")
    assert f"hf upload OWNER/NAME {tmp_path / 'out'} .\n" in printed


def test_workdir_that_validates_on_the_test_split_gives_its_last_parameters(models, tmp_path):
    config, best, last = models
    config = config.copy_and_resolve_references()
    config.data.validation_split = "test"
    save(tmp_path / "run/best", 7, best, config)
    save(tmp_path / "run/checkpoints", 9, last, config)
    write_scores(tmp_path / "run", last)
    publish(str(tmp_path / "run"), tmp_path / "out")
    assert_holds(tmp_path / "out", last, 9)
    assert "| 11.25 |" in card(tmp_path / "out")


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ("last", "the scores in the workdir are of other parameters; --mode=eval scores these"),
        ("unknown", "the scores in the workdir do not say of which parameters they are; --mode=eval scores these"),
        ("nothing", "the run has no scores yet"),
    ],
)
def test_scores_of_other_parameters_are_left_out(workdir, models, tmp_path, capsys, scored, reason):
    if scored != "nothing":
        write_scores(workdir, models[2] if scored == "last" else None)
    publish(str(workdir), tmp_path / "out")
    assert f"## Measured\n\nNot measured: {reason}.\n" in card(tmp_path / "out")
    assert "11.25" not in card(tmp_path / "out")
    assert f"with no scores: {reason}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inside", "index", "step"), [("best/7", 1, 7), ("best", 1, 7), ("checkpoints", 2, 9), ("checkpoints/9", 2, 9)]
)
def test_checkpoint_is_published_without_scores(workdir, models, tmp_path, inside, index, step):
    write_scores(workdir, models[index])
    publish(str(workdir / inside), tmp_path / "out")
    assert_holds(tmp_path / "out", models[index], step)
    assert "Not measured: published from a checkpoint, without the run" in card(tmp_path / "out")
    assert "versions not recorded" in card(tmp_path / "out")


def test_no_place_on_the_publisher_s_machine_is_published(workdir, tmp_path):
    start = START | {"step": 0, "command": ["main.py", f"--workdir={HOME}/run"], "machine": "me"}
    (workdir / "environment.jsonl").write_text(json.dumps(start) + "\n")
    publish(str(workdir), tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())["config"]
    for key in PLACES:
        value = config
        for part in key.split("."):
            value = value[part]
        assert value is None
    content = b"".join((tmp_path / "out" / name).read_bytes() for name in FILES).decode("latin-1")
    for place in (*PLACES.values(), HOME, str(workdir), str(tmp_path)):
        assert place not in content
    assert "Started from the parameters of another run." in card(tmp_path / "out")


@pytest.mark.parametrize(
    ("vgg16", "initialisation"),
    [
        ("hf://timm/vgg16.tv_in1k/model.safetensors", "VGG-16's convolutions from hf://timm/vgg16.tv_in1k/model.s"),
        (f"{HOME}/vgg16.safetensors", "VGG-16's convolutions from a file, the rest random."),
        (None, "random parameters."),
    ],
)
def test_card_says_where_the_training_started(models, tmp_path, vgg16, initialisation):
    config, params, _ = models
    config = config.copy_and_resolve_references()
    config.init.update({"checkpoint": None, "vgg16": vgg16})
    save(tmp_path / "run", 7, params, config)
    publish(str(tmp_path / "run"), tmp_path / "out")
    assert f"Started from {initialisation}" in card(tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "published_config"),
    [
        ({"train": {"steps": None, "epochs": 1.5}}, {"train": {"steps": None, "epochs": 1.5}}),
        ({"labels": ["person", "a person", "~/mine"]}, {"labels": ["person", "a person", None]}),
        ({"list": "C:\\lists\\mine.txt", "annotations": "improved"}, {"list": None, "annotations": "improved"}),
        (
            {"init": {"vgg16": "hf://timm/vgg16/a", "checkpoint": "run"}},
            {"init": {"vgg16": "hf://timm/vgg16/a", "checkpoint": None}},
        ),
    ],
)
def test_places_are_known_by_their_key_or_their_form(config, published_config):
    assert without_places(config) == published_config


def test_versions_are_of_the_start_that_trained_these_parameters(workdir, tmp_path):
    lines = [START | {"step": step, "versions": {"jax": version}} for step, version in ((0, "A"), (5, "B"), (7, "C"))]
    (workdir / "environment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "se')
    publish(str(workdir), tmp_path / "out")
    assert "commit unknown; Python 3.11.7, jax B; devices" in card(tmp_path / "out")


def test_damaged_scores_are_named(workdir, tmp_path):
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation/scores.json").write_text("{")
    with pytest.raises(InputError, match=r"scores\.json: not valid JSON .*Score the run again with --mode=eval"):
        publish(str(workdir), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_that_is_not_empty_is_left_as_it_is(workdir, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        publish(str(workdir), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_full_disk_is_reported_and_nothing_is_left(workdir, tmp_path, no_room):
    with no_room(1000), pytest.raises(InputError, match=f"^{tmp_path}/out cannot be written to: .*File too large"):
        publish(str(workdir), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the tree of parameters does not fit"),
        ({"hidden": 3, "role": "student"}, "config"),
        ({"hidden": 3}, "the config does not describe a detector of this version"),
    ],
)
def test_checkpoint_of_another_network_is_refused(models, tmp_path, config, message):
    save(tmp_path / "run", 7, {"w": models[1]["rpn"]}, ConfigDict(config) if config else models[0])
    with pytest.raises(InputError, match=f"^{tmp_path / 'run'}: {message}"):
        publish(str(tmp_path / "run"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_checkpoint_and_published_model_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        publish(str(tmp_path / "nothing"), tmp_path / "out")
    (tmp_path / "model.safetensors").touch()
    for source in (str(tmp_path), "hf://owner/name"):
        with pytest.raises(InputError, match="is already published; --checkpoint must name a run's workdir"):
            publish(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
