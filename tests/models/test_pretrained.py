"""ImageNet weights of VGG-16 from a file, for both backbones of a teacher and for a student."""

from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.models.network import build_network
from dcrl_jax.models.pretrained import load_vgg16, local_file

# Layers of torchvision's and timm's ``features``, and our names.
LAYERS = {
    0: "conv1_1",
    2: "conv1_2",
    5: "conv2_1",
    7: "conv2_2",
    10: "conv3_1",
    12: "conv3_2",
    14: "conv3_3",
    17: "conv4_1",
    19: "conv4_2",
    21: "conv4_3",
    24: "conv5_1",
    26: "conv5_2",
    28: "conv5_3",
}


@pytest.fixture(scope="module")
def params_of(tiny_config, random_params):
    trees = {role: random_params(build_network(tiny_config(role))) for role in ("teacher", "student")}
    return lambda role: jax.tree.map(np.copy, trees[role])


@pytest.fixture
def params(params_of):
    return params_of("teacher")


@pytest.fixture(scope="module")
def tensors(params_of):
    """A file's content with PyTorch's names and axes, of the width of the parameters."""
    rng = np.random.default_rng(7)
    content = {}
    for number, layer in LAYERS.items():
        rows, columns, inputs, outputs = params_of("student")["backbone"][layer]["kernel"].shape
        content[f"features.{number}.weight"] = rng.normal(size=(outputs, inputs, rows, columns)).astype(np.float32)
        content[f"features.{number}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return content


def write(tensors, folder):
    path = folder / "vgg16.safetensors"
    save_file(tensors, path)
    return str(path)


def refusal(path, params):
    with pytest.raises(InputError) as error:
        load_vgg16(path, params)
    return str(error.value)


@pytest.mark.parametrize(
    ("role", "backbones"), [("teacher", ("backbones_visible", "backbones_lwir")), ("student", ("backbone",))]
)
def test_every_backbone_gets_every_convolution_and_nothing_else_changes(params_of, tensors, tmp_path, role, backbones):
    params = params_of(role)
    norm = {"scale": np.full(4, 3.0, np.float32), "bias": np.full(4, 2.0, np.float32)}
    for backbone in backbones:
        params[backbone]["norm1_1"] = norm
    before = jax.tree.map(np.copy, params)
    loaded = load_vgg16(write(tensors, tmp_path), params)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert {name for name in params if "backbone" in name} == set(backbones)
    assert list(loaded) == list(params)
    for name, tree in loaded.items():
        if name not in backbones:
            jax.tree.map(np.testing.assert_array_equal, tree, params[name])
            continue
        assert set(tree) == {*LAYERS.values(), "norm1_1"}
        jax.tree.map(np.testing.assert_array_equal, tree["norm1_1"], norm)
        for number, layer in LAYERS.items():
            weight, kernel = tensors[f"features.{number}.weight"], np.asarray(tree[layer]["kernel"])
            for row, column in np.ndindex(3, 3):
                np.testing.assert_array_equal(kernel[row, column], weight[:, :, row, column].T)
            np.testing.assert_array_equal(tree[layer]["bias"], tensors[f"features.{number}.bias"])


def test_half_precision_becomes_float32(params, tensors, tmp_path):
    half = {name: values.astype(np.float16) for name, values in tensors.items()}
    kernel = load_vgg16(write(half, tmp_path), params)["backbones_lwir"]["conv3_2"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[0, 1, 2, 3], np.float32(half["features.12.weight"][3, 2, 0, 1]))


def test_classifiers_of_torchvision_and_timm_are_ignored(params, tensors, tmp_path):
    expected = load_vgg16(write(tensors, tmp_path), params)
    heads = dict.fromkeys(("classifier.6.weight", "head.fc.bias", "pre_logits.fc1.weight"), np.ones(3, np.float32))
    jax.tree.map(np.testing.assert_array_equal, load_vgg16(write(tensors | heads, tmp_path), params), expected)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"features.21.bias": None}, ["features.21.bias: missing"]),
        # A file with batch norm has other layers behind the same numbers.
        (
            {"features.1.running_mean": np.ones(4, np.float32)},
            ["features.1.running_mean: not a layer of VGG-16 without batch norm"],
        ),
        (
            dict.fromkeys([f"features.{n}.{k}" for n in LAYERS for k in ("weight", "bias")]),
            [": missing", "and 21 more"],
        ),
        (
            {"features.5.weight": np.ones((9, 4, 3, 3), np.float32)},
            [
                "conv2_1 kernel: (3, 3, 4, 9) in the file, (3, 3, 4, 4) in the model",
                "config.backbone.width=1.0; or start from random weights with --config.init.vgg16= ",
            ],
        ),
        ({"features.0.weight": np.ones(108, np.float32)}, ["conv1_1 kernel: (108,) in the file"]),
    ],
    ids=["missing layer", "other network", "many problems", "other width", "other rank"],
)
def test_file_that_does_not_fit_is_refused(params, tensors, tmp_path, changes, messages):
    changed = {name: values for name, values in (tensors | changes).items() if values is not None}
    path = write(changed or {"classifier.0.bias": np.ones(1, np.float32)}, tmp_path)
    message = refusal(path, params)
    assert message.startswith(f"{path} does not fit VGG-16")
    for part in messages:
        assert part in message
    assert message.count(": missing") <= 5


def test_file_that_cannot_be_read_is_named(params, tmp_path):
    (tmp_path / "vgg16.pth").write_bytes(b"PK\x03\x04 a pickled checkpoint" * 10)
    for path in (tmp_path / "nothing.safetensors", tmp_path, tmp_path / "vgg16.pth"):
        assert refusal(str(path), params).startswith(f"{path}: cannot be read as safetensors")


@pytest.mark.parametrize("path", ["hf://", "hf://timm", "hf://timm/vgg16", "hf://timm//x", "hf:///vgg16/x"])
def test_malformed_hub_path_is_refused_without_a_request(path, params, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: pytest.fail("asked the hub"))
    assert refusal(path, params) == f"config.init.vgg16={path}: expected hf://OWNER/NAME/FILE.safetensors."


def test_hub_path_is_fetched(params, tensors, tmp_path, monkeypatch):
    requests = []

    def download(**arguments):
        requests.append((arguments["repo_id"], arguments["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = "hf://timm/vgg16.tv_in1k/folder/vgg16.safetensors"
    message = f"config.init.vgg16={source}: the repository timm/vgg16.tv_in1k has no file folder/vgg16.safetensors."
    assert refusal(source, params).startswith(message)
    (tmp_path / "folder").mkdir()
    write(tensors, tmp_path / "folder")
    loaded = load_vgg16(source, params)
    assert requests == [("timm/vgg16.tv_in1k", ["folder/vgg16.safetensors"])] * 2
    np.testing.assert_array_equal(loaded["backbones_visible"]["conv5_3"]["bias"], tensors["features.28.bias"])


def test_local_path_is_unchanged():
    assert local_file("weights/vgg16.safetensors") == Path("weights/vgg16.safetensors")
