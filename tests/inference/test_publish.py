"""Publishing: the very parameters that were scored, with their own scores, and nothing of the publisher's machine."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, published
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.inference.publish import publish, without_places
from dcrl_jax.models.build import build_model

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
def models(tiny_config, random_params):
    """A student's config that is full of places, and two trees of its parameters."""
    config = tiny_config("student")
    config.update_from_flattened_dict(PLACES)
    model = build_model(config)
    return config, random_params(model, config, 0), random_params(model, config, 1)


def save(folder, step, params, config):
    with checkpoints.open_manager(folder) as manager:
        checkpoints.save_best(manager, step, params, config, 0.5)


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """A run's folder: its best parameters at step 7, its last at step 9."""
    config, best, last = models
    folder = tmp_path_factory.mktemp("run")
    save(folder / "best", 7, best, config)
    save(folder / "checkpoints", 9, last, config)
    return folder


@pytest.fixture
def workdir(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def write_scores(workdir, of):
    subsets = {f"reasonable-{name}": 11.25 for name in ("all", "day", "night")}
    keys = ("miss_rate_percent", "recall_percent", "average_precision_percent", "people", "images")
    scores = {
        "scores": {name: dict.fromkeys(keys, rate) for name, rate in subsets.items()},
        "further": {},
        "blanked": {},
        "modality_weights": {},
        "warnings": [],
        "data": {"name": "synthetic_rgbt", "split": "test", "options": {}},
        "people_who_count": "at least 16 pixels tall, at most partly occluded",
    }
    if of is not None:
        scores["parameters"] = checkpoints.fingerprint(of)
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation" / "scores.json").write_text(json.dumps(scores))


def assert_holds(output, params, step):
    assert sorted(path.name for path in output.iterdir()) == FILES
    found, _, found_step = published.read(str(output))
    assert found_step == step
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), params)


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


def test_workdir_whose_test_split_was_watched_gives_its_last_parameters(models, tmp_path):
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
    ("of", "reason"),
    [
        ("last", "the scores in the run's folder are of other parameters; --mode=eval scores these"),
        ("unknown", "the scores in the run's folder do not say of which parameters they are; --mode=eval scores these"),
        ("nothing", "the run has no scores yet"),
    ],
)
def test_scores_that_are_not_of_these_parameters_are_left_out(workdir, models, tmp_path, capsys, of, reason):
    if of != "nothing":
        write_scores(workdir, models[2] if of == "last" else None)
    publish(str(workdir), tmp_path / "out")
    assert f"## Measured\n\nNot measured: {reason}.\n" in card(tmp_path / "out")
    assert "11.25" not in card(tmp_path / "out")
    assert f"with no scores: {reason}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inside", "which", "step"), [("best/7", 1, 7), ("best", 1, 7), ("checkpoints", 2, 9), ("checkpoints/9", 2, 9)]
)
def test_checkpoint_alone_is_published_without_scores(workdir, models, tmp_path, inside, which, step):
    write_scores(workdir, models[which])
    publish(str(workdir / inside), tmp_path / "out")
    assert_holds(tmp_path / "out", models[which], step)
    assert "Not measured: published from a checkpoint alone" in card(tmp_path / "out")
    assert "versions not recorded" in card(tmp_path / "out")


def test_no_place_on_the_publisher_s_machine_is_published(workdir, tmp_path):
    start = {"seed": 0, "commit": None, "python": "3.11.7", "processes": 1, "devices": ["cpu"], "versions": {}}
    start |= {"step": 0, "command": ["main.py", f"--workdir={HOME}/run"], "machine": "me"}
    (workdir / "environment.jsonl").write_text(json.dumps(start) + "\n")
    publish(str(workdir), tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())["config"]
    for key in PLACES:
        value = config
        for part in key.split("."):
            value = value[part]
        assert value is None
    everything = b"".join((tmp_path / "out" / name).read_bytes() for name in FILES).decode("latin-1")
    for place in (*PLACES.values(), HOME, str(workdir), str(tmp_path)):
        assert place not in everything
    assert "Started from the parameters of another run." in card(tmp_path / "out")


def test_places_are_known_by_their_key_or_by_their_look():
    config = {
        "role": "student",
        "train": {"steps": None, "epochs": 1.5},
        "labels": ["person", "a person", "~/mine"],
        "options": {"train_list": "C:\\lists\\mine.txt", "annotations": "improved"},
        "init": {"vgg16": "hf://timm/vgg16.tv_in1k/model.safetensors", "checkpoint": "run"},
    }
    assert without_places(config) == {
        "role": "student",
        "train": {"steps": None, "epochs": 1.5},
        "labels": ["person", "a person", None],
        "options": {"train_list": None, "annotations": "improved"},
        "init": {"vgg16": "hf://timm/vgg16.tv_in1k/model.safetensors", "checkpoint": None},
    }


def test_versions_are_those_of_the_start_that_trained_these_parameters(workdir, tmp_path):
    start = {"seed": 0, "commit": None, "python": "3.11.7", "processes": 1, "devices": ["cpu"]}
    lines = [start | {"step": step, "versions": {"jax": version}} for step, version in ((0, "A"), (5, "B"), (7, "C"))]
    (workdir / "environment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "se')
    publish(str(workdir), tmp_path / "out")
    assert "commit unknown; Python 3.11.7, jax B; devices" in card(tmp_path / "out")


def test_broken_scores_are_named(workdir, tmp_path):
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation/scores.json").write_text("{")
    with pytest.raises(InputError, match=r"scores\.json: not valid JSON .*Score the run again with --mode=eval"):
        publish(str(workdir), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_that_holds_something_is_refused_and_kept(workdir, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "out", tmp_path / "file"):
        with pytest.raises(InputError, match="is there already and is no empty folder: give another --output"):
            publish(str(workdir), output)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_output_that_cannot_be_made_is_named(workdir, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError) as refusal:
        publish(str(workdir), tmp_path / "file/out")
    assert str(refusal.value) == f"{tmp_path}/file/out cannot be written to: Not a directory."


@pytest.mark.parametrize("was_there", [False, True])
def test_full_disk_leaves_the_output_as_it_was(workdir, tmp_path, no_room, was_there):
    output = tmp_path / "out"
    if was_there:
        output.mkdir()
    with no_room(1000), pytest.raises(InputError, match=f"^{output} cannot be written to: .*File too large"):
        publish(str(workdir), output)
    assert output.exists() == was_there
    assert not was_there or not any(output.iterdir())


def test_failure_at_the_last_moment_leaves_the_output_as_it_was(workdir, tmp_path, monkeypatch):
    rename = published.Path.rename

    def fail(self, target):
        if self.name == "model.safetensors":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(published.Path, "rename", fail)
    with pytest.raises(InputError, match="out cannot be written to: Permission denied"):
        publish(str(workdir), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_the_output_as_it_was(workdir, tmp_path, monkeypatch, number, was_there):
    output, write = tmp_path / "out", published.write
    if was_there:
        output.mkdir()

    def interrupted(*arguments):
        write(*arguments)
        signal.raise_signal(number)

    monkeypatch.setattr(published, "write", interrupted)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises({signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}[number]):
        publish(str(workdir), output)
    assert signal.getsignal(signal.SIGTERM) is former
    assert output.exists() == was_there
    assert not was_there or not any(output.iterdir())


def test_checkpoint_of_another_model_is_refused_with_its_name(models, tmp_path):
    config, params, _ = models
    save(tmp_path / "a", 7, {"w": params["rpn"]}, config)
    save(tmp_path / "b", 7, params, ConfigDict({"hidden": 3, "role": "student"}))
    save(tmp_path / "c", 7, params, ConfigDict({"hidden": 3}))
    messages = {"a": "the tree of parameters does not fit", "b": "config", "c": "the config is not one of this version"}
    for name, message in messages.items():
        with pytest.raises(InputError, match=f"^{tmp_path / name}: {message}"):
            publish(str(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_place_without_a_checkpoint_and_published_model_are_refused(workdir, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        publish(str(tmp_path / "nothing"), tmp_path / "out")
    publish(str(workdir), tmp_path / "out")
    for source in (str(tmp_path / "out"), "hf://owner/name"):
        with pytest.raises(InputError, match="is published already; --checkpoint must name a run's workdir"):
            publish(source, tmp_path / "again")
    assert not (tmp_path / "again").exists()
