"""The heat maps of Fig. 7: which map stands where, and on what scale."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports.cfl_maps import CflScene, cfl_figure

SIZES = ((32, 40), (16, 20), (4, 5))


@pytest.fixture
def drawn(monkeypatch):
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def make_scene(seed, shared=True, specific=True):
    rng = np.random.default_rng(seed)

    def maps(size, is_there):
        return tuple(rng.uniform(0, 10**seed, size) for _ in range(2)) if is_there else None

    levels = [LevelFeatures(maps(size, shared), maps(size, specific)) for size in SIZES]
    images = (np.full((64, 80, 3), seed, np.uint8), np.full((64, 80, 1), 10 + seed, np.uint8))
    return CflScene(images, np.array([[8.0, 16.0, 10.0, 24.0]]), levels, f"scene {seed}")


def shown(figure):
    """Every picture of the figure by the place of its upper left corner, row after row."""
    axes = sorted(figure.axes, key=lambda one: (-round(one.get_position().y1, 4), round(one.get_position().x0, 4)))
    return [(one, np.asarray(one.get_images()[0].get_array()).squeeze()) for one in axes]


def test_rows_are_modality_and_kind_and_columns_are_levels(tmp_path, drawn):
    scene = make_scene(1)
    cfl_figure([scene], tmp_path / "deep" / "maps.png", "title")
    assert (tmp_path / "deep" / "maps.png").stat().st_size > 10_000
    pictures = [array for _, array in shown(drawn[0])]
    expected = []
    for modality in range(2):
        # The input image begins where the first row of its maps does.
        expected.append(scene.images[modality].squeeze())
        for kind in ("shared", "specific"):
            expected += [getattr(level, kind)[modality] for level in scene.levels]
    assert len(pictures) == len(expected) == 14
    for picture, wanted in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(picture, wanted)
    # Every picture shows the person where they are.
    for axes, _ in shown(drawn[0]):
        (box,) = axes.patches
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (8.0, 16.0, 10.0, 24.0)
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 80), (64, 0))
        assert tuple(axes.get_images()[0].get_extent()) == (0, 80, 64, 0)


def test_maps_of_a_level_in_a_scene_share_their_colours_and_no_others_do(tmp_path, drawn):
    scenes = [make_scene(1), make_scene(2)]
    cfl_figure(scenes, tmp_path / "maps.png", "title")
    found = {}
    for axes, array in shown(drawn[0]):
        for number, scene in enumerate(scenes):
            for place, level in enumerate(scene.levels):
                if any(array is not None and np.array_equal(array, one) for pair in level for one in pair):
                    found.setdefault((number, place), set()).add(axes.get_images()[0].get_clim())
    assert len(found) == 6
    assert all(len(limits) == 1 for limits in found.values())
    assert len(set.union(*found.values())) == 6
    for (number, place), limits in found.items():
        values = np.concatenate([one.ravel() for pair in scenes[number].levels[place] for one in pair])
        np.testing.assert_allclose(limits.pop(), np.percentile(values, (1.0, 99.5)))


@pytest.mark.parametrize(("shared", "specific", "label"), [(True, False, "shared, S"), (False, True, "specific, R")])
def test_kind_that_a_teacher_does_not_learn_has_no_rows(tmp_path, drawn, shared, specific, label):
    cfl_figure([make_scene(1, shared, specific)], tmp_path / "maps.png", "title")
    assert len(shown(drawn[0])) == 2 * (1 + len(SIZES))
    texts = [text.get_text() for text in drawn[0].texts]
    assert [text for text in texts if "," in text] == [label] * 2


def test_dollar_signs_of_image_ids_are_no_formulas(tmp_path, drawn):
    cfl_figure([make_scene(1)._replace(caption="day: a$b_{$")], tmp_path / "maps.png", "title")
    assert r"day: a\$b_{\$" in [text.get_text() for text in drawn[0].texts]
