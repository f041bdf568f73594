"""Finding KAIST's files in whatever tree they were copied to.

The name of a frame says where it belongs, so all known layouts are read by one rule: set, video and frame stand in a
file's path (``set00/V000/visible/I00000.jpg``) or in its name (``set00_V000_I00000.png``,
``set00_V000_I00000_visible.png``), and the modality in its name or in a folder above it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.files import walk
from dcrl_jax.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
ANNOTATION_SUFFIXES = (".txt", ".xml")

MODALITIES = ("visible", "lwir")
_NAMES = {
    **dict.fromkeys(("visible", "vis", "vi", "rgb", "color"), "visible"),
    **dict.fromkeys(("lwir", "infrared", "ir", "thermal", "tir"), "lwir"),
}
_ANY_MODALITY = "|".join(_NAMES)
_FILE = re.compile(
    r"(?P<before>(?:.*?/)?)(?P<set>set\d\d)(?P<joint>[/_])(?P<video>V\d{3})[/_]"
    rf"(?:(?P<inner>{_ANY_MODALITY})[/_])?(?P<frame>I\d{{5}})(?:_(?P<outer>{_ANY_MODALITY}))?(?P<suffix>\.\w+)",
    re.IGNORECASE | re.ASCII,
)

_PLACE = re.compile(r"set\d\d|V\d{3}", re.IGNORECASE | re.ASCII)


class FrameFile(NamedTuple):
    """One file that belongs to one frame."""

    path: Path
    image_id: str
    modality: str | None  # where the path says one
    folder: str  # what the files of one kind have in common, relative to the root: "annotations"
    template: str  # the path with the frame's own parts taken out
    layout: str  # "video tree", "flat" or "ICAFusion"


class AnnotationFolder(NamedTuple):
    """One set of annotations: a file for each frame, or for each frame and modality."""

    name: str  # relative to the root
    files: dict[str | None, dict[str, Path]]  # by modality (None: of both), then by image id

    @property
    def is_paired(self) -> bool:
        return set(MODALITIES) <= set(self.files)

    def frames(self) -> set[str]:
        """Returns all image ids that it has a file for."""
        return set().union(*self.files.values())

    def by_image(self) -> dict[str, Path]:
        """Returns the one file of each frame, whichever modality its path says.

        Raises:
            InputError: a frame has several; two of them are named.
        """
        files: dict[str, Path] = {}
        for image_id, path in (item for by_id in self.files.values() for item in by_id.items()):
            _put(files, image_id, path)
        return files


def recognise(path: Path, root: Path) -> FrameFile | None:
    """Says which frame a file belongs to; None where its name is that of no frame."""
    relative = path.relative_to(root).as_posix()
    match = _FILE.fullmatch(relative)
    if match is None:
        return None
    before = match["before"]
    parents = before.lower().split("/")
    named = match["outer"] or match["inner"] or next((p for p in reversed(parents) if p in _NAMES), None)
    modality = _NAMES[named.lower()] if named else None
    # The folder of an annotation set says neither the modality, for both make one set, nor the video.
    own = [part for part in before.split("/") if part and part.lower() not in _NAMES and not _PLACE.fullmatch(part)]
    folder = "/".join(own) or "."
    if match["joint"] == "/":
        layout = "video tree"
    else:
        places = [p in _NAMES for p in parents if p in _NAMES or p in ("train", "test")]
        layout = "ICAFusion" if places == [True, False] else "flat"
    template = _template(match)
    image_id = f"{match['set'].lower()}/{match['video'].upper()}/{match['frame'].upper()}"
    return FrameFile(path, image_id, modality, folder, template, layout)


def _template(match):
    inner = "{modality}/" if match["inner"] else ""
    outer = "_{modality}" if match["outer"] else ""
    before = "/".join(
        "{modality}" if part.lower() in _NAMES else "{split}" if part.lower() in ("train", "test") else part
        for part in match["before"].split("/")
    )
    if match["joint"] == "/":
        return f"{before}setNN/VNNN/{inner}INNNNN{outer}{match['suffix']}"
    return f"{before}setNN_VNNN_{inner.replace('/', '_')}INNNNN{outer}{match['suffix']}"


class ImageIndex(NamedTuple):
    """The images of a tree."""

    files: dict[str, dict[str, Path]]  # by modality, then by image id
    unused: list[str]  # a line for each file of a frame whose modality is not known or which another file has named
    layout: str  # one line


def index_images(root: Path) -> ImageIndex:
    """Finds all images of frames below a folder."""
    files: dict[str, dict[str, Path]] = {modality: {} for modality in MODALITIES}
    unused, templates = [], Counter()
    for path in walk(root, IMAGE_SUFFIXES):
        found = recognise(path, root)
        if found is None:
            continue
        if found.modality is None:
            unused.append(f"{path}: neither visible nor lwir by its path")
            continue
        first = files[found.modality].setdefault(found.image_id, path)
        if first != path:
            unused.append(f"{path}: {found.image_id} {found.modality} is {first} already")
            continue
        templates[found.layout, found.template] += 1
    shown = [f"{layout}, {template}: {count:,} files" for (layout, template), count in templates.most_common()]
    return ImageIndex(files, unused, "; ".join(shown) or "no images recognised")


def index_annotations(root: Path) -> list[AnnotationFolder]:
    """Finds all annotation sets below a folder, by name; files that belong to no frame are none."""
    return group_annotations(filter(None, (recognise(path, root) for path in walk(root, ANNOTATION_SUFFIXES))))


def group_annotations(found: Iterable[FrameFile]) -> list[AnnotationFolder]:
    """Groups annotation files into sets.

    Raises:
        InputError: two files of one set name the same frame.
    """
    folders: dict[str, dict[str | None, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for file in found:
        _put(folders[file.folder][file.modality], file.image_id, file.path)
    return [
        AnnotationFolder(name, {modality: dict(by_id) for modality, by_id in by_modality.items()})
        for name, by_modality in sorted(folders.items())
    ]


def _put(files, image_id, path):
    if (first := files.setdefault(image_id, path)) != path:
        raise InputError(f"{first} and {path} both annotate {image_id}; keep one of them")
