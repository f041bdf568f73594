"""The Detector finds the same people as its network, in pixels of the original image."""

import os
import subprocess
import sys

import cv2
import huggingface_hub
import jax
import numpy as np
import pytest

from dcrl_jax import checkpoints, published
from dcrl_jax.errors import InputError
from dcrl_jax.inference.detector import Detector

HEIGHT, WIDTH = 32, 48


def visible_image(seed=0, height=HEIGHT, width=WIDTH, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


VISIBLE, LWIR = visible_image(), visible_image(100, channels=1)


@pytest.fixture
def student(trained):
    return trained("student")


@pytest.fixture
def teacher(trained):
    return trained("teacher")


def expected(trained, *images):
    """Boxes and scores of one scene of the network's size, and its modality weights."""
    detections, weights = trained.detect(*(image[None] for image in images))
    mask = detections.mask[0]
    return detections.boxes[0][mask], detections.scores[0][mask], weights


def assert_people(people, boxes, scores, _=None):
    assert len(scores) > 2
    np.testing.assert_allclose(people.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(people.scores, scores, rtol=1e-4)


def test_thermal_images_of_more_bits_are_scaled_as_in_training(teacher):
    config = teacher.config.copy_and_resolve_references()
    config.data.lwir_range = (7000, 7510)
    counts = 7000 + 2 * LWIR.astype(np.uint16)
    people = Detector(teacher.params, config)(VISIBLE, counts)
    assert_people(people, *expected(teacher, VISIBLE, LWIR))
    with pytest.raises(InputError, match=r"uint16 values, .* --config.data.lwir_range="):
        teacher.detector(VISIBLE, counts)


def publish(folder, params, config, **changes):
    published.write(folder, params, checkpoints.config_to_json(config) | changes, 7)


def test_people_and_weights_are_those_of_the_network(student, teacher):
    people = student.detector(VISIBLE)
    assert_people(people, *expected(student, VISIBLE))
    assert people.modality_weights is None
    assert (people.boxes.dtype, people.scores.dtype) == (np.float32, np.float32)
    assert (np.diff(people.scores) <= 0).all()

    people = teacher.detector(VISIBLE, LWIR[..., 0])
    *boxes_and_scores, weights = expected(teacher, VISIBLE, LWIR)
    assert_people(people, *boxes_and_scores)
    assert list(people.modality_weights) == ["visible", "lwir"]
    np.testing.assert_allclose(list(people.modality_weights.values()), weights[0], rtol=1e-4)


DOUBLED = VISIBLE.repeat(2, axis=0).repeat(2, axis=1)
NARROW, FLAT = visible_image(width=24), visible_image(height=16, width=96)
FLAT_AS_WIDE = cv2.resize(FLAT, (WIDTH, 8), interpolation=cv2.INTER_AREA)
STRETCHED = cv2.resize(NARROW, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("image", "fit", "as_input", "origin", "scale"),
    [
        (DOUBLED, "letterbox", VISIBLE, (0, 0), (2, 2)),
        (NARROW, "letterbox", np.pad(NARROW, ((0, 0), (12, 12), (0, 0))), (12, 0), (1, 1)),
        (FLAT, "letterbox", np.pad(FLAT_AS_WIDE, ((12, 12), (0, 0), (0, 0))), (0, 12), (2, 2)),
        (NARROW, "stretch", STRETCHED, (0, 0), (0.5, 1)),
    ],
    ids=["doubled", "narrow", "flat", "stretched"],
)
def test_image_of_another_size_fills_the_input_as_fit_says(student, image, fit, as_input, origin, scale):
    boxes, scores, _ = expected(student, as_input)
    height, width, _ = image.shape
    moved = (boxes - [*origin, *origin]) * [*scale, *scale]
    assert origin != (12, 0) or (moved < 0).any()
    detector = student.detector if fit == "letterbox" else Detector(student.params, student.config, fit)
    assert_people(detector(image), np.clip(moved, 0, [width, height, width, height]), scores)


def test_several_images_give_what_each_gives_by_itself(student, tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), visible_image(1, 40, 64))
    images = [VISIBLE, tmp_path / "b.png", visible_image(2, 20, 20), visible_image(3), visible_image(4)]
    together = student.detector(images)
    for image, people in zip(images, together, strict=True):
        assert_people(people, *student.detector(image)[:2])
    assert student.detector([]) == []
    stacked = np.stack([VISIBLE, visible_image(1)])
    for batch in (stacked, jax.device_put(stacked), [jax.device_put(image) for image in stacked]):
        _, people = student.detector(batch)
        assert_people(people, *expected(student, visible_image(1)))
    assert_people(student.detector(jax.device_put(stacked[0])), *expected(student, stacked[0]))


def test_detector_is_restored_from_workdir_published_folder_and_hub(student, tmp_path, monkeypatch):
    publish(tmp_path, student.params, student.config)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: str(tmp_path))
    for source in (student.workdir, str(tmp_path), tmp_path, "hf://owner/name"):
        is_workdir = source == student.workdir
        for restore in (Detector.from_checkpoint, *[Detector.from_pretrained] * (not is_workdir)):
            restored = restore(source, fit="stretch", batch_size=2)
            assert restored.config == student.config
            assert restored.batch_size == 2
    assert_people(restored(VISIBLE), *expected(student, VISIBLE))


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
    cv2.imwrite(str(tmp_path / "a.jpg"), VISIBLE)
    command = [sys.executable, "-c", WITHOUT_EXTRAS, tmp_path, tmp_path / "a.jpg"]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    scores = student.detector(tmp_path / "a.jpg").scores
    np.testing.assert_allclose([float(line) for line in run.stdout.split()], scores, rtol=1e-3)


def test_source_that_is_not_published_is_refused(tmp_path):
    for source in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as refusal:
            Detector.from_pretrained(source)
        assert str(refusal.value) == (
            f"{source} is not a published model: expected hf://OWNER/NAME, or a folder with model.safetensors. "
            "Detector.from_checkpoint opens the workdir of a run."
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "judge"}, "config.role"),
        ({"seed": None}, "config.seed is None; it must be a whole number"),
        ({"data": {"height_px": 32}}, "config.data.width_px is missing: this config was saved by another version"),
        ({}, "the tree of parameters does not fit"),
    ],
)
def test_published_model_of_another_network_or_version_is_refused(student, teacher, tmp_path, changes, message):
    publish(tmp_path, student.params if changes else teacher.params, student.config, **changes)
    with pytest.raises(InputError, match=f"^{tmp_path}: .*{message}"):
        Detector.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("role", "visible", "lwir", "message"),
    [
        ("teacher", VISIBLE, None, "this detector is a teacher, which takes pairs: give the thermal images"),
        ("student", VISIBLE, LWIR, "this detector is a student, which sees RGB only: give no thermal"),
        ("teacher", [VISIBLE] * 2, LWIR, "2 visible images but 1 thermal ones: give as many of both"),
        ("teacher", [VISIBLE] * 2, [LWIR], "2 visible images but 1 thermal ones: give as many of both"),
        ("student", [*[VISIBLE] * 3, LWIR], None, r"\[3\]: visible image: grey, 1 channels"),
        ("teacher", [VISIBLE] * 2, [LWIR, LWIR[:20]], r"\[1\]: thermal image: 48x20 pixels"),
        ("student", None, None, "visible image: of type NoneType; expected"),
        ("student", b"\xff\xd8", None, "visible image: of type bytes; expected"),
    ],
)
def test_images_that_cannot_be_used_are_refused(trained, role, visible, lwir, message):
    with pytest.raises(InputError, match=f"^{message}"):
        trained(role).detector(visible, lwir)


def test_option_without_a_meaning_is_refused(student):
    with pytest.raises(InputError, match=r"^fit is 'crop'; it must be one of: letterbox, stretch"):
        Detector(student.params, student.config, fit="crop")
    with pytest.raises(InputError, match=r"^batch_size is 0; it must be at least 1"):
        Detector(student.params, student.config, batch_size=0)
