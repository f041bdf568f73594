"""Exported files detect like the network without this project; a failed export leaves nothing."""

import json
import os
import subprocess
import sys

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.inference import export, onnx_primitives

OUTPUTS = {
    "teacher": ["boxes", "scores", "mask", "modality_weights"],
    "student": ["boxes", "scores", "mask"],
}


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """The exported folder of each role."""
    folders = {role: tmp_path_factory.mktemp("exported") for role in OUTPUTS}
    for role, folder in folders.items():
        export.export(str(trained(role).workdir), folder)
    return folders


def run_jax(folder, trained, images):
    detector = jax.export.deserialize((folder / "detector.jax").read_bytes())
    return detector.call(load_file(folder / "params.safetensors"), *images)


def run_onnx(folder, trained, images):
    session = onnxruntime.InferenceSession(folder / "detector.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == OUTPUTS[trained.config.role]
    feed = dict(zip(trained.network.modalities, images, strict=True))
    return dict(zip(names, session.run(None, feed), strict=True))


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


@pytest.mark.parametrize(("run", "count"), [(run_jax, 1), (run_onnx, 1), (run_onnx, 3)])
def test_student_detects_like_its_network(trained, folders, run, count):
    images = trained("student").images(count)
    assert_detects(run(folders["student"], trained("student"), images), trained("student"), images)


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
    images = trained("teacher").images(3)
    card = json.loads((folders["teacher"] / "detector.json").read_text())
    np.savez(tmp_path / "in.npz", *images)
    names = ", ".join(f"{name}={name}" for name in OUTPUTS["teacher"])
    results = "**found" if artefact == "detector.jax" else names
    program = WITHOUT_PROJECT + "\n".join([*card[artefact]["load"], f"np.savez(sys.argv[2], {results})"])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    command = [sys.executable, "-c", program, tmp_path / "in.npz", tmp_path / "out.npz"]
    run = subprocess.run(command, cwd=folders["teacher"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert_detects(dict(np.load(tmp_path / "out.npz")), trained("teacher"), images)


@pytest.mark.parametrize("role", OUTPUTS)
def test_onnx_model_is_valid_and_its_batch_has_no_size(folders, role):
    path = folders[role] / "detector.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path, load_external_data=False).graph
    for value in [*graph.input, *graph.output]:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_folder_has_four_files_with_the_usual_permissions(folders, tmp_path):
    detector = jax.export.deserialize((folders["student"] / "detector.jax").read_bytes())
    assert set(detector.platforms) == {"cpu", "cuda"}
    files = list(folders["student"].iterdir())
    assert {file.name for file in files} == {"params.safetensors", "detector.jax", "detector.onnx", "detector.json"}
    (tmp_path / "other").touch()
    assert {file.stat().st_mode for file in files} == {(tmp_path / "other").stat().st_mode}


def test_card_names_inputs_outputs_and_versions(trained, folders):
    card = json.loads((folders["teacher"] / "detector.json").read_text())
    checkpoint = str(trained("teacher").workdir)
    assert card["detector"] == {"role": "teacher", "classes": ["person"], "checkpoint": checkpoint, "step": 7}
    assert [(item["name"], item["dtype"], item["shape"]) for item in card["inputs"]] == [
        ("visible", "uint8", ["batch", 32, 48, 3]),
        ("lwir", "uint8", ["batch", 32, 48, 1]),
    ]
    assert [(item["name"], item["dtype"], item["shape"]) for item in card["outputs"]] == [
        ("boxes", "float32", ["batch", 100, 4]),
        ("scores", "float32", ["batch", 100]),
        ("mask", "bool", ["batch", 100]),
        ("modality_weights", "float32", ["batch", 2]),
    ]
    assert card["made_with"]["jax"] == jax.__version__
    assert "six months" in card["detector.jax"]["versions"]


def refusal(checkpoint, output):
    with pytest.raises(InputError) as error:
        export.export(str(checkpoint), output)
    return str(error.value)


def save_foreign(folder, config):
    items = {"params": ocp.args.StandardSave({"w": np.zeros(3)})}
    if config is not None:
        items["config"] = ocp.args.JsonSave(config)
    with ocp.CheckpointManager(folder, item_names=tuple(items)) as manager:
        manager.save(3, args=ocp.args.Composite(**items))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("no checkpoint", " holds no checkpoint"),
        (None, "/3 cannot be read as a checkpoint: "),
        ({"learning_rate": 0.1}, ": the config does not describe a detector of this version: "),
        ({"role": "student", "data": {"height_px": 32}}, ": config.seed is missing: this config was saved by"),
        ("student", ": the tree of parameters does not fit the configured model"),
    ],
    ids=["no checkpoint", "no config", "other config", "part of a config", "other parameters"],
)
def test_checkpoint_that_is_not_of_a_detector_is_refused(trained, tmp_path, config, message):
    if config == "student":
        config = checkpoints.config_to_json(trained("student").config)
    if config != "no checkpoint":
        save_foreign(tmp_path / "run", config)
    assert refusal(tmp_path / "run", tmp_path / "out").startswith(f"{tmp_path / 'run'}{message}")
    assert not (tmp_path / "out").exists()


def test_output_that_is_not_empty_is_left_as_it_is(trained, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "is not an empty folder" in refusal(trained("student").workdir, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_primitive_without_a_rule_is_named_and_nothing_is_left(trained, tmp_path, monkeypatch):
    monkeypatch.delitem(onnx_primitives.RULES, "logistic", raising=False)
    monkeypatch.delitem(onnx_primitives.RULES, "exp")
    message = refusal(trained("student").workdir, tmp_path / "out")
    expected = f"this detector has no ONNX model with jax {jax.__version__}: no ONNX operator is known for "
    assert message.startswith(expected)
    assert not (tmp_path / "out").exists()


def test_full_disk_is_reported_and_nothing_is_left(trained, tmp_path, no_room):
    with no_room(40000):  # the parameters fit, the program does not
        message = refusal(trained("student").workdir, tmp_path / "out")
    assert message.startswith(f"{tmp_path / 'out'} cannot be written to: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "flatbuffers"])
def test_missing_package_is_named_with_its_extra(trained, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(trained("student").workdir, tmp_path / "out")
    assert message == f"{package} is not installed. Install it (`pip install dcrl_jax[export]`)."
    assert not (tmp_path / "out").exists()
