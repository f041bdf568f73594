"""The curves of a run: what is read from its log and where it is drawn."""

import numpy as np
import pytest

from dcrl_jax.files import append_json_line
from dcrl_jax.reports.losses import loss_figure, read_curves


def points(curves, name):
    steps, values = curves[name]
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def test_last_value_of_a_repeated_step_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step, loss in [(20, 4.0), (40, 3.0), (60, 2.5), (40, 3.5), (80, 2.0)]:
        append_json_line(path, {"step": step, "train/loss": loss})
    append_json_line(path, {"step": 80, "validation/reasonable-all": 0.25})
    curves = read_curves(path)
    assert points(curves, "train/loss") == [(20, 4.0), (40, 3.5), (60, 2.5), (80, 2.0)]
    assert points(curves, "validation/reasonable-all") == [(80, 0.25)]
    assert set(curves) == {"train/loss", "validation/reasonable-all"}


def test_null_torn_lines_and_text_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "a": null}', '{"step": 2, "a": 0.5, "b": "x"}', "[3]", '{"a": 1.0}', '{"step": 4, "a": 0.']
    path.write_text("\n".join(lines))
    assert {name: points(read_curves(path), name) for name in read_curves(path)} == {"a": [(2, 0.5)]}
    append_json_line(path, {"step": 5, "a": 0.25})
    assert points(read_curves(path), "a") == [(2, 0.5), (5, 0.25)]


def test_missing_file_has_no_curves(tmp_path):
    assert read_curves(tmp_path / "nothing") == {}


def test_each_curve_is_drawn_in_its_panel(tmp_path, drawn):
    def curve(*values):
        return np.array([20, 40]), np.array(values)

    curves = {
        "train/loss": curve(4.0, 3.0),
        "train/rpg_cls": curve(0.5, 0.25),
        "train/fea": curve(0.125, 0.0625),
        "train/learning_rate": curve(1e-3, 1e-4),
        "train/gradient_norm": curve(8.0, 9.0),
        "train/images_per_second": curve(10.0, 11.0),
        "test/reasonable-all": curve(0.5, 0.25),
        "test/reasonable-night": curve(0.75, 0.125),
    }
    path = tmp_path / "deep" / "loss_curves.png"
    loss_figure(curves, path, "a $ run")
    assert path.stat().st_size > 10_000
    (figure,) = drawn
    assert figure.get_suptitle() == r"a \$ run"
    shown = [{line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()} for axes in figure.axes]
    assert shown == [
        {"loss": [4.0, 3.0]},
        {"rpg_cls": [0.5, 0.25], "fea": [0.125, 0.0625]},
        {"learning_rate": [1e-3, 1e-4]},
        {"reasonable-all": [50.0, 25.0], "reasonable-night": [75.0, 12.5]},
    ]
    assert all(line.get_xdata().tolist() == [20, 40] for axes in figure.axes for line in axes.get_lines())
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear", "linear"]


@pytest.mark.filterwarnings("error")
def test_single_point_gives_no_warnings(tmp_path):
    loss_figure({"train/loss": (np.array([20]), np.array([4.0]))}, tmp_path / "l.png", "")
    assert (tmp_path / "l.png").is_file()
