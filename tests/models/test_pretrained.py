"""ImageNet's VGG-16 weights from a file into both branches of a teacher and into a student."""

import pathlib

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.models.build import build_model
from dcrl_jax.models.pretrained import load_vgg16, local_file

# Layer of torchvision's and timm's ``features``, and our name for it.
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


@pytest.fixture
def params(tiny_config, random_params):
    config = tiny_config()
    return random_params(build_model(config), config)


def vgg16_tensors(params):
    """A file's content with PyTorch's names and axes, of the same width as the parameters."""
    rng = np.random.default_rng(7)
    tensors = {}
    branch = next(name for name in params if name.startswith("backbone"))
    for number, layer in LAYERS.items():
        rows, columns, inputs, outputs = params[branch][layer]["kernel"].shape
        tensors[f"features.{number}.weight"] = rng.normal(size=(outputs, inputs, rows, columns)).astype(np.float32)
        tensors[f"features.{number}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return tensors


def write(tensors, folder, name="vgg16.safetensors"):
    save_file(tensors, folder / name)
    return str(folder / name)


def refusal(path, params):
    with pytest.raises(InputError) as error:
        load_vgg16(path, params)
    return str(error.value)


@pytest.mark.parametrize(
    ("role", "branches"), [("teacher", ("backbones_visible", "backbones_lwir")), ("student", ("backbone",))]
)
def test_every_branch_gets_every_convolution_with_its_axes_in_our_order(
    tiny_config, random_params, tmp_path, role, branches
):
    config = tiny_config(role)
    params = random_params(build_model(config), config)
    tensors = vgg16_tensors(params)
    loaded = load_vgg16(write(tensors, tmp_path), params)
    assert {name for name in params if "backbone" in name} == set(branches)
    for branch in branches:
        assert set(loaded[branch]) == set(LAYERS.values())
        for number, layer in LAYERS.items():
            weight = tensors[f"features.{number}.weight"]
            kernel = np.asarray(loaded[branch][layer]["kernel"])
            for row, column in np.ndindex(3, 3):
                np.testing.assert_array_equal(kernel[row, column], weight[:, :, row, column].T)
            np.testing.assert_array_equal(loaded[branch][layer]["bias"], tensors[f"features.{number}.bias"])


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_nothing_but_the_convolutions_changes_and_the_given_tree_stays(tiny_config, random_params, tmp_path, role):
    config = tiny_config(role)
    params = random_params(build_model(config), config)
    before = jax.tree.map(np.copy, params)
    tensors = vgg16_tensors(params) | {"classifier.0.weight": np.ones((2, 2), np.float32)}
    loaded = load_vgg16(write(tensors, tmp_path), params)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert list(loaded) == list(params)
    rest = [name for name in params if not name.startswith("backbone")]
    assert {"rpns_lwir", "modality_fusion"} <= set(rest) or {"rpn", "adaption_layer"} <= set(rest)
    for name in rest:
        jax.tree.map(np.testing.assert_array_equal, loaded[name], params[name])


def test_norm_layers_of_the_backbone_keep_their_values(params, tmp_path):
    norm = {"scale": np.full(4, 3.0, np.float32), "bias": np.full(4, 2.0, np.float32)}
    for branch in ("backbones_visible", "backbones_lwir"):
        params[branch]["norm1_1"] = norm
    loaded = load_vgg16(write(vgg16_tensors(params), tmp_path), params)
    np.testing.assert_array_equal(loaded["backbones_visible"]["norm1_1"]["scale"], norm["scale"])


def test_half_precision_becomes_float32(params, tmp_path):
    tensors = {name: values.astype(np.float16) for name, values in vgg16_tensors(params).items()}
    kernel = load_vgg16(write(tensors, tmp_path), params)["backbones_lwir"]["conv3_2"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[0, 1, 2, 3], np.float32(tensors["features.12.weight"][3, 2, 0, 1]))


@pytest.mark.parametrize("head", ["classifier.6.weight", "head.fc.bias", "pre_logits.fc1.weight"])
def test_classifiers_of_torchvision_and_timm_are_ignored(params, tmp_path, head):
    tensors = vgg16_tensors(params)
    expected = load_vgg16(write(tensors, tmp_path), params)
    loaded = load_vgg16(write(tensors | {head: np.ones(3, np.float32)}, tmp_path), params)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_missing_layer_is_named(params, tmp_path):
    tensors = vgg16_tensors(params)
    del tensors["features.21.bias"]
    path = write(tensors, tmp_path)
    message = refusal(path, params)
    assert message.startswith(f"{path} does not fit VGG-16")
    assert "features.21.bias: missing" in message


def test_layer_of_another_network_is_named(params, tmp_path):
    # Batch norm's file has other layers behind the same numbers.
    tensors = vgg16_tensors(params) | {"features.1.running_mean": np.ones(4, np.float32)}
    assert "features.1.running_mean: not a layer of VGG-16 without batch norm" in refusal(
        write(tensors, tmp_path), params
    )


def test_long_list_of_problems_is_cut_and_counted(params, tmp_path):
    message = refusal(write({"weight": np.ones(1, np.float32)}, tmp_path), params)
    assert "and 22 more" in message
    assert message.count(": missing") == 5


def test_width_that_does_not_fit_names_both_shapes_and_the_key(params, tmp_path):
    tensors = vgg16_tensors(params)
    tensors["features.5.weight"] = np.ones((9, 4, 3, 3), np.float32)
    message = refusal(write(tensors, tmp_path), params)
    assert "conv2_1 kernel: (3, 3, 4, 9) in the file, (3, 3, 4, 4) in the model" in message
    assert "config.backbone.width=1.0; or start from random numbers with --config.init.vgg16= " in message


def test_kernel_without_four_axes_is_named_with_its_shape(params, tmp_path):
    tensors = vgg16_tensors(params)
    tensors["features.0.weight"] = tensors["features.0.weight"].reshape(-1)
    assert "conv1_1 kernel: (" in refusal(write(tensors, tmp_path), params)


def test_missing_file_and_folder_are_named(params, tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        assert refusal(str(path), params).startswith(f"{path}: cannot be read as safetensors")


def test_file_of_another_format_is_named(params, tmp_path):
    path = tmp_path / "vgg16.pth"
    path.write_bytes(b"PK\x03\x04 a pickled checkpoint" * 10)
    assert refusal(str(path), params).startswith(f"{path}: cannot be read as safetensors")


@pytest.mark.parametrize("path", ["hf://", "hf://timm", "hf://timm/vgg16", "hf://timm//x", "hf:///vgg16/x"])
def test_malformed_hub_path_is_refused_without_asking_the_hub(path, params, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **_: pytest.fail("asked the hub"))
    assert refusal(path, params) == f"config.init.vgg16={path}: expected hf://OWNER/NAME/FILE.safetensors."


def test_hub_path_goes_through_the_hub_s_cache(params, tmp_path, monkeypatch):
    tensors = vgg16_tensors(params)
    file = write(tensors, tmp_path)
    asked = []

    def download(**arguments):
        asked.append(arguments)
        return file

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = load_vgg16("hf://timm/vgg16.tv_in1k/folder/model.safetensors", params)
    assert asked == [{"repo_id": "timm/vgg16.tv_in1k", "filename": "folder/model.safetensors"}]
    np.testing.assert_array_equal(loaded["backbones_visible"]["conv5_3"]["bias"], tensors["features.28.bias"])


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network"), ConnectionError("no network")])
def test_failed_download_says_what_to_do(error, monkeypatch):
    def download(**_):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        InputError, match=r"config\.init\.vgg16=hf://a/b/c: cannot be downloaded \(.*no network.*\)\. Fetch"
    ):
        local_file("hf://a/b/c")


def test_name_that_the_hub_refuses_is_an_input_error():
    with pytest.raises(InputError, match=r"hf://bad name/x!/f: cannot be downloaded"):
        local_file("hf://bad name/x!/f")


def test_local_path_stays_as_it_is():
    assert local_file("weights/vgg16.safetensors") == pathlib.Path("weights/vgg16.safetensors")
