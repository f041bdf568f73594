"""Search for KAIST's files in a copy of any layout.

One rule covers all known layouts: the set, video and frame are in a file's path (``set00/V000/visible/I00000.jpg``) or
name (``set00_V000_I00000.png``, ``set00_V000_I00000_visible.png``), and the modality is in its name or in the name of a
parent folder.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist.frames import MODALITY_WORDS
from dcrl_jax.annotations.types import MODALITIES
from dcrl_jax.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
ANNOTATION_SUFFIXES = (".txt", ".xml")

_ANY_MODALITY = "|".join(MODALITY_WORDS)
_FILE = re.compile(
    r"(?P<before>(?:.*?/)?)(?P<set>set\d\d)(?P<joint>[/_])(?P<video>V\d{3})[/_]"
    rf"(?:(?P<inner>{_ANY_MODALITY})[/_])?(?P<frame>I\d{{5}})(?:_(?P<outer>{_ANY_MODALITY}))?(?P<suffix>\.\w+)",
    re.IGNORECASE | re.ASCII,
)

_SET_OR_VIDEO = re.compile(r"set\d\d|V\d{3}", re.IGNORECASE | re.ASCII)


class FrameFile(NamedTuple):
    """One file that belongs to one frame."""

    path: Path
    image_id: str
    modality: str | None  # None if the path names none
    folder: str  # relative to the root, without the parts for set, video and modality; names the annotation set
    template: str  # the path with placeholders for split, modality, set, video and frame
    layout: str  # "video tree", "flat" or "ICAFusion"


class AnnotationFolder(NamedTuple):
    """One set of annotations: a file per frame, or per frame and modality."""

    name: str  # relative to the root
    files: dict[str | None, dict[str, Path]]  # by modality (None: one file for both), then by image id

    @property
    def is_paired(self) -> bool:
        """Whether there are files for each modality."""
        return set(MODALITIES) <= set(self.files)

    def frames(self) -> set[str]:
        """Return the image ids of all files."""
        return set().union(*self.files.values())

    def by_image(self) -> dict[str, Path]:
        """Return the file of each frame, of any modality.

        Raises:
            InputError: a frame has several files; names two of them.
        """
        files: dict[str, Path] = {}
        for image_id, path in (item for by_id in self.files.values() for item in by_id.items()):
            _add_once(files, image_id, path)
        return files


def recognise(path: Path, root: Path) -> FrameFile | None:
    """Return what a file's path says about its frame; None if the path names no frame."""
    relative = path.relative_to(root).as_posix()
    match = _FILE.fullmatch(relative)
    if match is None:
        return None
    before = match["before"]
    parents = before.lower().split("/")
    word = (
        match["outer"] or match["inner"] or next((part for part in reversed(parents) if part in MODALITY_WORDS), None)
    )
    modality = MODALITY_WORDS[word.lower()] if word else None
    # The files of both modalities and of all videos make one annotation set, so its name contains neither.
    kept = [
        part
        for part in before.split("/")
        if part and part.lower() not in MODALITY_WORDS and not _SET_OR_VIDEO.fullmatch(part)
    ]
    folder = "/".join(kept) or "."
    if match["joint"] == "/":
        layout = "video tree"
    else:
        # ICAFusion's folder of the modality contains those of the splits.
        is_modality = [
            part in MODALITY_WORDS for part in parents if part in MODALITY_WORDS or part in ("train", "test")
        ]
        layout = "ICAFusion" if is_modality == [True, False] else "flat"
    template = _template(match)
    image_id = f"{match['set'].lower()}/{match['video'].upper()}/{match['frame'].upper()}"
    return FrameFile(path, image_id, modality, folder, template, layout)


def _template(match):
    inner = "{modality}/" if match["inner"] else ""
    outer = "_{modality}" if match["outer"] else ""
    before = "/".join(
        "{modality}" if part.lower() in MODALITY_WORDS else "{split}" if part.lower() in ("train", "test") else part
        for part in match["before"].split("/")
    )
    if match["joint"] == "/":
        return f"{before}setNN/VNNN/{inner}INNNNN{outer}{match['suffix']}"
    return f"{before}setNN_VNNN_{inner.replace('/', '_')}INNNNN{outer}{match['suffix']}"


class ImageIndex(NamedTuple):
    """The images of a user's copy."""

    files: dict[str, dict[str, Path]]  # by modality, then by image id
    unused: list[str]  # a line for each file of a frame without a modality, or with a frame that another file has
    layout: str  # all layouts, in one line


def index_images(root: Path) -> ImageIndex:
    """Find all images of frames below a folder.

    Raises:
        InputError: a folder cannot be read.
    """
    files: dict[str, dict[str, Path]] = {modality: {} for modality in MODALITIES}
    unused, templates = [], Counter()
    for path in walk(root, IMAGE_SUFFIXES):
        file = recognise(path, root)
        if file is None:
            continue
        if file.modality is None:
            unused.append(f"{path}: neither visible nor lwir by its path")
            continue
        first = files[file.modality].setdefault(file.image_id, path)
        if first != path:
            unused.append(f"{path}: {file.image_id} {file.modality} is {first} already")
            continue
        templates[file.layout, file.template] += 1
    layouts = [f"{layout}, {template}: {count:,} files" for (layout, template), count in templates.most_common()]
    return ImageIndex(files, unused, "; ".join(layouts) or "no images recognised")


def index_annotations(root: Path) -> list[AnnotationFolder]:
    """Find all annotation sets below a folder, sorted by name; files of no frame are skipped.

    Raises:
        InputError: two files of one set annotate the same frame, or a folder cannot be read.
    """
    folders: dict[str, dict[str | None, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for path in walk(root, ANNOTATION_SUFFIXES):
        if file := recognise(path, root):
            _add_once(folders[file.folder][file.modality], file.image_id, path)
    return [
        AnnotationFolder(name, {modality: dict(by_id) for modality, by_id in by_modality.items()})
        for name, by_modality in sorted(folders.items())
    ]


def _add_once(files, image_id, path):
    """Add the file of a frame; raise InputError if the frame has one already."""
    if (first := files.setdefault(image_id, path)) != path:
        raise InputError(f"{first} and {path} both annotate {image_id}; keep one of them")
