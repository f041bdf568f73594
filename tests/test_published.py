"""The format of published models: what is written comes back to the bit, and what cannot be one is refused."""

import json
import re

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from safetensors.numpy import save_file

from dcrl_jax import published
from dcrl_jax.errors import InputError

PARAMS = {
    "backbone": {"conv1_1": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.float32([1, np.pi])}},
    "scale": np.float32(0.25),
}
CONFIG = {"role": "student", "data": {"height_px": 32, "options": {}}, "train": {"steps": None}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    published.write(tmp_path / "model", PARAMS, CONFIG, 7)
    return tmp_path / "model"


def refusal(folder):
    with pytest.raises(InputError) as error:
        published.read(str(folder))
    return str(error.value)


def test_parameters_config_and_step_come_back_to_the_bit(folder):
    params, config, step = published.read(str(folder))
    assert (config, step) == (CONFIG, 7)
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    for found, expected in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True):
        assert found.devices() == {jax.local_devices()[0]}
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


def test_file_has_names_that_other_programs_understand_and_says_what_it_is(folder):
    with safe_open(str(folder / "model.safetensors"), framework="numpy") as file:
        assert set(file.keys()) == {"backbone.conv1_1.kernel", "backbone.conv1_1.bias", "scale"}
        np.testing.assert_array_equal(file.get_tensor("backbone.conv1_1.kernel"), [[0, 1, 2], [3, 4, 5]])
        assert file.metadata() == {"format": "flax", "library": "dcrl_jax", "role": "student", "step": "7"}
    values = json.loads((folder / "config.json").read_text())
    assert values == {"format": 1, "library": "dcrl_jax", "role": "student", "step": 7, "config": CONFIG}
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_published_model_is_told_from_other_places(folder, tmp_path):
    assert published.is_published(str(folder))
    assert published.is_published("hf://owner/name")
    for other in (tmp_path, tmp_path / "nothing", folder / "config.json", "gs://bucket/run"):
        assert not published.is_published(str(other))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    message = refusal(folder)
    assert message.startswith(f"{folder / name} cannot be read: No such file or directory")
    assert message.endswith(f". {folder} must be a folder of --mode=publish, with config.json and model.safetensors.")


def cut(content):
    return content[:-1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", lambda _: b""),
        ("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\n"),
        ("config.json", lambda content: content[:40]),
        ("config.json", lambda _: b"\xff\xfe"),
    ],
    ids=["truncated", "empty", "pointer", "truncated config", "no text"],
)
def test_broken_file_is_named(folder, name, change):
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert refusal(folder).startswith(f"{folder / name} cannot be read: ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"library": "dcrl_jax", "format": 2}, "is of format 2; expected format 1, as --mode=publish of this version"),
        ({"model_type": "bert", "format": 1}, "is no config of a model of dcrl_jax; expected format 1"),
        ([], "is no config of a model of dcrl_jax"),
        ({"library": "dcrl_jax", "format": 1, "config": {}}, "has no config or no step"),
        ({"library": "dcrl_jax", "format": 1, "config": "a", "step": 1}, "has no config or no step"),
    ],
)
def test_config_of_another_format_is_refused(folder, values, message):
    (folder / "config.json").write_text(json.dumps(values))
    assert refusal(folder).startswith(f"{folder / 'config.json'} {message}")


def test_parameters_of_another_type_are_refused_with_the_first(folder):
    save_file({"a": np.float32([1]), "b": np.float16([1])}, folder / "model.safetensors")
    assert (
        refusal(folder) == f"{folder / 'model.safetensors'}: b is of type F16; expected float32, F32, in all of them."
    )


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a.b.c.d")])
def test_name_within_the_name_of_another_tensor_is_refused(folder, names):
    save_file({name: np.float32([1]) for name in names}, folder / "model.safetensors")
    assert refusal(folder) == f"{folder}: in model.safetensors, {names[1]} is a part of another tensor's name."


@pytest.mark.parametrize("source", ["hf://", "hf://owner", "hf://owner/", "hf:///name", "hf://a/b/c", "hf://owner@v1"])
def test_malformed_name_is_refused_without_asking_the_hub(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: pytest.fail("asked the hub"))
    assert refusal(source) == f"{source}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION."


@pytest.mark.parametrize(
    ("source", "revision"), [("hf://owner/name", None), ("hf://owner/name@v1.0", "v1.0"), ("hf://owner/name@", None)]
)
def test_hub_gives_the_two_files_of_a_revision(folder, monkeypatch, source, revision):
    asked = []

    def download(**arguments):
        asked.append(arguments)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert published.read(source)[1:] == (CONFIG, 7)
    files = ["model.safetensors", "config.json"]
    assert asked == [{"repo_id": "owner/name", "revision": revision, "allow_patterns": files}]


def test_repository_of_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: str(tmp_path))
    assert re.search(r"config\.json cannot be read.*hf://owner/name must be a folder", refusal("hf://owner/name"))


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no\n network"), ConnectionError("no network")])
def test_failed_download_says_what_to_do(error, monkeypatch):
    def download(**_):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    message = refusal("hf://owner/name")
    assert message.startswith("hf://owner/name: cannot be fetched from the hub (")
    assert "no network). Check the name and the network" in message


def test_name_that_the_hub_refuses_is_an_input_error():
    assert refusal("hf://bad name/x!").startswith("hf://bad name/x!: cannot be fetched from the hub (")
