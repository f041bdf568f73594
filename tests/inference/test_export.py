"""Export: files that run without this project give what the model gives; what cannot be exported leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.inference import export, onnx_primitives
from dcrl_jax.models.build import build_anchors, build_model
from dcrl_jax.models.detect import detect, detection_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

FILES = {"params.safetensors", "detector.jax", "detector.onnx", "detector.json"}
OUTPUTS = {
    "teacher": ["boxes", "scores", "mask", "modality_weights"],
    "student": ["boxes", "scores", "mask"],
}


class Exported:
    """A role's detector as files, and what the model itself finds in the same images."""

    def __init__(self, config, params, folder):
        self.role, self.checkpoint, self.folder = config.role, folder / "run", folder / "out"
        with checkpoints.open_manager(self.checkpoint / "best") as manager:
            checkpoints.save_best(manager, 7, params, config, 0.5)
        export.export(str(self.checkpoint), self.folder)
        model, anchors, rules = build_model(config), build_anchors(config), detection_rules(config)
        self.modalities = model.modalities
        self._run = jax.jit(lambda *images: detect(model, params, anchors, rules, *images))

    def images(self, count):
        rng = np.random.default_rng(count)
        channels = {"visible": 3, "lwir": 1}
        return [rng.integers(0, 256, (count, 32, 48, channels[name]), np.uint8) for name in self.modalities]

    def expected(self, images):
        detections, weights = jax.device_get(self._run(*images))
        return detections._asdict() | ({} if weights is None else {"modality_weights": weights})

    def found_by_jax(self, images):
        detector = jax.export.deserialize((self.folder / "detector.jax").read_bytes())
        return detector.call(load_file(self.folder / "params.safetensors"), *images)

    def found_by_onnx(self, images):
        session = onnxruntime.InferenceSession(self.folder / "detector.onnx")
        names = [output.name for output in session.get_outputs()]
        assert names == OUTPUTS[self.role]
        return dict(zip(names, session.run(None, dict(zip(self.modalities, images, strict=True))), strict=True))


@pytest.fixture(scope="module")
def exported(tiny_config, random_params, tmp_path_factory):
    """By role; made once."""
    made = {}

    def get(role):
        if role not in made:
            config = tiny_config(role)
            config.backbone.norm = "group"
            made[role] = Exported(config, random_params(build_model(config), config), tmp_path_factory.mktemp(role))
        return made[role]

    return get


def assert_equal(found, expected):
    assert set(found) == set(expected)
    mask = expected["mask"]
    assert mask.any(axis=1).all()
    np.testing.assert_array_equal(found["mask"], mask)
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(np.asarray(found[name])[mask], expected[name][mask], rtol=0, atol=1e-4)
    if "modality_weights" in expected:
        np.testing.assert_allclose(found["modality_weights"], expected["modality_weights"], rtol=0, atol=1e-5)


CASES = [("student", 1), ("student", 3), ("teacher", 3)]


@pytest.mark.parametrize(("role", "count"), CASES)
def test_jax_artefact_gives_what_the_model_gives_for_any_batch(exported, role, count):
    images = exported(role).images(count)
    assert_equal(exported(role).found_by_jax(images), exported(role).expected(images))


@pytest.mark.parametrize(("role", "count"), [*CASES, ("teacher", 1)])
def test_onnx_model_gives_what_the_model_gives_for_any_batch(exported, role, count):
    images = exported(role).images(count)
    assert_equal(exported(role).found_by_onnx(images), exported(role).expected(images))


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_onnx_model_is_valid_and_its_batch_has_no_size(exported, role):
    path = exported(role).folder / "detector.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path, load_external_data=False).graph
    for value in [*graph.input, *graph.output]:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_jax_artefact_is_for_cpu_and_cuda(exported):
    detector = jax.export.deserialize((exported("student").folder / "detector.jax").read_bytes())
    assert set(detector.platforms) == {"cpu", "cuda"}


def test_folder_holds_these_files_and_nothing_else(exported):
    assert {file.name for file in exported("student").folder.iterdir()} == FILES


def test_whoever_may_read_one_file_may_read_all(exported, tmp_path):
    (tmp_path / "other").touch()
    mode = (tmp_path / "other").stat().st_mode
    assert {file.stat().st_mode for file in exported("student").folder.iterdir()} == {mode}


def test_card_says_what_goes_in_and_comes_out(exported):
    card = json.loads((exported("teacher").folder / "detector.json").read_text())
    assert card["detector"] == {
        "role": "teacher",
        "classes": ["person"],
        "checkpoint": str(exported("teacher").checkpoint),
        "step": 7,
    }
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


BLOCK_IMPORTS = """\
import sys
import tempfile
from pathlib import Path
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dcrl_jax", "configs", "flax", "orbax", "ml_collections"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocked())
import numpy as np
"""


@pytest.mark.parametrize("artefact", ["detector.jax", "detector.onnx"])
def test_lines_in_the_card_run_where_neither_flax_nor_this_project_is(exported, tmp_path, artefact):
    teacher = exported("teacher")
    images = teacher.images(3)
    card = json.loads((teacher.folder / "detector.json").read_text())
    np.savez(tmp_path / "in.npz", **dict(zip(teacher.modalities, images, strict=True)))
    before = "".join(f"{name} = np.load({str(tmp_path / 'in.npz')!r})[{name!r}]\n" for name in teacher.modalities)
    names = ", ".join(f"{name}={name}" for name in OUTPUTS["teacher"])
    results = "**found" if artefact == "detector.jax" else names
    after = f"np.savez({str(tmp_path / 'out.npz')!r}, {results})\n"
    program = BLOCK_IMPORTS + before + "\n".join(card[artefact]["load"]) + "\n" + after
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=teacher.folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert_equal(dict(np.load(tmp_path / "out.npz")), teacher.expected(images))


def refused(checkpoint, output):
    with pytest.raises(InputError) as refusal:
        export.export(str(checkpoint), output)
    return str(refusal.value)


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
def test_path_without_a_checkpoint_is_refused_and_nothing_is_made(tmp_path, there):
    output = tmp_path / "out"
    if there:
        output.mkdir()
    assert "holds no checkpoint" in refused(tmp_path / "missing", output)
    assert list(output.iterdir()) == [] if there else not output.exists()


def save_foreign(folder, config):
    items = {"params": ocp.args.StandardSave({"w": np.zeros(3)})}
    if config is not None:
        items["config"] = ocp.args.JsonSave(config)
    with ocp.CheckpointManager(folder, item_names=tuple(items)) as manager:
        manager.save(3, args=ocp.args.Composite(**items))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "/3 cannot be read as a checkpoint: "),
        ({"learning_rate": 0.1}, ": the config is not one of this version's detectors: "),
        ({"role": "student", "data": {"height_px": 32}}, ": config.backbone.norm is missing: this config was saved by"),
    ],
    ids=["no config", "other config", "part of a config"],
)
def test_checkpoint_of_another_program_is_refused_and_nothing_is_made(tmp_path, config, message):
    save_foreign(tmp_path / "run", config)
    assert refused(tmp_path / "run", tmp_path / "out").startswith(f"{tmp_path / 'run'}{message}")
    assert not (tmp_path / "out").exists()


def test_checkpoint_with_parameters_of_another_model_is_refused(exported, tiny_config, tmp_path):
    save_foreign(tmp_path / "run", checkpoints.config_to_json(tiny_config("student")))
    assert "the tree of parameters does not fit the configured model" in refused(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_that_is_not_empty_is_left_as_it_is(exported, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    message = refused(exported("student").checkpoint, tmp_path)
    assert message == f"{tmp_path} is there already and is no empty folder: give another --output."
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_output_that_is_a_file_is_left_as_it_is(exported, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is no empty folder" in refused(exported("student").checkpoint, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_output_below_a_file_is_refused(exported, tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refused(exported("student").checkpoint, tmp_path / "file" / "out")
    assert message.startswith(f"{tmp_path / 'file' / 'out'} cannot be written: Not a directory.")


def test_output_without_permission_is_refused(exported, monkeypatch):
    restore = export.restore_trained
    is_root = os.geteuid() == 0

    def restored(checkpoint):
        found = restore(checkpoint)
        if is_root:
            os.seteuid(65534)  # nobody: root may write anywhere
        return found

    monkeypatch.setattr(export, "restore_trained", restored)
    # Not pytest's folder, which nobody else may look into.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        try:
            message = refused(exported("student").checkpoint, Path(folder) / "out")
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(folder, 0o755)
    assert message.startswith(f"{folder}/out cannot be written: Permission denied.")


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
@pytest.mark.parametrize("size", [1000, 40000], ids=["parameters", "program"])
def test_full_disk_is_said_and_nothing_is_left(exported, no_room, tmp_path, there, size):
    output = tmp_path / "out"
    if there:
        output.mkdir()
    with no_room(size):
        message = refused(exported("student").checkpoint, output)
    assert message.startswith(f"{output} cannot be written: ")
    assert list(output.iterdir()) == [] if there else not output.exists()


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing(exported, tmp_path, monkeypatch, number, there):
    output = tmp_path / "out"
    if there:
        output.mkdir()
    checkpoint = str(exported("student").checkpoint)

    def interrupted(file):
        assert file.is_file()
        signal.raise_signal(number)

    monkeypatch.setattr(export, "places", interrupted)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises({signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}[number]):
        export.export(checkpoint, output)
    assert signal.getsignal(signal.SIGTERM) is former
    assert list(output.iterdir()) == [] if there else not output.exists()


@pytest.mark.parametrize("package", ["onnx", "flatbuffers"])
def test_missing_package_is_named_with_how_to_get_it(exported, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = refused(exported("student").checkpoint, tmp_path / "out")
    assert message == f"export needs {package}: pip install flatbuffers onnx."
    assert not (tmp_path / "out").exists()


def test_primitive_that_onnx_has_no_rule_for_is_said_and_nothing_is_left(exported, tmp_path, monkeypatch):
    monkeypatch.delitem(onnx_primitives.RULES, "logistic", raising=False)
    monkeypatch.delitem(onnx_primitives.RULES, "exp")
    message = refused(exported("student").checkpoint, tmp_path / "out")
    assert message.startswith(
        f"this detector has no ONNX model with jax {jax.__version__}: no ONNX operator is known for "
    )
    assert not (tmp_path / "out").exists()
