"""Exported files detect like the network without this project; a failed export leaves nothing."""

import json
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference import export

OUTPUTS = {"teacher": ["boxes", "scores", "mask", "modality_weights"], "student": ["boxes", "scores", "mask"]}


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """The exported folder of each role."""
    folders = {role: tmp_path_factory.mktemp("exported") for role in OUTPUTS}
    for role, folder in folders.items():
        export.export(str(trained(role).workdir), folder)
    return folders


def assert_detects(results, trained, images):
    """Checks the results of a program against the network."""
    detections, weights = trained.detect(*images)
    expected = detections._asdict() | ({} if weights is None else {"modality_weights": weights})
    mask = expected["mask"]
    assert mask.any(axis=1).all()
    assert set(results) == set(expected)
    np.testing.assert_array_equal(results["mask"], mask)
    for name, values in expected.items():
        assert (results[name].dtype, results[name].shape) == (values.dtype, values.shape)
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(np.asarray(results[name])[mask], expected[name][mask], rtol=0, atol=1e-4)
    if weights is not None:
        np.testing.assert_allclose(results["modality_weights"], weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 4])
def test_student_s_onnx_model_detects_like_its_network_in_any_batch(trained, folders, count):
    (images,) = trained("student").images(count)
    session = onnxruntime.InferenceSession(folders["student"] / "detector.onnx")
    assert [output.name for output in session.get_outputs()] == OUTPUTS["student"]
    results = dict(zip(OUTPUTS["student"], session.run(None, {"visible": images}), strict=True))
    assert_detects(results, trained("student"), [images])


WITHOUT_PROJECT = """\
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dcrl_jax", "configs", "flax", "orbax", "ml_collections"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocked())
import numpy as np
visible, lwir = np.load(sys.argv[1]).values()
"""


@pytest.mark.parametrize("artefact", ["detector.jax", "detector.onnx"])
def test_lines_of_the_card_run_without_flax_and_this_project(trained, folders, tmp_path, artefact):
    images = trained("teacher").images(4)
    card = json.loads((folders["teacher"] / "detector.json").read_text())
    np.savez(tmp_path / "in.npz", *images)
    names = ", ".join(f"{name}={name}" for name in OUTPUTS["teacher"])
    results = "**results" if artefact == "detector.jax" else names
    program = WITHOUT_PROJECT + "\n".join([*card[artefact]["load"], f"np.savez(sys.argv[2], {results})"])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    command = [sys.executable, "-c", program, tmp_path / "in.npz", tmp_path / "out.npz"]
    run = subprocess.run(command, cwd=folders["teacher"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert_detects(dict(np.load(tmp_path / "out.npz")), trained("teacher"), images)


def test_folder_has_a_valid_onnx_model_and_files_all_may_read(folders, tmp_path):
    for folder in folders.values():
        onnx.checker.check_model(str(folder / "detector.onnx"), full_check=True)
        graph = onnx.load(folder / "detector.onnx", load_external_data=False).graph
        for value in [*graph.input, *graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    detector = jax.export.deserialize((folder / "detector.jax").read_bytes())
    assert set(detector.platforms) == {"cpu", "cuda"}
    files = list(folder.iterdir())
    assert {file.name for file in files} == {"params.safetensors", "detector.jax", "detector.onnx", "detector.json"}
    (tmp_path / "other").touch()
    assert {file.stat().st_mode for file in files} == {(tmp_path / "other").stat().st_mode}


def test_card_names_inputs_outputs_and_versions(trained, folders):
    card = json.loads((folders["teacher"] / "detector.json").read_text())
    checkpoint = str(trained("teacher").workdir)
    assert card["detector"] == {"role": "teacher", "classes": ["person"], "checkpoint": checkpoint, "step": 7}
    arrays = {item["name"]: (item["dtype"], item["shape"]) for item in card["inputs"] + card["outputs"]}
    assert arrays == {
        "visible": ("uint8", ["batch", 32, 48, 3]),
        "lwir": ("uint8", ["batch", 32, 48, 1]),
        "boxes": ("float32", ["batch", 100, 4]),
        "scores": ("float32", ["batch", 100]),
        "mask": ("bool", ["batch", 100]),
        "modality_weights": ("float32", ["batch", 2]),
    }
    assert card["made_with"]["jax"] == jax.__version__
    assert "six months" in card["detector.jax"]["versions"]


def test_card_names_the_activations_of_each_program(trained, tmp_path, monkeypatch):
    config = trained("student").config.copy_and_resolve_references()
    config.backbone.dtype = "bfloat16"
    monkeypatch.setattr(export, "restore_trained", lambda _: (None, trained("student").params, config, 7))
    outputs = OUTPUTS["student"]
    monkeypatch.setattr(export, "flat_detect", lambda network: lambda params, image: dict.fromkeys(outputs, image))
    export.export("runs/student", tmp_path / "out")
    card = json.loads((tmp_path / "out" / "detector.json").read_text())
    activations = {program: card[program]["activations"] for program in ("detector.jax", "detector.onnx")}
    assert activations == {"detector.jax": "bfloat16", "detector.onnx": "float32"}
    assert "registration" not in card
    assert card["inputs"][0]["meaning"] == "RGB, 0 to 255, channels in this order"


def test_card_says_what_a_user_has_to_do_with_the_images(trained, tmp_path, monkeypatch):
    config = trained("teacher").config.copy_and_resolve_references()
    with config.unlocked():
        config.data.options.lwir_to_visible = "10, 20, 50, 60"
        config.data.update({"grey_visible": True, "blank_probability": 0.2, "lwir_range": (7000, 9000)})
    monkeypatch.setattr(export, "restore_trained", lambda _: (None, trained("teacher").params, config, 7))
    outputs = dict.fromkeys(OUTPUTS["teacher"])
    monkeypatch.setattr(export, "flat_detect", lambda network: lambda params, image, _: dict.fromkeys(outputs, image))
    for value, words in (
        (None, "x1, y1, x2, y2 = 10, 20, 50, 60"),
        ("stretch", "Resize the thermal image to the size"),
    ):
        export.export("runs/teacher", tmp_path / str(value), value)
        card = json.loads((tmp_path / str(value) / "detector.json").read_text())
        assert words in card["registration"]
    visible, lwir = (item["meaning"] for item in card["inputs"])
    assert visible.endswith("channels in this order; a grey image has three equal channels; all 0 if it is missing")
    assert lwir.endswith("7000 becomes 0 and 9000 becomes 255, the rest is cut off; all 0 if it is missing")


def test_failed_export_gives_its_reason_and_leaves_nothing(trained, tmp_path, monkeypatch, no_room):
    def assert_refused(message, output="out"):
        with pytest.raises(InputError, match=f"^{message}"):
            export.export(str(trained("student").workdir), tmp_path / output)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def program(params, image):
        return dict.fromkeys(OUTPUTS["student"], jnp.sin(image.astype(jnp.float32)))

    (tmp_path / "mine.txt").touch()
    assert_refused(f"{tmp_path} exists and is not an empty folder", output="")
    with no_room(1000):
        assert_refused(f"{tmp_path / 'out'} cannot be written to: ")
    with monkeypatch.context() as patch:
        patch.setattr(export, "flat_detect", lambda network: program)
        reason = "no ONNX operator is known for the primitive sin"
        assert_refused(f"this detector has no ONNX model with jax {jax.__version__}: {reason}")
    for package in ("onnx", "flatbuffers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert_refused(rf"{package} is not installed. Install it \(`pip install dcrl_jax\[export\]`\)\.$")
