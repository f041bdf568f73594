"""The Detector finds the same people as its network, in pixels of the original image."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import huggingface_hub
import jax
import numpy as np
import PIL.Image
import pytest

from dcrl_jax import checkpoints, published
from dcrl_jax.errors import InputError
from dcrl_jax.inference.detector import Detector

HEIGHT, WIDTH = 32, 48


def visible_image(seed=0, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lwir_image(seed=0, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(100 + seed).integers(0, 256, (height, width, 1), dtype=np.uint8)


@pytest.fixture
def student(trained):
    return trained("student")


@pytest.fixture
def teacher(trained):
    return trained("teacher")


def expected(trained, *images):
    """Boxes, scores and modality weights of one scene of the network's size."""
    detections, weights = trained.detect(*(image[None] for image in images))
    mask = detections.mask[0]
    return detections.boxes[0][mask], detections.scores[0][mask], weights


def assert_people(people, boxes, scores):
    assert len(scores) > 2
    np.testing.assert_allclose(people.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(people.scores, scores, rtol=1e-4)


def publish(folder, params, config):
    published.write(folder, params, checkpoints.config_to_json(config), 7)


def test_student_finds_what_its_network_finds(student):
    people = student.detector(visible_image())
    boxes, scores, _ = expected(student, visible_image())
    assert_people(people, boxes, scores)
    assert people.modality_weights is None
    assert (people.boxes.dtype, people.scores.dtype) == (np.float32, np.float32)
    assert (np.diff(people.scores) <= 0).all()


def test_teacher_finds_what_its_network_finds_with_its_weights(teacher):
    people = teacher.detector(visible_image(), lwir_image()[..., 0])
    boxes, scores, weights = expected(teacher, visible_image(), lwir_image())
    assert_people(people, boxes, scores)
    assert list(people.modality_weights) == ["visible", "lwir"]
    np.testing.assert_allclose(list(people.modality_weights.values()), weights[0], rtol=1e-4)


def test_image_of_twice_the_size_gives_boxes_of_twice_the_size(student):
    doubled = visible_image().repeat(2, axis=0).repeat(2, axis=1)
    boxes, scores, _ = expected(student, visible_image())
    assert_people(student.detector(doubled), 2 * boxes, scores)


def test_narrow_image_is_padded_left_and_right(student):
    narrow = visible_image(width=24)
    padded = np.pad(narrow, ((0, 0), (12, 12), (0, 0)))
    boxes, scores, _ = expected(student, padded)
    moved = boxes - [12, 0, 12, 0]
    assert_people(student.detector(narrow), np.clip(moved, 0, [24, HEIGHT, 24, HEIGHT]), scores)
    assert (moved < 0).any()


def test_flat_image_is_scaled_and_padded_above_and_below(student):
    flat = visible_image(height=16, width=96)
    padded = np.pad(cv2.resize(flat, (WIDTH, 8), interpolation=cv2.INTER_AREA), ((12, 12), (0, 0), (0, 0)))
    boxes, scores, _ = expected(student, padded)
    moved = (boxes - [0, 12, 0, 12]) * 2
    assert_people(student.detector(flat), np.clip(moved, 0, [96, 16, 96, 16]), scores)


def test_stretched_image_scales_each_axis_by_its_own_factor(student):
    narrow = visible_image(width=24)
    stretched = cv2.resize(narrow, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    boxes, scores, _ = expected(student, stretched)
    people = Detector(student.params, student.config, fit="stretch")(narrow)
    assert_people(people, boxes * [0.5, 1, 0.5, 1], scores)


def test_several_images_give_what_each_gives_by_itself(student, tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), cv2.cvtColor(visible_image(1, 40, 64), cv2.COLOR_RGB2BGR))
    images = [visible_image(), tmp_path / "b.png", visible_image(2, 20, 20)]
    together = student.detector(images)
    assert len(together) == 3
    for image, people in zip(images, together, strict=True):
        single = student.detector(image)
        assert_people(people, single.boxes, single.scores)
    assert student.detector([]) == []


@pytest.mark.parametrize("convert", [np.stack, lambda images: jax.device_put(np.stack(images)), jax.device_put])
def test_batches_and_lists_of_numpy_and_jax_are_taken(student, convert):
    images = [visible_image(), visible_image(1)]
    together = student.detector(convert(images))
    assert len(together) == 2
    assert_people(together[1], *expected(student, images[1])[:2])
    assert_people(student.detector(jax.device_put(images[0])), *expected(student, images[0])[:2])


def test_detector_is_restored_from_a_checkpoint(student):
    restored = Detector.from_checkpoint(student.workdir)
    assert restored.config == student.config
    assert_people(restored(visible_image()), *expected(student, visible_image())[:2])


def test_detector_is_restored_from_a_published_folder(teacher, tmp_path):
    publish(tmp_path, teacher.params, teacher.config)
    for restore in (Detector.from_pretrained, Detector.from_checkpoint):
        for source in (str(tmp_path), Path(tmp_path)):
            restored = restore(source, fit="stretch", batch_size=2)
            assert restored.config == teacher.config
            assert restored.batch_size == 2


@pytest.mark.parametrize("restore", [Detector.from_pretrained, Detector.from_checkpoint])
def test_detector_is_restored_from_the_hub(student, tmp_path, monkeypatch, restore):
    publish(tmp_path, student.params, student.config)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: str(tmp_path))
    assert_people(restore("hf://owner/name")(visible_image()), *expected(student, visible_image())[:2])


WITHOUT_EXTRAS = """\
import sys
extras = ("av", "grain", "huggingface_hub", "jinja2", "matplotlib", "onnx", "psutil", "tensorboardX", "tensorflow")
extras += ("tensorflow_datasets", "tqdm")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in extras:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocked())
from dcrl_jax.models import vgg16
vgg16.BLOCKS = tuple((channels, 1) for channels, _ in vgg16.BLOCKS)
import dcrl_jax
for score in dcrl_jax.Detector.from_pretrained(sys.argv[1])(sys.argv[2]).scores:
    print(score)
"""


def test_published_folder_detects_without_the_packages_of_training(student, tmp_path):
    publish(tmp_path, student.params, student.config)
    cv2.imwrite(str(tmp_path / "a.jpg"), visible_image())
    command = [sys.executable, "-c", WITHOUT_EXTRAS, tmp_path, tmp_path / "a.jpg"]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    scores = student.detector(tmp_path / "a.jpg").scores
    np.testing.assert_allclose([float(line) for line in run.stdout.split()], scores, rtol=1e-3)


def test_workdir_is_not_a_published_model(student, tmp_path):
    for source in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as refusal:
            Detector.from_pretrained(source)
        assert str(refusal.value) == (
            f"{source} is not a published model: expected hf://OWNER/NAME, or a folder with model.safetensors. "
            "Detector.from_checkpoint opens the workdir of a run."
        )


def test_published_parameters_of_another_network_are_refused(student, teacher, tmp_path):
    publish(tmp_path, teacher.params, student.config)
    with pytest.raises(InputError, match=f"^{tmp_path}: the tree of parameters does not fit .*\n  .*: missing"):
        Detector.from_pretrained(tmp_path)
    params = student.params
    kernel = params["rpn"]["conv"]["kernel"]
    publish(tmp_path, params | {"rpn": params["rpn"] | {"conv": {"kernel": kernel[:1]}}}, student.config)
    with pytest.raises(InputError, match=r"rpn/conv/kernel: \(1, "):
        Detector.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("role", "judge", "config.role"),
        ("seed", None, "the config does not describe a detector of this version: "),
        ("data", {"height_px": 32}, "config.data.width_px is missing: this config was saved by another version"),
        ("final", {}, "config.final.min_score is missing: this config was saved by another version"),
    ],
)
def test_published_config_of_another_version_is_refused(student, tmp_path, key, value, message):
    config = checkpoints.config_to_json(student.config) | {key: value}
    published.write(tmp_path, student.params, config, 7)
    with pytest.raises(InputError, match=f"^{tmp_path}: .*{message}"):
        Detector.from_pretrained(tmp_path)


NOT_IMAGES = {"None": None, "bytes": b"\xff\xd8", "Image": PIL.Image.new("RGB", (8, 6))}


@pytest.mark.parametrize(
    ("role", "visible", "lwir", "message"),
    [
        ("teacher", visible_image(), None, "this detector is a teacher, which takes pairs: give the thermal images"),
        ("student", visible_image(), lwir_image(), "this detector is a student, which sees RGB only: give no thermal"),
        ("teacher", [visible_image()] * 2, lwir_image(), "2 visible images but 1 thermal ones: give as many of both"),
        ("teacher", [visible_image()] * 2, [lwir_image()], "2 visible images but 1 thermal ones: give as many of both"),
        ("student", lwir_image(), None, "visible image: grey, 1 channels"),
        ("student", [*[visible_image()] * 3, lwir_image()], None, r"\[3\]: visible image: grey, 1 channels"),
        ("teacher", [visible_image()] * 2, [lwir_image(), lwir_image(1, 20)], r"\[1\]: thermal image: 48x20 pixels"),
        *(("student", item, None, f"visible image: of type {kind}\\w*; expected") for kind, item in NOT_IMAGES.items()),
        *(("student", [visible_image(), item], None, r"\[1\]: visible image: of type") for item in NOT_IMAGES.values()),
    ],
)
def test_images_that_cannot_be_used_are_refused(trained, role, visible, lwir, message):
    with pytest.raises(InputError, match=f"^{message}"):
        trained(role).detector(visible, lwir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "crop"}, "fit is 'crop'; it must be one of: letterbox, stretch"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": -1}, "batch_size is -1; it must be at least 1"),
        ({}, "the tree of parameters does not fit"),
    ],
)
def test_detector_that_cannot_be_built_is_refused(student, teacher, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        Detector((student if options else teacher).params, student.config, **options)


def test_path_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        Detector.from_checkpoint(tmp_path)
