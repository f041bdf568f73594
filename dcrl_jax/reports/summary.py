"""The tables of an evaluation: miss rates, average precision and modality weights."""

import numpy as np

from dcrl_jax.evaluation.evaluate import Evaluation
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.structures import MODALITIES, WITHOUT
from dcrl_jax.tables import Table, format_table


def score_tables(evaluation: Evaluation) -> list[Table]:
    """Return the tables of an evaluation.

    The first has miss rates, also with one modality blanked, and average precision by subset. The second, if the config
    asks for further subsets, has their miss rates. The third, for a teacher, has mean modality weights by condition.
    """
    scores = evaluation.scores.values()
    rows = [["miss rate, %", *(100 * score.miss_rate for score in scores)]]
    rows += [
        [f"  {WITHOUT[modality]}", *(100 * score.miss_rate for score in by_subset.values())]
        for modality, by_subset in evaluation.blanked_scores.items()
    ]
    rows += [
        ["average precision, %", *(100 * precision for precision in evaluation.average_precision.values())],
        ["people", *(score.people for score in scores)],
        ["images", *(score.images for score in scores)],
    ]
    tables = [Table(rows, ["", *(score.subset.short_name for score in scores)])]
    if evaluation.further_scores:
        further = evaluation.further_scores.values()
        rows = [
            ["miss rate, %", *(100 * score.miss_rate for score in further)],
            ["people", *(score.people for score in further)],
        ]
        tables.append(Table(rows, ["", *(score.subset.short_name for score in further)]))
    if evaluation.modality_weights:
        missing = [np.nan] * len(MODALITIES)
        rows = [
            [f"mean weight of {name}", *(evaluation.modality_weights.get(c, missing)[index] for c in CONDITIONS)]
            for index, name in enumerate(MODALITIES)
        ]
        tables.append(Table(rows, ["", *CONDITIONS], decimals=3))
    return tables


def describe_one_camera(evaluation: Evaluation) -> list[str]:
    """Return a sentence on the scores with one camera, or nothing if there are none."""
    if not evaluation.blanked_scores:
        return []
    if evaluation.blank_probability:
        probability = f"data.blank_probability={evaluation.blank_probability:g}"
        training = f"this teacher was trained for that ({probability}) and also takes one image"
    else:
        training = (
            "this teacher was not trained for that (data.blank_probability=0), so that the rows only show how much it "
            "relies on each camera"
        )
    return [f"{' and '.join(WITHOUT.values())}: one camera is missing, and its image blank; {training}."]


def summary(evaluation: Evaluation) -> str:
    """Return the tables as text, followed by the warnings of the data set."""
    parts = [format_table(*table) for table in score_tables(evaluation)]
    parts += describe_one_camera(evaluation)
    return "\n\n".join(parts + [f"warning: {warning}" for warning in evaluation.warnings])
