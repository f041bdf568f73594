"""The MR-FPPI figure: its texts and lines, not its pixels."""

import cv2
import numpy as np
import pytest
from scoring_cases import ANYONE, make_scene, make_truth

from dcrl_jax.evaluation.miss_rate import score
from dcrl_jax.reports.curves import by_miss_rate, miss_rate_figure, miss_rate_panels


def make_score(found, false_alarms, people=4):
    """Return the score of ``found`` of some people, then ``false_alarms``, in two images."""
    truth, detections = make_scene("a", people, found, false_alarms)
    return score([truth, make_truth("b")], {"a": detections}, ANYONE)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_legend_is_sorted_by_miss_rate_and_dollar_signs_start_no_formulas(undrawn, tmp_path):
    poor, good, fair = (make_score(found, 3) for found in (1, 3, 2))
    curves = {"poor": poor, "a$x_{$b": good, "nobody": make_score(0, 1, people=0), "fair": fair}
    assert list(by_miss_rate(curves)) == ["a$x_{$b", "fair", "poor", "nobody"]
    miss_rate_figure(curves, tmp_path / "curves.png", "$\\frac{$")
    axes = undrawn[0].axes[0]
    assert legend(axes) == [r"25.00%  a\$x_{\$b", "50.00%  fair", "75.00%  poor", "no people  nobody"]
    assert axes.get_title() == r"\$\frac{\$"
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlim()) == ("log", "log", (1e-3, 1e1))


@pytest.mark.parametrize(
    ("false_alarms", "points"),
    [
        (0, [1e-4, 1e-4, 1e-4, 1e-4, 10]),
        (2, [1e-4, 1e-4, 1e-4, 1e-4, 0.5, 1, 10]),
        (31, [1e-4, 1e-4, 1e-4, 1e-4, *np.arange(1, 32) / 2, 15.5]),
    ],
)
def test_curve_runs_from_the_left_edge_to_the_right_edge(undrawn, tmp_path, false_alarms, points):
    miss_rate_figure({"one": make_score(3, false_alarms)}, tmp_path / "curves.png", "")
    line = undrawn[0].axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), points)
    np.testing.assert_allclose(line.get_ydata(), [1, 0.75, 0.5] + [0.25] * (len(points) - 3))


@pytest.mark.parametrize(("people", "lowest_tick"), [(4, 0.05), (25, 0.02), (60, 0.01), (150, 0.01)])
def test_axis_reaches_down_to_the_lowest_miss_rate(undrawn, tmp_path, people, lowest_tick):
    # One person stays missed.
    miss_rate_figure({"one": make_score(people - 1, 1, people)}, tmp_path / "curves.png", "")
    axes = undrawn[0].axes[0]
    assert axes.get_ylim() == (lowest_tick, 1.0)
    assert axes.get_yticks().tolist()[-9:] == [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.64, 0.8, 1.0]


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_no_detections_no_misses_and_no_curves_give_no_warnings(tmp_path):
    miss_rate_figure({"nothing": make_score(0, 0), "all": make_score(4, 1)}, tmp_path / "deep" / "a.png", "")
    height, width, _ = cv2.imread(str(tmp_path / "deep" / "a.png")).shape
    assert width > height > 600
    miss_rate_figure({}, tmp_path / "b.svg", "")
    assert (tmp_path / "b.svg").read_text().startswith("<?xml")


def test_panels_share_colours_and_limits_and_sort_their_own_legends(tmp_path, drawn):
    panels = {
        "day": {"one": make_score(1, 3), "two": make_score(3, 3)},
        "night": {"one": make_score(59, 1, people=60), "two": make_score(2, 3), "late": make_score(0, 1, people=0)},
        "none": {},
    }
    miss_rate_panels(panels, tmp_path / "deep" / "panels.png", "title of the figure")
    figure = drawn[0]
    assert figure.get_suptitle() == "title of the figure"
    assert [axes.get_title() for axes in figure.axes] == ["day", "night", "none"]
    day, night, none = figure.axes
    assert legend(day) == ["25.00%  two", "75.00%  one"]
    assert legend(night) == ["1.67%  one", "50.00%  two", "no people  late"]
    assert none.get_legend() is None
    # The legend is below the axes and hides no curve.
    assert night.get_legend().get_window_extent().y1 < night.get_window_extent().y0
    colors = [{line.get_label().split()[-1]: line.get_color() for line in axes.get_lines()} for axes in (day, night)]
    assert len(set(colors[1].values())) == 3
    assert colors[0] == {name: colors[1][name] for name in ("one", "two")}
    assert [axes.get_ylim() for axes in figure.axes] == [(0.01, 1.0)] * 3
    height, width, _ = cv2.imread(str(tmp_path / "deep" / "panels.png")).shape
    assert width > 2 * height > 1000
