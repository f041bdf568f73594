"""Synthetic scenes: determinism, annotations, contrast by modality, label noise, records, contact sheet."""

import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest
from prepared_data import read

from datasets.synthetic_rgbt import SyntheticConfig, SyntheticRgbt, contact_sheet, layout, world
from datasets.synthetic_rgbt.label_noise import JITTER_SHARE, MISSED_SHARE, SPURIOUS_PER_IMAGE, add_label_noise
from datasets.synthetic_rgbt.rendering import SPLITS, SceneOptions, encode_scene, encode_scenes
from datasets.synthetic_rgbt.scenes import render
from dcrl_jax.errors import InputError

HEIGHT, WIDTH = 96, 120


@pytest.fixture(scope="module")
def scenes():
    return [render(11, index, HEIGHT, WIDTH) for index in range(80)]


def same_records(first, second):
    return [str(record) for record in first] == [str(record) for record in second]


def test_scene_depends_only_on_seed_split_and_index():
    of_split = [encode_scene(SceneOptions(split, 2, 48, 64), 0)["visible"] for split in SPLITS]
    assert len(set(of_split)) == 3
    scene, again = render(3, 4, HEIGHT, WIDTH), render(3, 4, HEIGHT, WIDTH)
    np.testing.assert_array_equal(scene.visible, again.visible)
    np.testing.assert_array_equal(scene.lwir, again.lwir)
    np.testing.assert_array_equal(scene.people.boxes, again.people.boxes)
    for other in (render(3, 6, HEIGHT, WIDTH), render(4, 4, HEIGHT, WIDTH), render((3, 1), 4, HEIGHT, WIDTH)):
        assert np.mean(scene.visible != other.visible) > 0.5


def test_processes_do_not_change_records_and_their_failure_is_an_error():
    options = SceneOptions("validation", seed=2, height_px=48, width_px=64, label_noise=True)
    records = [encode_scene(options, index) for index in range(3)]
    assert same_records(records, encode_scenes(options, 3, processes=2))
    with pytest.raises(RuntimeError, match="status 1"):
        list(encode_scenes(SceneOptions("train", 0, height_px=0, width_px=0), 4, processes=2))


def test_larger_image_shows_the_same_scene():
    for index in range(6):
        small, large = render(1, index, 64, 80), render(1, index, 192, 240)
        assert len(small.people.boxes) == len(large.people.boxes)
        np.testing.assert_allclose(3 * small.people.boxes, large.people.boxes, atol=3.0)
        shrunk = cv2.resize(large.visible, (80, 64), interpolation=cv2.INTER_AREA).astype(int)
        assert np.median(np.abs(shrunk - small.visible)) < 12


def test_rendering_imports_neither_jax_nor_tfds():
    code = "import sys, datasets.synthetic_rgbt.rendering; assert not {'jax', 'tensorflow_datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_boxes_lie_tightly_around_the_person_in_the_image(scenes):
    count = 0
    for people in (scene.people for scene in scenes):
        for (x, y, w, h), mask in zip(people.boxes, people.masks, strict=True):
            assert 0 <= x < x + w <= WIDTH
            assert 0 <= y < y + h <= HEIGHT
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            np.testing.assert_allclose((x, y, x + w, y + h), expected, atol=0.5)
            count += 1
    assert count > 100


def test_people_have_plausible_numbers_sizes_and_occlusion(scenes):
    counts = [len(scene.people.boxes) for scene in scenes]
    assert 1.4 < np.mean(counts) < 2.4
    assert min(counts) == 0
    boxes, occlusion, ignore = (
        np.concatenate([getattr(scene.people, name) for scene in scenes]) for name in ("boxes", "occlusion", "ignore")
    )
    share = boxes[:, 3] / HEIGHT
    assert 0.33 < np.median(share) < 0.47
    assert np.mean((share > 0.14) & (share < 0.8)) > 0.95  # the rest is cut off at the border
    assert 0.33 < np.mean(boxes[:, 2] / boxes[:, 3]) < 0.47  # width / height
    # Most people are fully visible; some of the heavily occluded are ignored.
    assert np.all(np.bincount(occlusion, minlength=3) / len(occlusion) > [0.5, 0.05, 0.05])
    assert np.all(occlusion[ignore] == 2)
    assert 0 < ignore.mean() < 0.15


def test_place_and_size_do_not_tell_decoys_from_people():
    places = {"person": [], "decoy": []}
    for index in range(700):
        rng = np.random.default_rng(index)
        conditions = world.draw(rng, index % 2 == 1, 256, 320)
        for item in layout.draw(rng, conditions):
            kind = {"person": "person", "cold": "decoy", "hot": "decoy"}.get(item.kind)
            if kind:
                scale = conditions.camera.scale(item.place.z)
                places[kind].append((np.log(item.place.height_m * scale), item.place.x * scale))
    people, decoys = np.array(places["person"]), np.array(places["decoy"])
    assert len(decoys) > 300
    standard_error = people.std(0) * np.sqrt(1 / len(people) + 1 / len(decoys))
    assert np.all(np.abs(people.mean(0) - decoys.mean(0)) < 4 * standard_error)
    np.testing.assert_allclose(people.std(0), decoys.std(0), rtol=0.12)


def test_people_stand_out_in_thermal_by_night_and_hardly_by_day(scenes):
    assert [scene.is_night for scene in scenes] == [index % 2 == 1 for index in range(80)]
    contrasts = {False: [], True: []}  # differences in grey level of people and their surroundings, by night
    for scene in scenes:
        for mask, occlusion in zip(scene.people.masks, scene.people.occlusion, strict=True):
            if occlusion == 0:
                around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
                contrasts[scene.is_night].append(scene.lwir[mask].mean() - scene.lwir[around].mean())
    assert np.median(contrasts[True]) > 40
    assert np.median(np.abs(contrasts[False])) < 20
    assert np.mean(np.array(contrasts[False]) < 0) > 0.1  # some are colder than their surroundings


def test_visible_light_is_bright_by_day_and_dark_by_night(scenes):
    day, night = (np.array([scene.visible.mean() for scene in scenes[first::2]]) for first in (0, 1))
    assert day.min() > 1.5 * night.max()
    assert day.mean() > 3 * night.mean()
    assert night.min() > 5  # dark, yet not blank


def test_label_noise_has_its_rates():
    boxes = np.tile(np.array([[40, 30, 20, 48]], np.float32), (10, 1))
    noisy = [add_label_noise(np.random.default_rng(index), boxes, 128, 160) for index in range(600)]
    source = np.concatenate([n.source for n in noisy])
    drawn = np.concatenate([n.boxes for n in noisy])
    kept = source >= 0
    assert np.sum(kept) / 6000 == pytest.approx(1 - MISSED_SHARE, abs=0.02)
    assert np.sum(~kept) / 600 == pytest.approx(SPURIOUS_PER_IMAGE, abs=0.07)
    centre = drawn[kept, :2] + drawn[kept, 2:] / 2
    np.testing.assert_allclose(centre.mean(0), (50, 54), atol=0.3)
    np.testing.assert_allclose(centre.std(0) / (20, 48), JITTER_SHARE, rtol=0.06)
    np.testing.assert_allclose(np.log(drawn[kept, 2:] / (20, 48)).std(0), JITTER_SHARE, rtol=0.06)


def test_noisy_boxes_lie_in_the_image_and_are_spurious_without_people():
    boxes = np.array([[0, 0, 3, 4], [155, 100, 5, 28], [0, 90, 160, 38]], np.float32)
    for index in range(200):
        noisy = add_label_noise(np.random.default_rng(index), boxes, 128, 160).boxes
        assert noisy.dtype == np.float32
        assert np.all(noisy[:, :2] >= 0)
        assert np.all(noisy[:, 2:] >= 1.99)
        assert np.all(noisy[:, :2] + noisy[:, 2:] <= (160.01, 128.01))
    empty = np.zeros((0, 4), np.float32)
    spurious = [add_label_noise(np.random.default_rng(index), empty, 64, 80) for index in range(40)]
    assert {n.boxes.shape[1] for n in spurious} == {4}
    assert 0 < sum(len(n.boxes) for n in spurious) < 40
    assert all((n.source == -1).all() for n in spurious)


@pytest.fixture(scope="module")
def builders(tmp_path_factory):
    """The same data set without and with label noise."""
    builders, data_dir = {}, tmp_path_factory.mktemp("data")
    for noisy in (False, True):
        config = SyntheticConfig(height_px=48, width_px=64, train=4, validation=1, test=2, label_noise=noisy)
        builders[noisy] = SyntheticRgbt(config=config, data_dir=data_dir, file_format="array_record")
        builders[noisy].download_and_prepare()
    return builders


def test_records_have_the_rendered_scenes(builders):
    source = builders[False].as_data_source()
    assert {split: len(source[split]) for split in source} == {"train": 4, "validation": 1, "test": 2}
    for index, record in enumerate(source["train"]):
        scene = render((0, 0), index, 48, 64)
        assert record["image_id"].decode() == f"train_{index:06d}"
        assert record["condition"] == index % 2
        np.testing.assert_array_equal(record["visible"], scene.visible)
        np.testing.assert_array_equal(record["lwir"][..., 0], scene.lwir)
        objects = record["objects"]
        np.testing.assert_array_equal(np.reshape(objects["box"], (-1, 4)), scene.people.boxes)
        assert list(objects["occlusion"]) == list(scene.people.occlusion)
        assert list(objects["ignore"]) == list(scene.people.ignore)
        assert set(objects["label"]) <= {b"person"}


def test_label_noise_changes_only_the_training_boxes(builders):
    clean, noisy = ({split: read(builders[key], split) for split in SPLITS} for key in (False, True))
    for split in ("validation", "test"):
        assert same_records(clean[split], noisy[split])
    for name, is_equal in (("visible", True), ("lwir", True), ("objects", False)):
        assert same_records(*([record[name] for record in data["train"]] for data in (clean, noisy))) is is_equal


def test_no_two_configs_share_a_name():
    changed = {"height_px": 64, "width_px": 96, "seed": 1, "train": 4, "validation": 4, "test": 4, "label_noise": True}
    names = [
        SyntheticConfig(**dict(pairs)).name for n in range(8) for pairs in itertools.combinations(changed.items(), n)
    ]
    assert len(names) == len(set(names)) == 2**7


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("height_px", 0), ("width_px", -160), ("width_px", 160.0), ("seed", -1), ("seed", None)),
        *(("train", 0), ("validation", -3), ("test", True), ("label_noise", 1)),
    ],
)
def test_option_out_of_range_is_refused(key, value):
    with pytest.raises(InputError, match=rf"synthetic_rgbt: {key} must be .*{value!r}"):
        SyntheticConfig(**{key: value})


def test_contact_sheet_has_the_size_of_its_images_or_names_a_bad_option(tmp_path):
    path = tmp_path / "sheet.png"
    contact_sheet.main([f"--output={path}", "--columns=2", "--height_px=40", "--width_px=56"])
    assert cv2.imread(str(path)).shape == (40 + 4 * 44, 24 + 2 * 60, 3)
    for bad in ("--columns=0", "--height_px=0", "--seed=-1", "--output=/nowhere/at/all.png"):
        with pytest.raises(InputError, match=bad.split("=")[0]):
            contact_sheet.main([f"--output={path}", "--columns=1", bad])
