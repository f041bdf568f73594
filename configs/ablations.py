"""Every ablation of the paper by name: the rows of its Tables II, III, IV and VI, and of Fig. 6.

    python -m configs.ablations                                              list them, with the paper's miss rates
    python main.py --config=configs/ablations.py:table4/cls+bbr+fea          one of them on KAIST
    python main.py --config=configs/ablations.py:table4/cls+bbr+fea:msrs     on another data set

Table IV's rows are students and the baseline; give the students one teacher with ``--config.teacher.checkpoint``. The
other rows are teachers, except the student of Fig. 6.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import baseline, student, teacher
from dcrl_jax.command_line import Parser


class Row(NamedTuple):
    """One row of a table."""

    recipe: Callable[[str], ConfigDict]  # ``get_config`` of the recipe to change
    changes: dict[str, object]  # keys and their values
    paper_percent: float  # miss rate, reasonable, all; original annotations of KAIST


_TERMS = ("fea", "cls", "bbr", "seg")


def _distilling(*terms: str) -> dict[str, object]:
    return {f"distillation.{term}": term in terms for term in _TERMS}


ROWS = {
    "table2/cfl": Row(teacher.get_config, {}, 23.37),
    "table2/without-sfl": Row(teacher.get_config, {"cfl.shared_fraction": 0.0}, 24.06),
    "table2/without-aas": Row(teacher.get_config, {"cfl.aggregation": "average"}, 24.85),
    "table2/without-mfl": Row(teacher.get_config, {"cfl.shared_fraction": 1.0}, 25.42),
    "table3/average": Row(teacher.get_config, {"fusion.strategy": "average"}, 24.63),
    "table3/linear": Row(teacher.get_config, {"fusion.strategy": "linear"}, 25.35),
    "table3/maf": Row(teacher.get_config, {}, 23.37),
    "table4/baseline": Row(baseline.get_config, {}, 46.23),
    "table4/fea": Row(student.get_config, _distilling("fea"), 38.35),
    "table4/cls": Row(student.get_config, _distilling("cls"), 40.46),
    "table4/bbr": Row(student.get_config, _distilling("bbr"), 37.97),
    "table4/seg": Row(student.get_config, _distilling("seg"), 41.52),
    "table4/cls+bbr": Row(student.get_config, _distilling("cls", "bbr"), 34.18),
    "table4/cls+bbr+fea": Row(student.get_config, _distilling("cls", "bbr", "fea"), 29.86),
    "table4/cls+bbr+fea+seg": Row(student.get_config, _distilling(*_TERMS), 25.89),
    "table6/none": Row(teacher.get_config, {"segmentation.stages": ()}, 25.23),
    "table6/rpg": Row(teacher.get_config, {"segmentation.stages": ("rpg",)}, 23.92),
    "table6/rdr": Row(teacher.get_config, {"segmentation.stages": ("rdr",)}, 24.68),
    "table6/rpg+rdr": Row(teacher.get_config, {}, 23.37),
    "fig6/teacher-without-cfl": Row(teacher.get_config, {"cfl.enabled": False}, 27.24),
    "fig6/student-without-cfl": Row(student.get_config, {"teacher.cfl.enabled": False}, 30.07),
}


def get_config(argument: str = "") -> ConfigDict:
    """Return the recipe of one row.

    Args:
        argument: NAME or NAME:DATA, with a name of ``ROWS`` and a data set of ``common.use_data``, by default 'kaist'.

    Raises:
        ValueError: there is no such row or data set.
    """
    name, _, data = argument.partition(":")
    if name not in ROWS:
        raise ValueError(f"no ablation is called {name!r}; python -m configs.ablations lists them")
    row = ROWS[name]
    config = row.recipe(data or "kaist")
    config.update_from_flattened_dict(row.changes)
    return config


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the names of all rows with the paper's miss rates."""
    Parser(__doc__).parse_args(arguments)
    print(f"{'--config=configs/ablations.py:NAME':36}miss rate in the paper, %")
    for name, row in ROWS.items():
        print(f"{name:36}{row.paper_percent:.2f}")


if __name__ == "__main__":
    main()
