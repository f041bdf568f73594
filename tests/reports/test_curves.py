"""The MR-FPPI figure: what it says and where its lines run, not its pixels."""

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, score
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.reports.curves import by_miss_rate, miss_rate_figure, miss_rate_panels


def make_score(found, false_alarms, people=4):
    """``found`` of 4 people found first, then as many false alarms, in two images."""
    boxes = np.array([[20.0 * place, 0, 10, 20] for place in range(people)]).reshape(-1, 4)
    truths = [
        ImageTruth("a", "day", boxes, ("person",) * people, np.zeros(people, int), np.zeros(people, bool)),
        ImageTruth("b", "day", np.zeros((0, 4)), (), np.zeros(0, int), np.zeros(0, bool)),
    ]
    detected = np.concatenate([boxes[:found], np.full((false_alarms, 4), 500.0)])
    detections = {"a": ImageDetections(detected, np.linspace(0.9, 0.1, len(detected)))}
    return score(truths, detections, Subset("anyone"))


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved during a test; their files are written as well."""
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_legend_is_ordered_by_miss_rate_with_percentages(tmp_path, drawn):
    curves = {
        "poor": make_score(1, 3),
        "good": make_score(3, 3),
        "nobody": make_score(0, 1, people=0),
        "fair": make_score(2, 3),
    }
    path = tmp_path / "deep" / "curves.png"
    miss_rate_figure(curves, path, "title of the figure")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "25.00%  good",
        "50.00%  fair",
        "75.00%  poor",
        "no people  nobody",
    ]
    assert axes.get_title() == "title of the figure"
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlim()) == ("log", "log", (1e-3, 1e1))
    height, width, channels = cv2.imread(str(path)).shape
    assert width > height > 600
    assert channels == 3


def test_curve_runs_from_the_left_edge_to_the_right_edge(tmp_path, drawn):
    miss_rate_figure({"one": make_score(3, 2)}, tmp_path / "curves.png", "")
    line = drawn[0].axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [1e-4, 1e-4, 1e-4, 1e-4, 0.5, 1.0, 10.0])
    np.testing.assert_allclose(line.get_ydata(), [1, 0.75, 0.5, 0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(("false_alarms", "last"), [(0, 10.0), (20, 10.0), (31, 15.5)])
def test_curve_never_runs_backwards(tmp_path, drawn, false_alarms, last):
    miss_rate_figure({"one": make_score(3, false_alarms)}, tmp_path / "curves.png", "")
    fppi = drawn[0].axes[0].get_lines()[0].get_xdata()
    assert (np.diff(fppi) >= 0).all()
    assert fppi[-1] == last


@pytest.mark.parametrize(("people", "lowest_tick"), [(4, 0.05), (25, 0.02), (60, 0.01), (150, 0.01)])
def test_axis_reaches_down_to_the_lowest_miss_rate(tmp_path, drawn, people, lowest_tick):
    # One person stays missed.
    miss_rate_figure({"one": make_score(people - 1, 1, people)}, tmp_path / "curves.png", "")
    axes = drawn[0].axes[0]
    assert axes.get_ylim() == (lowest_tick, 1.0)
    assert axes.get_yticks().tolist()[-9:] == [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.64, 0.8, 1.0]


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_no_detections_no_misses_and_no_curves_are_drawn_quietly(tmp_path):
    miss_rate_figure({"nothing": make_score(0, 0), "all": make_score(4, 1)}, tmp_path / "a.png", "")
    miss_rate_figure({}, tmp_path / "b.svg", "")
    assert (tmp_path / "a.png").stat().st_size > 0
    assert (tmp_path / "b.svg").read_text().startswith("<?xml")


def test_dollar_signs_of_names_and_titles_are_no_formulas(tmp_path, drawn):
    miss_rate_figure({"a$x_{$b": make_score(3, 2)}, tmp_path / "curves.png", "$\\frac{$")
    axes = drawn[0].axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == r"25.00%  a\$x_{\$b"
    assert axes.get_title() == r"\$\frac{\$"


def test_panels_share_colours_and_range_and_each_orders_its_own_legend(tmp_path, drawn):
    panels = {
        "day": {"one": make_score(1, 3), "two": make_score(3, 3)},
        "night": {"one": make_score(59, 1, people=60), "two": make_score(2, 3), "late": make_score(0, 1, people=0)},
    }
    miss_rate_panels(panels, tmp_path / "deep" / "panels.png", "title of the figure")
    figure = drawn[0]
    assert figure.get_suptitle() == "title of the figure"
    assert [axes.get_title() for axes in figure.axes] == ["day", "night"]
    assert [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes] == [
        ["25.00%  two", "75.00%  one"],
        ["1.67%  one", "50.00%  two", "no people  late"],
    ]
    colors = [{line.get_label().split()[-1]: line.get_color() for line in axes.get_lines()} for axes in figure.axes]
    assert len(set(colors[1].values())) == 3
    assert colors[0] == {name: colors[1][name] for name in ("one", "two")}
    assert [axes.get_ylim() for axes in figure.axes] == [(0.01, 1.0)] * 2
    height, width, _ = cv2.imread(str(tmp_path / "deep" / "panels.png")).shape
    assert width > 1.5 * height


def test_legends_of_panels_hide_no_curve(tmp_path, drawn):
    curves = {f"method {number}": make_score(3, number) for number in range(12)}
    miss_rate_panels({"all": curves, "none": {}}, tmp_path / "panels.png", "")
    first, second = drawn[0].axes
    assert second.get_legend() is None
    assert first.get_legend().get_window_extent().y1 < first.get_window_extent().y0


def test_scores_are_ordered_by_miss_rate_with_those_of_nobody_last():
    scores = {"nobody": make_score(0, 1, people=0), "poor": make_score(1, 3), "good": make_score(3, 3)}
    assert list(by_miss_rate(scores)) == ["good", "poor", "nobody"]
