"""What the check of a folder prints and stores: the table of counts, and which pairs its contact sheet shows."""

import itertools
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
    """Return the result of a check as text: facts, the labels and what they become, and the counts by split.

    Args:
        kept: the checked pairs by split.
        label_counts: the number of objects by label, as in the files.
        meanings: what each label becomes.
        facts: lines of a name and a text; empty texts are left out.
    """
    lines = [f"{name}: {text}" for name, text in facts.items() if text]
    label_rows = [
        [label, count, _explain(meanings[label])]
        for label, count in sorted(label_counts.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    rows = [row for split, items in kept.items() for row in _count(split, items)]
    return "\n".join(
        [
            *lines,
            "",
            format_table(label_rows, ["label", "objects", "becomes"]),
            "",
            format_table(rows, ["", "all", *CONDITIONS]),
        ]
    )


def count_texts(texts: Iterable[str]) -> str:
    """Return how often each text is there, the most frequent first."""
    return ", ".join(f"{text} {count:,}" for text, count in Counter(texts).most_common())


def describe_sizes(size: tuple[int, int], lwir_size: tuple[int, int]) -> str:
    """Return the sizes of the visible and the thermal image, or the one of both."""
    visible, lwir = (f"{width}x{height}" for width, height in (size, lwir_size))
    return visible if visible == lwir else f"visible {visible} thermal {lwir}"


def choose_examples(kept: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Return split and index of the pairs to look at: in turn of each split by day and by night, spread over all.

    Pairs with people come first.
    """
    groups = []
    for split, items in kept.items():
        for condition in CONDITIONS:
            indices = [index for index, item in enumerate(items) if item.condition == condition]
            with_people = [index for index in indices if count_people(items[index].objects)]
            rest = sorted(set(indices) - set(with_people))
            groups.append([[split, index] for index in (*_spread(with_people), *_spread(rest))])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups))
    chosen = list(itertools.islice(filter(None, turns), EXAMPLES))
    order = {split: number for number, split in enumerate(kept)}
    return sorted(chosen, key=lambda entry: (order[entry[0]], kept[entry[0]][entry[1]].condition, entry[1]))


def _spread(indices):
    """Return up to twelve of some indices, evenly spread."""
    count = min(EXAMPLES, len(indices))
    # Of every number of them, the first ones are spread, too: halves, then quarters...
    positions = sorted(range(count), key=lambda number: (_reversed_bits(number), number))
    return [indices[position * len(indices) // count] for position in positions]


def _reversed_bits(number):
    return int(f"{number:04b}"[::-1], 2)


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
