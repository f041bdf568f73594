"""The curves of a run: what is read from its log and where it is drawn."""

import numpy as np
import pytest

from dcrl_jax.files import append_json_line
from dcrl_jax.reports.losses import loss_figure, read_curves


def points(path):
    return {name: list(zip(*map(np.ndarray.tolist, curve), strict=True)) for name, curve in read_curves(path).items()}


def test_last_value_of_a_step_counts_and_null_torn_lines_and_text_do_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_curves(path) == {}
    lines = ['{"step": 1, "a": null}', '{"step": 2, "a": 0.5, "b": "x"}', "[3]", '{"a": 1.0}', '{"step": 4, "a": 0.']
    path.write_text("\n".join(lines))
    assert points(path) == {"a": [(2, 0.5)]}
    for step, loss in [(20, 4.0), (40, 3.0), (60, 2.5), (40, 3.5), (80, 2.0)]:
        append_json_line(path, {"step": step, "train/loss": loss})
    append_json_line(path, {"step": 5, "a": 0.25})
    assert points(path) == {"a": [(2, 0.5), (5, 0.25)], "train/loss": [(20, 4.0), (40, 3.5), (60, 2.5), (80, 2.0)]}


def test_each_curve_is_drawn_in_its_panel(tmp_path, undrawn):
    values = {
        "train/loss": [4.0, 3.0],
        "train/rpg_cls": [0.5, 0.25],
        "train/fea": [0.125, 0.0625],
        "train/learning_rate": [1e-3, 1e-4],
        "train/gradient_norm": [8.0, 9.0],
        "train/images_per_second": [10.0, 11.0],
        "test/reasonable-all": [0.5, 0.25],
        "test/reasonable-night": [0.75, 0.125],
        "test/coco-ap": [0.25, 0.5],
    }
    loss_figure({name: (np.array([20, 40]), np.array(v)) for name, v in values.items()}, tmp_path / "l.png", "a $ run")
    (figure,) = undrawn
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
def test_single_point_is_drawn_without_warnings(tmp_path):
    loss_figure({"train/loss": (np.array([20]), np.array([4.0]))}, tmp_path / "deep" / "l.png", "$")
    assert (tmp_path / "deep" / "l.png").stat().st_size > 10_000
