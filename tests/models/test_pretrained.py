"""ImageNet weights of VGG-16 from a file, for both backbones of a teacher and for a student."""

from pathlib import Path
from unittest import mock

import huggingface_hub
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.models.network import build_network
from dcrl_jax.models.pretrained import load_vgg16, local_file, narrowed

# Our names of the convolutions among the layers of torchvision's and timm's ``features``.
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
NAMES = "conv1_1 conv1_2 conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv4_1 conv4_2 conv4_3 conv5_1 conv5_2 conv5_3"
LAYERS = dict(zip(NUMBERS, NAMES.split(), strict=True))
KEYS = [f"features.{number}.{kind}" for number in LAYERS for kind in ("weight", "bias")]


@pytest.fixture(scope="module")
def trees(tiny_config, random_params):
    return {role: random_params(build_network(tiny_config(role))) for role in ("teacher", "student")}


@pytest.fixture(scope="module")
def params(trees):
    return trees["teacher"]


@pytest.fixture(scope="module")
def tensors(trees):
    """A file's content with PyTorch's names and axes, of the width of the parameters."""
    rng = np.random.default_rng(7)
    content = {}
    for number, layer in LAYERS.items():
        rows, columns, inputs, outputs = trees["student"]["backbone"][layer]["kernel"].shape
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
def test_every_backbone_gets_every_convolution_and_nothing_else_changes(trees, tensors, tmp_path, role, backbones):
    norm = {"scale": np.full(4, 3.0, np.float32), "bias": np.full(4, 2.0, np.float32)}
    params = trees[role] | {name: trees[role][name] | {"norm1_1": norm} for name in backbones}
    before = jax.tree.map(np.copy, params)
    loaded = load_vgg16(write(tensors, tmp_path), params)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    expected = {}
    for number, layer in LAYERS.items():
        kernel = tensors[f"features.{number}.weight"].transpose(2, 3, 1, 0)
        expected[layer] = {"kernel": kernel, "bias": tensors[f"features.{number}.bias"]}
    expected = params | dict.fromkeys(backbones, expected | {"norm1_1": norm})
    jax.tree.map(np.testing.assert_array_equal, dict(loaded), expected)


def test_a_narrower_backbone_keeps_the_channels_of_the_largest_weights():
    kernels = [np.zeros((3, 3, 3, 4), np.float32), np.zeros((3, 3, 4, 3), np.float32)]
    kernels[0][1, 1, 0] = [3, 1, 2, 4]
    kernels[1][0, 2, :, 0] = [1, 9, 5, 0.5]  # the norms of what reads them
    kernels[1][1, 1, :, 1] = 7
    layers = {f"conv1_{i + 1}": {"kernel": k, "bias": np.arange(k.shape[3])} for i, k in enumerate(kernels)}
    found = narrowed(layers, {"conv1_1": 2, "conv1_2": 3})
    # 3 * sqrt(50), sqrt(130), 2 * sqrt(74), 4 * sqrt(49.25): the first and the last.
    np.testing.assert_array_equal(found["conv1_1"]["kernel"][1, 1, 0], [3, 4])
    assert found["conv1_1"]["bias"].tolist() == [0, 3]
    np.testing.assert_array_equal(found["conv1_2"]["kernel"], kernels[1][:, :, [0, 3]])
    whole = narrowed(layers, {"conv1_1": 4, "conv1_2": 3})
    jax.tree.map(np.testing.assert_array_equal, whole, layers)


def test_half_precision_becomes_float32_and_classifiers_are_ignored(params, tensors, tmp_path):
    half = {name: values.astype(np.float16) for name, values in tensors.items()}
    heads = dict.fromkeys(("classifier.6.weight", "head.fc.bias", "pre_logits.fc1.weight"), np.ones(3, np.float32))
    kernel = load_vgg16(write(half | heads, tmp_path), params)["backbones_lwir"]["conv3_2"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[0, 1, 2, 3], np.float32(half["features.12.weight"][3, 2, 0, 1]))


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        pytest.param({"features.21.bias": None}, ["features.21.bias: missing"], id="missing layer"),
        # A file with batch norm has other layers behind the same numbers.
        pytest.param({"features.1.running_mean": np.ones(4)}, ["mean: not a layer of VGG-16"], id="other network"),
        pytest.param(dict.fromkeys(KEYS), [": missing", "and 21 more"], id="many problems"),
        pytest.param(
            {"features.5.weight": np.ones((3, 4, 3, 3)), "features.5.bias": np.ones(3)},
            ["conv2_1 kernel: (3, 3, 4, 3) in the file, (3, 3, 4, 4) in"],
            id="width",
        ),
        pytest.param({"features.0.weight": np.ones(9)}, ["conv1_1 kernel: (9,) in the file"], id="rank"),
    ],
)
def test_file_that_does_not_fit_is_refused(params, tensors, tmp_path, changes, messages):
    changed = {name: values for name, values in (tensors | changes).items() if values is not None}
    path = write(changed or {"classifier.0.bias": np.ones(1, np.float32)}, tmp_path)
    message = refusal(path, params)
    assert message.startswith(f"{path} does not fit VGG-16")
    for part in (
        *messages,
        "config.backbone.width of at most 1; or start from random weights with --config.init.vgg16= ",
    ):
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


def test_hub_path_is_fetched_and_a_local_path_is_unchanged(params, tmp_path, monkeypatch):
    download = mock.Mock(return_value=str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = "hf://timm/vgg16.tv_in1k/folder/vgg16.safetensors"
    message = f"config.init.vgg16={source}: the repository timm/vgg16.tv_in1k has no file folder/vgg16.safetensors."
    assert refusal(source, params).startswith(message)
    file = tmp_path / "folder" / "vgg16.safetensors"
    file.parent.mkdir()
    file.touch()
    assert local_file(source) == file
    asked = {"repo_id": "timm/vgg16.tv_in1k", "revision": None, "allow_patterns": ["folder/vgg16.safetensors"]}
    assert download.call_args_list == [mock.call(**asked)] * 2
    assert local_file("weights/vgg16.safetensors") == Path("weights/vgg16.safetensors")
