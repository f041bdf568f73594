"""The heat maps of Fig. 7: their order and their range of colours."""

import numpy as np
import pytest

from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports.cfl_maps import CflScene, cfl_figure

SIZES = ((32, 40), (16, 20), (4, 5))


def make_scene(seed, shared=True, specific=True):
    rng = np.random.default_rng(seed)

    def maps(size, has_maps):
        return tuple(rng.uniform(0, 10**seed, size) for _ in range(2)) if has_maps else None

    levels = [LevelFeatures(maps(size, shared), maps(size, specific)) for size in SIZES]
    images = (np.full((64, 80, 3), seed, np.uint8), np.full((64, 80, 1), 10 + seed, np.uint8))
    return CflScene(images, np.array([[8.0, 16.0, 10.0, 24.0]]), levels, f"scene {seed}: a$b_{{$")


def shown(figure):
    """Return the axes and the picture of each image of the figure, row by row."""
    axes = sorted(figure.axes, key=lambda a: (-round(a.get_position().y1, 4), round(a.get_position().x0, 4)))
    return [(a, np.asarray(a.get_images()[0].get_array()).squeeze()) for a in axes]


def test_rows_are_modality_and_kind_and_columns_are_levels(tmp_path, drawn):
    scene = make_scene(1)
    cfl_figure([scene], tmp_path / "deep" / "maps.png", "title")
    assert (tmp_path / "deep" / "maps.png").stat().st_size > 10_000
    assert r"scene 1: a\$b_{\$" in [text.get_text() for text in drawn[0].texts]
    expected = []
    for modality in range(2):
        # The upper edge of the input image is that of its first row of maps.
        expected.append(scene.images[modality].squeeze())
        for kind in ("shared", "specific"):
            expected += [getattr(level, kind)[modality] for level in scene.levels]
    for (axes, picture), wanted in zip(shown(drawn[0]), expected, strict=True):
        np.testing.assert_array_equal(picture, wanted)
        # Each picture shows the person.
        (box,) = axes.patches
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (8.0, 16.0, 10.0, 24.0)
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 80), (64, 0))
        assert tuple(axes.get_images()[0].get_extent()) == (0, 80, 64, 0)


def test_only_maps_of_the_same_level_and_scene_share_their_colours(tmp_path, undrawn):
    scenes = [make_scene(1), make_scene(2)]
    cfl_figure(scenes, tmp_path / "maps.png", "title")
    found = {}
    for axes, array in shown(undrawn[0]):
        for number, scene in enumerate(scenes):
            for index, level in enumerate(scene.levels):
                if any(np.array_equal(array, values) for pair in level for values in pair):
                    found.setdefault((number, index), set()).add(axes.get_images()[0].get_clim())
    assert len(found) == len(set.union(*found.values())) == 6
    for (number, index), limits in found.items():
        values = np.concatenate([values.ravel() for pair in scenes[number].levels[index] for values in pair])
        np.testing.assert_allclose(list(limits), [np.percentile(values, (1.0, 99.5))])


@pytest.mark.parametrize(("shared", "specific", "label"), [(True, False, "shared, S"), (False, True, "specific, R")])
def test_missing_kind_of_feature_has_no_rows(tmp_path, undrawn, shared, specific, label):
    cfl_figure([make_scene(1, shared, specific)], tmp_path / "maps.png", "title")
    assert len(shown(undrawn[0])) == 2 * (1 + len(SIZES))
    texts = [text.get_text() for text in undrawn[0].texts]
    assert [text for text in texts if "," in text] == [label] * 2
