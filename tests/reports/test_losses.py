"""The curves of a run: what is read from its logs, and where it is drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dcrl_jax.reports.losses import loss_figure, read_scalars
from dcrl_jax.training.logs import ScalarLog

SECOND = 1_700_000_000


def write_log(folder, number, *values):
    """The log of one start of a run, as if it had begun in its own second; each value is (name, value, step)."""
    with ScalarLog(folder / "fresh") as scalars:
        for value in values:
            scalars.add_scalar(*value)
    (fresh,) = (folder / "fresh").iterdir()
    return fresh.rename(folder / f"events.out.tfevents.{SECOND + number}.host")


def points(scalars, name):
    steps, values = scalars[name]
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def test_starts_of_a_run_are_merged_by_step_and_the_later_one_wins(tmp_path):
    # The later file is older on the disk: the name says when the run began.
    write_log(tmp_path, 7, ("train/loss", 3.5, 40), ("train/loss", 2.0, 80), ("validation/reasonable-all", 0.25, 80))
    write_log(tmp_path, 3, ("train/loss", 4.0, 20), ("train/loss", 3.0, 40), ("train/loss", 2.5, 60))
    scalars = read_scalars(tmp_path)
    assert points(scalars, "train/loss") == [(20, 4.0), (40, 3.5), (60, 2.5), (80, 2.0)]
    assert points(scalars, "validation/reasonable-all") == [(80, 0.25)]
    assert set(scalars) == {"train/loss", "validation/reasonable-all"}


def test_values_that_are_not_finite_are_left_out(tmp_path):
    write_log(tmp_path, 0, ("a", float("nan"), 1), ("a", 0.5, 2), ("a", float("inf"), 3), ("b", float("nan"), 1))
    scalars = read_scalars(tmp_path)
    assert points(scalars, "a") == [(2, 0.5)]
    assert "b" not in scalars


def test_file_that_was_cut_off_gives_what_stands_before(tmp_path):
    path = write_log(tmp_path, 0, *(("a", float(step), step) for step in range(4)))
    data, lengths = path.read_bytes(), set()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        found = points(read_scalars(tmp_path), "a") if read_scalars(tmp_path) else []
        assert found == [(step, float(step)) for step in range(len(found))]
        lengths.add(len(found))
    # Without its last checksum the last event is whole.
    assert lengths == {0, 1, 2, 3, 4}


def test_bytes_that_are_no_event_end_a_file(tmp_path):
    path = write_log(tmp_path, 0, ("a", 0.5, 1))
    garbage = (4).to_bytes(8, "little") + bytes(4) + b"\xff\xff\xff\xff" + bytes(4)
    path.write_bytes(path.read_bytes() + garbage)
    assert points(read_scalars(tmp_path), "a") == [(1, 0.5)]


def test_missing_folder_and_other_files_hold_nothing(tmp_path):
    assert read_scalars(tmp_path / "nothing") == {}
    (tmp_path / "notes.txt").write_text("nothing")
    assert read_scalars(tmp_path) == {}


@pytest.fixture
def drawn(monkeypatch):
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_every_curve_is_drawn_in_its_panel(tmp_path, drawn):
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
def test_run_that_has_only_begun_is_drawn_quietly(tmp_path):
    loss_figure({"train/loss": (np.array([20]), np.array([4.0]))}, tmp_path / "l.png", "")
    assert (tmp_path / "l.png").is_file()
