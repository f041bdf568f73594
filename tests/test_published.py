"""A published model comes back to the bit, and anything else is refused."""

import json

import huggingface_hub
import jax
import numpy as np
import pytest
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


def assert_refused(source, message):
    with pytest.raises(InputError) as refusal:
        published.read(str(source))
    assert message in str(refusal.value)


def test_model_comes_back_to_the_bit_from_files_with_metadata(folder):
    params, config, step = published.read(str(folder))
    assert (config, step) == (CONFIG, 7)
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True):
        assert leaf.devices() == {jax.local_devices()[0]}
        assert np.asarray(leaf).tobytes() == np.asarray(expected).tobytes()

    with safe_open(str(folder / "model.safetensors"), framework="numpy") as file:
        assert set(file.keys()) == {"backbone.conv1_1.kernel", "backbone.conv1_1.bias", "scale"}
        assert file.metadata() == {"format": "flax", "library": "dcrl_jax", "role": "student", "step": "7"}
    values = json.loads((folder / "config.json").read_text())
    assert values == {"format": 1, "library": "dcrl_jax", "role": "student", "step": 7, "config": CONFIG}
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_bfloat16_halves_the_file_and_rounds_to_eight_bits(folder, tmp_path):
    (tmp_path / "small").mkdir()
    published.write(tmp_path / "small", PARAMS, CONFIG, 7, "bfloat16")
    params, _, _ = published.read(str(tmp_path / "small"))
    for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True):
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, np.asarray(expected).astype(jax.numpy.bfloat16).astype(np.float32))
        np.testing.assert_allclose(leaf, expected, rtol=2**-8)
    with safe_open(str(tmp_path / "small" / "model.safetensors"), framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in ("scale", "backbone.conv1_1.kernel")} == {"BF16"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_or_damaged_file_is_named(folder, name):
    file = folder / name
    truncated, pointer = file.read_bytes()[:-9], b"version https://git-lfs.github.com/spec/v1\n"
    for content in (truncated, pointer, b"\xff\xfe", b"[" * 100_000, b" " * (2**20 + 1)):
        file.write_bytes(content)
        assert_refused(folder, f"{file} cannot be read: ")
    file.unlink()
    assert_refused(folder, f"{file} cannot be read: No such file or directory")
    assert_refused(folder, f". {folder} must be a folder of --mode=publish, with config.json and model.safetensors.")


OF_THIS_LIBRARY = {"library": "dcrl_jax", "format": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (OF_THIS_LIBRARY | {"format": 2}, "is of format 2; expected format 1, which --mode=publish of this version"),
        ({"model_type": "bert", "format": 1}, "is not the config of a dcrl_jax model; expected format 1"),
        ([], "is not the config of a dcrl_jax model"),
        (OF_THIS_LIBRARY | {"config": {}}, "has no config or no step"),
        (OF_THIS_LIBRARY | {"config": "a", "step": 1}, "has no config or no step"),
        (OF_THIS_LIBRARY | {"config": {}, "step": -1}, "has no config or no step"),
        (OF_THIS_LIBRARY | {"config": {}, "step": 10**400}, "has no config or no step"),
    ],
    ids=["format 2", "other library", "list", "no step", "config is text", "negative step", "giant step"],
)
def test_config_of_another_format_is_refused(folder, values, message):
    (folder / "config.json").write_text(json.dumps(values))
    assert_refused(folder, f"{folder / 'config.json'} {message}")


def test_config_with_a_key_twice_is_refused(folder):
    (folder / "config.json").write_text('{"step": 3, "step": 4}')
    assert_refused(folder, "cannot be read: a key is there twice")


@pytest.mark.parametrize(
    ("names", "dtype", "message"),
    [
        (["b"], np.float16, "model.safetensors: b has type F16; expected float32, F32, or bfloat16, BF16"),
        (["a", "a.b"], np.float32, "in model.safetensors, the name a.b extends the name of another"),
        (["a.b", "a.b.c.d"], np.float32, "in model.safetensors, the name a.b.c.d extends the name"),
        (["a." * 20_000], np.float32, "a.a.a.a.a.' has more than 32 parts"),
        ([str(number) for number in range(10_001)], np.float32, "10,001 tensors; expected at most 10,000"),
    ],
)
def test_tensors_that_make_no_float32_tree_are_refused(folder, names, dtype, message):
    save_file(dict.fromkeys(names, np.ones(1, dtype)), folder / "model.safetensors")
    assert_refused(folder, message)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [2**63, 2, 2], "data_offsets": [0, 8]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "O", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2] + [1] * 70, "data_offsets": [0, 8]}},
    ],
    ids=["shape", "offsets", "overflow", "overlap", "gap", "objects", "sides"],
)
def test_header_that_states_more_than_the_file_has_is_refused(folder, tensors):
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert_refused(folder, "model.safetensors cannot be read: ")


def test_file_with_holes_is_not_read(folder):
    size = 4 * 2**32
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**32], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    assert_refused(folder, "parameters of 17,179,869,184 bytes; expected at most 8,589,934,592.")


@pytest.mark.parametrize("source", ["hf://", "hf://owner", "hf://owner/", "hf:///name", "hf://a/b/c", "hf://owner@v1"])
def test_malformed_name_is_refused_without_a_download(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: pytest.fail("asked the hub"))
    assert_refused(source, f"{source}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")


@pytest.mark.parametrize(("suffix", "revision"), [("", None), ("@v1.0", "v1.0"), ("@", None)])
def test_two_files_of_a_revision_are_downloaded(folder, monkeypatch, suffix, revision):
    calls = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **call: calls.append(call) or str(folder))
    assert published.read(f"hf://owner/name{suffix}")[1:] == (CONFIG, 7)
    files = ["model.safetensors", "config.json"]
    assert calls == [{"repo_id": "owner/name", "revision": revision, "allow_patterns": files}]
