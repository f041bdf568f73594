"""The images, pairs and videos to detect in, from what a user names."""

import os
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.errors import InputError, first_few
from dcrl_jax.pairs.by_name import describe_words, is_thermal_folder, pair_by_name
from dcrl_jax.pairs.input_files import File, Files, describe_others, find_files, look_at, one_line
from dcrl_jax.pairs.lists import LIST_SUFFIXES, read_rows
from dcrl_jax.pairs.of_files import pair_files


class SceneFiles(NamedTuple):
    """The file of an image or video or the two of a pair, and which of their images, if they hold several."""

    name: str  # in the results
    visible: File | None  # None if it is missing
    lwir: File | None  # None if it is missing, or for a detector that sees RGB only
    page: int | None = None  # which of several images in each file, from 0

    @property
    def files(self) -> list[File]:
        """The files that are there."""
        return [file for file in (self.visible, self.lwir) if file]


class Scenes(NamedTuple):
    """What to detect in, and what is left out."""

    images: list[SceneFiles]  # sorted by name, which is unique
    videos: list[SceneFiles]
    unmatched: list[Path]  # files without a counterpart in the other modality
    problems: list[str]  # what the user named but cannot be used
    notes: list[str]  # what is left out on purpose


def find_scenes(source: str | None, lwir_source: str | None, needs_lwir: bool, allow_missing: bool = False) -> Scenes:
    """Return what to detect in.

    The name of a scene is, for a pair, what both paths have in common (``pair_by_name``); for a file alone, the path
    below the searched folder; for a line of a list, the path of its first file below the folder of all. Each image of a
    file with several has a name of its own: ``stack.tif#0001``.

    Args:
        source: an image, a video, a folder or a pattern (see ``find_files``), or a list of pairs: a file .csv or .tsv
            with the columns ``visible`` and ``lwir``, paths relative to its folder. A header may name the columns in
            another order or among others. With ``needs_lwir`` and no ``lwir_source``, a folder or pattern names files
            of both modalities. None if there are only thermal files.
        lwir_source: the thermal files. Of two patterns, files for which the wildcards stand for the same text are a
            pair, and then files of the same name.
        needs_lwir: whether a scene needs both modalities. Otherwise files in ``source`` whose names say that they are
            thermal are left out.
        allow_missing: with ``needs_lwir``, whether a file without a partner is a scene, and a list may lack cells.

    Raises:
        InputError: a source does not exist, or names nothing to detect in.
    """
    scenes = Scenes([], [], [], [], [])
    if source is not None and os.path.isfile(source) and source.lower().endswith(LIST_SUFFIXES):
        if lwir_source is not None:
            raise InputError(f"{source} is a list of pairs, which names the thermal files: omit --lwir.")
        _add_list(scenes, Path(source), needs_lwir, allow_missing)
    else:
        _add_found(scenes, source, lwir_source, needs_lwir, allow_missing)
    images, names = [], set()
    for scene in scenes.images:
        if scene.name in names:  # of two pairs that different words or wildcards make
            scene = scene._replace(name=scene.files[0].name)
        for page in _pages(scene, scenes.problems):
            if page.name in names:
                scenes.problems.append(f"{page.files[0].path}: another image has its name, {page.name!r}; rename it.")
            else:
                names.add(page.name)
                images.append(page)
    images.sort(key=lambda scene: scene.name)
    return scenes._replace(images=images, unmatched=sorted(scenes.unmatched))


def _add_found(scenes, source, lwir_source, needs_lwir, allow_missing):
    """Add the scenes of files, folders or patterns."""
    if None not in (source, lwir_source) and os.path.realpath(source) == os.path.realpath(lwir_source):
        lwir_source = None
    found, lwir_found = (None if name is None else _find_any(name, scenes) for name in (source, lwir_source))
    is_pair = all(name is not None and os.path.isfile(name) for name in (source, lwir_source))
    for kind in ("images", "videos"):
        files, lwir_files = (None if group is None else getattr(group, kind) for group in (found, lwir_found))
        if found and not needs_lwir:
            new = _visible_scenes(found.root, files, scenes)
        elif is_pair and files and lwir_files:
            new = _pair_of_files(files, lwir_files)
        else:
            new = _pair_scenes(found and found.root, files or [], lwir_files, scenes, allow_missing)
        getattr(scenes, kind).extend(new)
    if not (scenes.images or scenes.videos):
        files, lwir_files = ([*group.images, *group.videos] if group else [] for group in (found, lwir_found))
        raise _nothing_usable(source or lwir_source, files, lwir_files, needs_lwir, scenes)


def _find_any(source, scenes) -> Files:
    found = find_files(source)
    scenes.problems.extend(found.problems)
    scenes.notes.extend(found.notes)
    if not (found.images or found.videos):
        content = describe_others(found.others) if found.others else "no files"
        problems = "".join(f" {problem}" for problem in first_few([*found.problems, *found.notes], 3))
        raise InputError(f"{source}: no image and no video ({content}).{problems}")
    if found.others:
        scenes.notes.append(f"{describe_others(found.others)} are neither images nor videos, left out: {source}")
    return found


def _visible_scenes(root, files, scenes):
    """Return the files that are not thermal by their names."""
    pairing = pair_by_name(file.name for file in files)
    thermal = {*pairing.lwir, *(pair.lwir for pair in pairing.pairs)}
    if _is_thermal(root) and not pairing.pairs:
        thermal = {file.name for file in files}
    if thermal:
        names = ", ".join(first_few(sorted(thermal), 2))
        scenes.notes.append(f"{len(thermal)} of {len(files)} files are thermal by their names, left out: {names}")
    return [SceneFiles(file.name, file, None) for file in files if file.name not in thermal]


def _pair_scenes(root, files, lwir_files, scenes, allow_missing):
    """Return the pairs among files of one or two sources, and with ``allow_missing`` the other files by themselves."""
    pairing = pair_files(files, lwir_files)
    scenes.problems.extend(pairing.problems)
    pairs = [SceneFiles(*pair) for pair in pairing.pairs]
    visible, lwir = pairing.visible, pairing.lwir
    if not allow_missing:
        scenes.unmatched.extend([*visible, *lwir])
        return pairs
    if lwir_files is None and not pairs and _is_thermal(root):
        visible, lwir = [], [*visible, *lwir]
    file_of = {file.path: file for file in [*files, *(lwir_files or [])]}
    alone = [SceneFiles(file_of[path].name, file_of[path], None) for path in visible]
    return [*pairs, *alone, *(SceneFiles(file_of[path].name, None, file_of[path]) for path in lwir)]


def is_thermal_file(path: Path) -> bool:
    """Return whether the name of a file or of its folder says that it is thermal."""
    return bool(pair_by_name([path.name]).lwir) or _is_thermal(path.parent)


def _is_thermal(root):
    return is_thermal_folder(os.path.basename(os.path.abspath(root)))


def _pair_of_files(files, lwir_files):
    """Return two files as a pair, whatever their names."""
    pairs = []
    for visible, lwir in zip(files, lwir_files, strict=False):
        common = pair_by_name([visible.name], [lwir.name]).pairs
        pairs.append(SceneFiles(common[0].name if common else Path(visible.name).stem, visible, lwir))
    return pairs


def _pages(scene, problems) -> list[SceneFiles]:
    """Return a scene for every image that the files of one hold."""
    counts = [len(file.pages) for file in scene.files]
    if max(counts) == 1:
        return [scene]
    if len(set(counts)) > 1:
        held = " and ".join(f"{file.path} holds {count}" for file, count in zip(scene.files, counts, strict=True))
        problems.append(f"{held} images; those without a counterpart are left out.")
    return [scene._replace(name=f"{scene.name}#{page + 1:04d}", page=page) for page in range(min(counts))]


def _add_list(scenes, path, needs_lwir, allow_missing):
    """Add the pairs of a list; every line that cannot be used becomes a problem."""
    required = ("visible", "lwir") if needs_lwir else ("visible",)
    pairs, line_of = [], {}
    for line, cells in read_rows(path, required, (), scenes.problems, allow_missing):
        named = {name: path.parent / cells[name] for name in required if name in cells}
        found = {name: look_at(file) for name, file in named.items() if os.path.isfile(file)}
        problems = [f"{file}: no such file." for name, file in named.items() if name not in found]
        problems += [f"{f.path}: neither an image nor a video." for f in found.values() if f.kind == "other"]
        if not problems:
            scene = SceneFiles("", found.get("visible"), found.get("lwir"))
            file = scene.files[0].path
            first = line_of.setdefault(os.path.abspath(file), line)
            if first != line:
                problems = [f"{file} is in line {first} already."]
            elif len({file.kind for file in scene.files}) > 1:
                problems = ["an image and a video; expected two of a kind."]
            else:
                pairs.append(scene)
        scenes.problems.extend(f"{path}:{line}: {problem}" for problem in problems)
    if not pairs:
        lines = "".join(f"\n  {problem}" for problem in first_few(scenes.problems, 5))
        columns = " and ".join(required) if needs_lwir else "visible, and others that are not used"
        raise InputError(f"{path}: no line that can be used; expected the columns {columns}.{lines}")
    paths = [os.path.abspath(pair.files[0].path) for pair in pairs]
    root = os.path.commonpath(list(map(os.path.dirname, paths)))
    for pair, file in zip(pairs, paths, strict=True):
        group = scenes.images if pair.files[0].kind == "image" else scenes.videos
        group.append(pair._replace(name=one_line(os.path.relpath(file, root))))


def _nothing_usable(source, files, lwir_files, needs_lwir, scenes):
    """Return the error for sources whose files give no scene."""
    if not needs_lwir:
        return InputError(f"{source}: thermal images only by their names; this detector takes visible images.")
    names = set(pair_by_name(file.name for file in files).lwir)
    thermal = lwir_files or [file for file in files if file.name in names]
    visible = [file for file in files if file not in thermal]
    examples = ", ".join(str(file.path) for file in [*visible[:2], *thermal[:2]])
    problems = "".join(f"\n  {problem}" for problem in first_few(scenes.problems, 3))
    return InputError(
        f"{source}: {len(visible)} visible and {len(thermal)} thermal files, no pair ({examples}). The names of a pair "
        f"are equal, except for a folder or a word that tells the modality: {describe_words()}; or give the thermal "
        f"files with --lwir, or a list of the pairs as a CSV file with the columns visible, lwir. --allow_missing "
        f"takes files without a partner.{problems}"
    )
