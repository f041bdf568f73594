"""Synthetic RGB scenes of another camera: their records, and how they differ from synthetic_rgbt."""

import io

import numpy as np
import pytest
from PIL import Image
from prepared_data import names, read

from datasets.synthetic_rgbt.rendering import SceneOptions, encode_scene
from datasets.synthetic_rgbt.scenes import render
from datasets.synthetic_visible import SyntheticVisibleConfig, look, open_builder
from datasets.synthetic_visible.synthetic_visible import TYPICAL_SHARE
from dcrl_jax.data import transforms
from dcrl_jax.errors import InputError

SIZES = {"height_px": 48, "width_px": 64}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = open_builder(str(tmp_path_factory.mktemp("data")), seed=3, train=6, validation=2, test=4, **SIZES)
    builder.download_and_prepare()
    return builder


def photograph(scene, seed=0):
    return np.asarray(Image.open(io.BytesIO(look.photograph(np.random.default_rng(seed), scene.visible))))


def test_splits_have_jpegs_of_scenes_by_day_and_night(prepared):
    assert prepared.info.full_name == "synthetic_visible/64x48-seed3-train6-validation2-test4/1.0.0"
    people = 0
    for split, count in (("train", 6), ("validation", 2), ("test", 4)):
        records = read(prepared, split)
        assert names(records) == [f"{split}_{index:06d}" for index in range(count)]
        assert [record["condition"] for record in records] == [index % 2 for index in range(count)]
        for record in records:
            assert "lwir" not in record
            image = Image.open(io.BytesIO(record["visible"]))
            assert (image.format, image.size, image.mode) == ("JPEG", (64, 48), "RGB")
            boxes = transforms.decode(record, ("visible",))["boxes"]
            assert np.all((boxes[:, :2] >= 0) & (boxes[:, 2:] <= [64, 48]))
            people += len(boxes)
    assert people > 6


def test_scenes_depend_on_the_seed_and_differ_from_synthetic_rgbt(prepared):
    def boxes(seed):
        options = SceneOptions("train", seed, 48, 64, typical_share=TYPICAL_SHARE)
        return [[one["box"].tolist() for one in encode_scene(options, index)["objects"]] for index in range(6)]

    records = read(prepared, "train")
    own = [[box.tolist() for box in record["objects"]["box"]] for record in records]
    assert own == boxes(1_000_003)
    assert not [image for image in own if image and image in boxes(3)]
    scene = render((1_000_003, 0), 0, 48, 64, TYPICAL_SHARE)
    assert records[0]["visible"] == look.photograph(np.random.default_rng([1_000_003, 0, 0]), scene.visible)


def test_people_are_smaller_than_in_synthetic_rgbt():
    def heights(share):
        scenes = [render(5, index, 48, 64, share) for index in range(40)]
        return np.concatenate([scene.people.boxes[:, 3] for scene in scenes]) / 48

    large, small = heights(0.4), heights(TYPICAL_SHARE)
    assert 0.35 < np.median(large) < 0.45
    assert 0.25 < np.median(small) < 0.34
    assert small.max() < 0.68


def test_camera_has_a_colour_cast_little_contrast_no_black_and_no_shift():
    scenes = [render(5, index, 112, 160) for index in range(0, 16, 2)]
    plain = np.stack([scene.visible for scene in scenes]).astype(float)
    shot = np.stack([photograph(scene, index) for index, scene in enumerate(scenes)]).astype(float)
    assert shot.shape == plain.shape
    warmth, warmth_of_plain = (np.mean(images[..., 0] - images[..., 2]) for images in (shot, plain))
    assert warmth - warmth_of_plain > 15
    assert np.percentile(shot, 1) > np.percentile(plain, 1) + 20
    assert shot.std() < 0.9 * plain.std()
    grey, grey_of_shot = plain[0].mean(-1), shot[0].mean(-1)
    likeness, of_shifted = (
        np.corrcoef(grey.ravel(), np.roll(grey_of_shot, shift, axis=1).ravel())[0, 1] for shift in (0, 4)
    )
    assert likeness > 0.85
    assert of_shifted < likeness - 0.05


def test_option_out_of_range_is_named():
    for option, value, least in (("train", 0, 1), ("height_px", 16, 32)):
        with pytest.raises(InputError, match=f"synthetic_visible: {option} must be a whole number of at least {least}"):
            SyntheticVisibleConfig(**{option: value})
    with pytest.raises(TypeError, match="label_noise"):
        open_builder(label_noise=True)
