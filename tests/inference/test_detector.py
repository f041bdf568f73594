"""The Python API: the same people as the model finds, in the pixels of whatever image was given."""

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
from dcrl_jax.models.build import build_anchors, build_model
from dcrl_jax.models.detect import detect, detection_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

HEIGHT, WIDTH = 32, 48


def visible_image(seed=0, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lwir_image(seed=0, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(100 + seed).integers(0, 256, (height, width, 1), dtype=np.uint8)


class Trained:
    """A role's config and parameters, the detector of them, and what the model itself finds in network inputs."""

    def __init__(self, config, params):
        self.config, self.params = config, params
        self.detector = Detector(params, config, batch_size=2)
        model, anchors, rules = build_model(config), build_anchors(config), detection_rules(config)
        self._run = jax.jit(lambda *images: detect(model, params, anchors, rules, *images))

    def expected(self, *images):
        found, mu = jax.device_get(self._run(*(image[None] for image in images)))
        kept = found.mask[0]
        return found.boxes[0][kept], found.scores[0][kept], mu


@pytest.fixture(scope="module")
def trained(tiny_config, random_params):
    """By role; compiled once."""
    made = {}

    def get(role):
        if role not in made:
            config = tiny_config(role)
            made[role] = Trained(config, random_params(build_model(config), config))
        return made[role]

    return get


def assert_found(found, boxes, scores):
    assert len(scores) > 2
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)


def test_student_s_people_are_those_of_the_model(trained):
    student = trained("student")
    found = student.detector(visible_image())
    boxes, scores, _ = student.expected(visible_image())
    assert_found(found, boxes, scores)
    assert found.modality_weights is None
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert (np.diff(found.scores) <= 0).all()


def test_teacher_s_people_come_with_its_weights(trained):
    teacher = trained("teacher")
    found = teacher.detector(visible_image(), lwir_image()[..., 0])
    boxes, scores, mu = teacher.expected(visible_image(), lwir_image())
    assert_found(found, boxes, scores)
    assert list(found.modality_weights) == ["visible", "lwir"]
    np.testing.assert_allclose(list(found.modality_weights.values()), mu[0], rtol=1e-4)


def test_image_of_twice_the_size_gives_boxes_of_twice_the_size(trained):
    student = trained("student")
    doubled = visible_image().repeat(2, axis=0).repeat(2, axis=1)
    boxes, scores, _ = student.expected(visible_image())
    assert_found(student.detector(doubled), 2 * boxes, scores)


def test_narrow_image_keeps_its_proportions_between_black_bars(trained):
    student = trained("student")
    narrow = visible_image(width=24)
    filled = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    filled[:, 12:36] = narrow
    boxes, scores, _ = student.expected(filled)
    found = student.detector(narrow)
    moved = boxes - [12, 0, 12, 0]
    assert_found(found, np.clip(moved, 0, [24, HEIGHT, 24, HEIGHT]), scores)
    assert (moved < 0).any()


def test_flat_image_is_scaled_and_stands_in_the_middle(trained):
    student = trained("student")
    flat = visible_image(height=16, width=96)
    filled = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    filled[12:20] = cv2.resize(flat, (WIDTH, 8), interpolation=cv2.INTER_AREA)
    boxes, scores, _ = student.expected(filled)
    moved = (boxes - [0, 12, 0, 12]) * 2
    assert_found(student.detector(flat), np.clip(moved, 0, [96, 16, 96, 16]), scores)


def test_stretched_image_fills_the_input_and_its_boxes_go_back_each_axis_by_its_own_factor(trained):
    student = trained("student")
    narrow = visible_image(width=24)
    stretched = cv2.resize(narrow, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    boxes, scores, _ = student.expected(stretched)
    found = Detector(student.params, student.config, fit="stretch")(narrow)
    assert_found(found, boxes * [0.5, 1, 0.5, 1], scores)


def test_several_images_of_several_sizes_give_what_each_gives_alone(trained, tmp_path):
    student = trained("student")
    cv2.imwrite(str(tmp_path / "b.png"), cv2.cvtColor(visible_image(1, 40, 64), cv2.COLOR_RGB2BGR))
    images = [visible_image(), tmp_path / "b.png", visible_image(2, 20, 20)]
    together = student.detector(images)
    assert len(together) == 3
    for image, found in zip(images, together, strict=True):
        alone = student.detector(image)
        assert_found(found, alone.boxes, alone.scores)


def test_array_of_four_axes_is_a_batch(trained):
    student = trained("student")
    together = student.detector(np.stack([visible_image(), visible_image(1)]))
    assert_found(together[1], *student.expected(visible_image(1))[:2])


def test_arrays_of_jax_are_taken_as_numpy_s_are(trained):
    student = trained("student")
    images = np.stack([visible_image(), visible_image(1)])
    for given in (jax.device_put(images), [jax.device_put(image) for image in images]):
        together = student.detector(given)
        assert len(together) == 2
        assert_found(together[1], *student.expected(images[1])[:2])
    assert_found(student.detector(jax.device_put(images[0])), *student.expected(images[0])[:2])


@pytest.mark.parametrize(
    ("given", "kind"),
    [(None, "NoneType"), (b"\xff\xd8", "bytes"), (PIL.Image.new("RGB", (8, 6)), "Image")],
    ids=["None", "bytes", "PIL"],
)
def test_what_is_no_image_is_refused_with_its_type_alone_and_among_others(trained, given, kind):
    with pytest.raises(InputError, match=f"^visible image: of type {kind}; expected a path or a uint8 array"):
        trained("student").detector(given)
    with pytest.raises(InputError, match=rf"^\[1\]: visible image: of type {kind}; expected a path or a uint8 array"):
        trained("student").detector([visible_image(), given])


def test_no_images_give_nobody(trained):
    assert trained("student").detector([]) == []


def test_detector_is_restored_from_a_checkpoint(trained, tmp_path):
    student = trained("student")
    with checkpoints.open_manager(tmp_path / "run" / "best") as manager:
        checkpoints.save_best(manager, 7, student.params, student.config, 0.5)
    restored = Detector.from_checkpoint(tmp_path / "run")
    assert restored.config == student.config
    boxes, scores, _ = student.expected(visible_image())
    assert_found(restored(visible_image()), boxes, scores)


@pytest.mark.parametrize("open_it", [Detector.from_pretrained, Detector.from_checkpoint])
@pytest.mark.parametrize("kind", [str, Path])
def test_detector_is_restored_from_a_published_folder(trained, tmp_path, open_it, kind):
    teacher = trained("teacher")
    published.write(tmp_path, teacher.params, checkpoints.config_to_json(teacher.config), 7)
    restored = open_it(kind(tmp_path), fit="stretch", batch_size=2)
    assert restored.config == teacher.config
    assert restored.batch_size == 2
    boxes, scores, _ = teacher.expected(visible_image(), lwir_image())
    assert_found(restored(visible_image(), lwir_image()), boxes, scores)


def test_detector_is_restored_from_the_hub(trained, tmp_path, monkeypatch):
    student = trained("student")
    published.write(tmp_path, student.params, checkpoints.config_to_json(student.config), 7)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: str(tmp_path))
    boxes, scores, _ = student.expected(visible_image())
    for open_it in (Detector.from_pretrained, Detector.from_checkpoint):
        assert_found(open_it("hf://owner/name")(visible_image()), boxes, scores)


def test_workdir_is_no_published_model_and_the_way_to_open_it_is_said(trained, tmp_path):
    for source in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as refusal:
            Detector.from_pretrained(source)
        assert str(refusal.value) == (
            f"{source} is no published model: expected hf://OWNER/NAME, or a folder with model.safetensors. "
            "Detector.from_checkpoint opens the workdir of a run."
        )


def test_published_parameters_of_another_model_are_refused_with_their_folder(trained, tmp_path):
    config = checkpoints.config_to_json(trained("student").config)
    published.write(tmp_path, trained("teacher").params, config, 7)
    with pytest.raises(InputError, match=f"^{tmp_path}: the tree of parameters does not fit .*\n  .*: missing"):
        Detector.from_pretrained(tmp_path)
    params = trained("student").params
    kernel = params["rpn"]["conv"]["kernel"]
    published.write(tmp_path, params | {"rpn": params["rpn"] | {"conv": {"kernel": kernel[:1]}}}, config, 7)
    with pytest.raises(InputError, match=r"rpn/conv/kernel: \(1, "):
        Detector.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("role", "judge", "config.role"),
        ("anchors", None, "the config is not one of this version's detectors: "),
        ("data", {"height_px": 32}, "config.data.width_px is missing: this config was saved by another version"),
        ("final", {}, "config.final.max_detections is missing: this config was saved by another version"),
    ],
)
def test_published_config_of_another_version_is_refused_with_its_folder(trained, tmp_path, key, value, message):
    config = checkpoints.config_to_json(trained("student").config) | {key: value}
    published.write(tmp_path, trained("student").params, config, 7)
    with pytest.raises(InputError, match=f"^{tmp_path}: .*{message}"):
        Detector.from_pretrained(tmp_path)


def test_teacher_without_thermal_and_student_with_it_are_told_so(trained):
    with pytest.raises(InputError, match="is a teacher, which looks at pairs: give it the thermal images too"):
        trained("teacher").detector(visible_image())
    with pytest.raises(InputError, match="is a student, which sees RGB alone: give it no thermal images"):
        trained("student").detector(visible_image(), lwir_image())


@pytest.mark.parametrize("lwir", [lwir_image(), [lwir_image()]], ids=["one", "list"])
def test_other_numbers_of_visible_and_thermal_images_are_refused(trained, lwir):
    with pytest.raises(InputError, match="2 visible images and 1 thermal ones: give as many of both"):
        trained("teacher").detector([visible_image(), visible_image(1)], lwir)


def test_image_that_cannot_be_used_is_named_by_its_place_among_several(trained):
    images = [visible_image(seed) for seed in range(4)]
    with pytest.raises(InputError, match=r"^\[3\]: visible image: grey, 1 channels"):
        trained("student").detector([*images[:3], lwir_image()])
    lwir = [lwir_image(), lwir_image(1, 20)]
    with pytest.raises(InputError, match=r"^\[1\]: thermal image: 48x20 pixels, and its visible image 48x32"):
        trained("teacher").detector(images[:2], lwir)
    with pytest.raises(InputError, match=r"^visible image: grey, 1 channels"):
        trained("student").detector(lwir_image())


def test_unknown_fit_is_refused_with_those_there_are(trained):
    student = trained("student")
    with pytest.raises(InputError, match="fit is 'crop'; it must be one of: letterbox, stretch"):
        Detector(student.params, student.config, fit="crop")


@pytest.mark.parametrize("size", [0, -1])
def test_batch_of_no_images_is_refused(trained, size):
    student = trained("student")
    with pytest.raises(InputError, match=f"^batch_size is {size}; it must be at least 1"):
        Detector(student.params, student.config, batch_size=size)


def test_parameters_of_another_model_are_refused(trained):
    with pytest.raises(InputError, match="the tree of parameters does not fit"):
        Detector(trained("teacher").params, trained("student").config)


def test_path_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        Detector.from_checkpoint(tmp_path)
