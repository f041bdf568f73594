"""The pairs among files that a user names, by wildcards and by names."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.pairs.by_name import pair_by_name
from dcrl_jax.pairs.input_files import File


class FilePair(NamedTuple):
    """Two files that belong together."""

    name: str  # what the names of both have in common
    visible: File
    lwir: File


class FilePairing(NamedTuple):
    """The pairs among files, and the rest."""

    pairs: list[FilePair]
    visible: list[Path]  # files without a partner
    lwir: list[Path]
    problems: list[str]  # see ``by_name.Pairing``


def pair_files(files: Sequence[File], lwir_files: Sequence[File] | None = None) -> FilePairing:
    """Return the pairs among files of one or two sources.

    Args:
        files: the files of both modalities, or the visible ones if ``lwir_files`` is given.
        lwir_files: the thermal files. Of two patterns, files for which the wildcards stand for the same text are a
            pair, and then files of the same name.
    """
    pairs = []
    if lwir_files is None:
        visible = lwir = {file.name: file for file in files}
        pairing = pair_by_name(visible)
    else:
        # A folder of thermal images may lie within that of the visible ones.
        thermal = {os.path.realpath(file.path) for file in lwir_files}
        files = [file for file in files if os.path.realpath(file.path) not in thermal]
        pairs = _pairs_of_wildcards(files, lwir_files)
        taken = {file.path for pair in pairs for file in (pair.visible, pair.lwir)}
        visible, lwir = ({file.name: file for file in group if file.path not in taken} for group in (files, lwir_files))
        pairing = pair_by_name(visible, lwir)
    pairs += [FilePair(pair.name, visible[pair.visible], lwir[pair.lwir]) for pair in pairing.pairs]
    return FilePairing(
        pairs,
        [visible[name].path for name in pairing.visible],
        [lwir[name].path for name in pairing.lwir],
        pairing.problems,
    )


def _pairs_of_wildcards(files, lwir_files):
    """Return the files for which the wildcards of two patterns stand for the same text."""
    by_text = defaultdict(lambda: ([], []))
    for side, group in enumerate((files, lwir_files)):
        for file in group:
            if file.wildcards:
                *others, last = file.wildcards
                # A pattern that ends with a wildcard has the suffix in it, in which the files of a pair may differ.
                by_text[*others, f".{last}".removesuffix(file.path.suffix)[1:]][side].append(file)
    return [
        FilePair("/".join(filter(None, text)) or "pair", *visible, *lwir)
        for text, (visible, lwir) in by_text.items()
        if len(visible) == len(lwir) == 1
    ]
