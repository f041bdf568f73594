"""What the check of a folder prints and stores: the table of counts, and which pairs its contact sheet shows."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets.checks import count_people
from datasets.records import CONDITIONS
from dcrl_jax.annotations.labels import IGNORE, KAIST_IGNORE, PERSON
from dcrl_jax.tables import format_table

EXAMPLES = 12


def describe(
    kept: Mapping[str, Sequence[Any]],
    label_counts: Mapping[str, int],
    meanings: Mapping[str, str],
    facts: Mapping[str, str],
) -> str:
    """Return the result of a check as text.

    Args:
        kept: the checked pairs by split, to be counted.
        label_counts: the number of objects by label, as in the files.
        meanings: what each label becomes.
        facts: lines of a name and a text; empty texts are left out.
    """
    lines = [f"{name}: {text}" for name, text in facts.items() if text]
    by_count = sorted(label_counts.items(), key=lambda entry: (-entry[1], entry[0]))
    label_rows = [[label, count, _explain(meanings[label])] for label, count in by_count]
    rows = [row for split, items in kept.items() for row in _count(split, items)]
    labels = format_table(label_rows, ["label", "objects", "becomes"])
    return "\n".join([*lines, "", labels, "", format_table(rows, ["", "all", *CONDITIONS])])


def count_texts(texts: Iterable[str]) -> str:
    """Return how often each text is there, the most frequent first."""
    return ", ".join(f"{text} {count:,}" for text, count in Counter(texts).most_common())


def choose_examples(kept: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Return split and index of twelve pairs to look at: of each split by day and night in turn, people first."""
    drawn = random.Random(0)
    groups = []
    for split, items in kept.items():
        for condition in CONDITIONS:
            indices = [index for index, item in enumerate(items) if item.condition == condition]
            drawn.shuffle(indices)
            indices.sort(key=lambda index: not count_people(items[index].objects))
            groups.append([[split, index] for index in indices])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups))
    chosen = list(itertools.islice(filter(None, turns), EXAMPLES))
    order = {split: number for number, split in enumerate(kept)}
    return sorted(chosen, key=lambda entry: (order[entry[0]], kept[entry[0]][entry[1]].condition, entry[1]))


def _explain(meaning):
    if meaning in (PERSON, IGNORE):
        return meaning
    # By default, runs and scores take KAIST's labels of groups and cyclists as regions to ignore.
    return f"{meaning} ({'ignored by default' if meaning in KAIST_IGNORE else 'background'})"


def _count(split, items):
    """Return the rows of the table: a name, then counts for all, day and night."""
    counts: dict[str, Counter] = {name: Counter() for name in ("pairs", "pairs without a person", "people", "ignored")}
    for item in items:
        people = count_people(item.objects)
        counts["pairs"][item.condition] += 1
        counts["pairs without a person"][item.condition] += not people
        counts["people"][item.condition] += people
        counts["ignored"][item.condition] += sum(annotation.ignore for annotation in item.objects)
    return [
        [f"{split}: {name}", counter.total(), *(counter[condition] for condition in CONDITIONS)]
        for name, counter in counts.items()
    ]
