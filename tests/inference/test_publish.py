"""Publishing writes exactly the scored parameters, with their scores and without private paths."""

import json
import shutil

import jax
import numpy as np
import pytest
from run_records import START, scores

from dcrl_jax import checkpoints, param_trees, published
from dcrl_jax.errors import InputError
from dcrl_jax.inference.publish import publish, without_private_paths

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


@pytest.fixture
def card(tmp_path):
    """Publishes a checkpoint to tmp_path/out and returns its card."""

    def write(checkpoint, **given):
        publish(str(checkpoint), tmp_path / "out", **given)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
        return (tmp_path / "out/README.md").read_text(encoding="utf-8")

    return write


def write_scores(workdir, params):
    values = scores() if params is None else scores(parameters=param_trees.fingerprint(params))
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation/scores.json").write_text(json.dumps(values))


def assert_holds(output, params, step):
    restored, _, restored_step = published.read(str(output))
    assert restored_step == step
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), params)


def test_workdir_gives_its_best_parameters_with_their_scores(workdir, models, card, tmp_path, capsys):
    best = models[1]
    write_scores(workdir, best)
    text = card(workdir)
    assert_holds(tmp_path / "out", best, 7)
    assert "| 12.34 |" in text
    assert f"| {sum(leaf.size for leaf in jax.tree.leaves(best)):,}, float32, of step 7 |" in text
    printed = capsys.readouterr().out
    assert printed.startswith(f"student, step 7 of {workdir}, with its scores\n")
    assert f"hf upload OWNER/NAME {tmp_path / 'out'} .\n" in printed


def test_rounded_parameters_have_the_scores_from_before(workdir, models, card, tmp_path):
    best = models[1]
    write_scores(workdir, best)
    text = card(workdir, dtype="bfloat16")
    assert_holds(tmp_path / "out", jax.tree.map(lambda leaf: np.float32(leaf.astype(jax.numpy.bfloat16)), best), 7)
    assert ", bfloat16, of step 7 |" in text
    assert "\nThese parameters before they were rounded to bfloat16 on the split `test` of" in text
    assert "| 12.34 |" in text


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ("last", "the scores in the workdir are of other parameters; --mode=eval scores these"),
        ("unknown", "the scores in the workdir do not say of which parameters they are; --mode=eval scores these"),
        ("nothing", "the run has no scores yet"),
    ],
)
def test_scores_of_other_parameters_are_left_out(workdir, models, card, capsys, scored, reason):
    if scored != "nothing":
        write_scores(workdir, models[2] if scored == "last" else None)
    text = card(workdir)
    assert f"## Measured\n\nNot measured: {reason}.\n" in text
    assert "12.34" not in text
    assert f"with no scores: {reason}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("inside", "index", "step"), [("best/7", 1, 7), ("checkpoints", 2, 9)])
def test_checkpoint_is_published_without_scores(workdir, models, card, tmp_path, inside, index, step):
    write_scores(workdir, models[index])
    text = card(workdir / inside)
    assert_holds(tmp_path / "out", models[index], step)
    assert "Not measured: published from a checkpoint, without the run" in text
    assert "versions not recorded" in text


def test_no_place_on_the_publisher_s_machine_is_published(workdir, card, tmp_path):
    (workdir / "environment.jsonl").write_text(json.dumps(START | {"step": 0}) + "\n")
    assert "Started from the parameters of another run." in card(workdir)
    content = b"".join((tmp_path / "out" / name).read_bytes() for name in FILES).decode("latin-1")
    for place in (*PLACES.values(), HOME, str(workdir), str(tmp_path)):
        assert place not in content


@pytest.mark.parametrize(
    ("vgg16", "initialisation"),
    [
        ("hf://timm/vgg16.tv_in1k/model.safetensors", "VGG-16's convolutions from hf://timm/vgg16.tv_in1k/model.s"),
        (f"{HOME}/vgg16.safetensors", "VGG-16's convolutions from a file, the rest random."),
        (None, "random parameters."),
    ],
)
def test_card_says_where_the_training_started(models, card, tmp_path, vgg16, initialisation):
    config = models[0].copy_and_resolve_references()
    config.init.update({"checkpoint": None, "vgg16": vgg16})
    save(tmp_path / "run", 7, models[1], config)
    assert f"Started from {initialisation}" in card(tmp_path / "run")


def test_places_are_known_by_their_key_or_their_form():
    config = {"train": {"steps": None, "epochs": 1.5}, "labels": ["person", "a person", "~/mine"], "split": "test"}
    config |= {"list": "C:\\lists\\mine.txt", "init": {"vgg16": "hf://timm/vgg16/a", "checkpoint": "run"}}
    init = {"vgg16": "hf://timm/vgg16/a", "checkpoint": None}
    expected = config | {"labels": ["person", "a person", None], "list": None, "init": init}
    assert without_private_paths(config) == expected


def test_versions_are_of_the_start_that_trained_these_parameters(workdir, card):
    lines = [START | {"step": step, "versions": {"jax": version}} for step, version in ((0, "A"), (5, "B"), (7, "C"))]
    (workdir / "environment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "se')
    assert "commit unknown; Python 3.11.7, jax B; devices" in card(workdir)


def test_what_cannot_be_published_is_refused_and_nothing_is_left(workdir, models, tmp_path, no_room):
    def assert_refused(source, message, output="out"):
        with pytest.raises(InputError, match=message):
            publish(str(source), tmp_path / output)

    assert_refused("hf://owner/name", "^hf://owner/name is already published; --checkpoint must name a run's workdir")
    assert_refused(workdir, "is not an empty folder", output=workdir)
    save(tmp_path / "other", 7, {"w": models[1]["rpn"]}, models[0])
    assert_refused(tmp_path / "other", f"^{tmp_path / 'other'}: the tree of parameters does not fit")
    with no_room(1000):
        assert_refused(workdir, f"^{tmp_path}/out cannot be written to: .*File too large")
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation/scores.json").write_text("{")
    assert_refused(workdir, r"scores\.json: not valid JSON .*Score the run again with --mode=eval")
    assert not (tmp_path / "out").exists()


def test_the_registration_is_published_as_numbers(trained, tmp_path, capsys):
    config = trained("teacher").config.copy_and_resolve_references()
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib/H.txt").write_text("10 20 50 60")
    with config.unlocked():
        config.data.options.lwir_to_visible = "calib/H.txt"
        config.data.manual_dir = str(tmp_path)
    save(tmp_path / "run/best", 7, trained("teacher").params, config)
    publish(str(tmp_path / "run"), tmp_path / "out")
    _, values, _ = published.read(str(tmp_path / "out"))
    assert values["data"]["options"]["lwir_to_visible"] == "10.0, 20.0, 50.0, 60.0"
    assert "y2 = 10, 20, 50, 60 of the thermal image" in (tmp_path / "out/README.md").read_text(encoding="utf-8")
    (tmp_path / "calib/H.txt").unlink()
    with pytest.raises(InputError, match=r"lwir_to_visible .*calib/H.txt: No such file"):
        publish(str(tmp_path / "run"), tmp_path / "again")
    assert not (tmp_path / "again").exists()
