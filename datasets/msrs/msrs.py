"""MSRS: 1,444 registered RGB-thermal pairs of road scenes, 640x480 pixels, day and night, with person boxes.

The images are from the repository Linfeng-Tang/MSRS (Tang et al. 2022), the boxes from the repository
Lele-3/MSRS-detection-label, which has three label sets: drawn on the visible, the infrared and the fused images.
"""

import contextlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import requests
import tensorflow_datasets as tfds

from datasets import records
from datasets.preparation import preparation_lock
from dcrl_jax import decoding
from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

CLASSES = ("person", "bicycle", "car")
SPLITS = ("train", "test")
LABEL_SETS = ("fusion", "visible", "infrared")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

# HEAD is the default branch.
IMAGES_URL = "https://github.com/Linfeng-Tang/MSRS/archive/HEAD.zip"
LABELS_URL = "https://github.com/Lele-3/MSRS-detection-label/archive/HEAD.zip"

LAYOUT = """\
Expected layout of the folder (ID is a number and D for day or N for night, as in 00004N):
  {train,test}/vi/ID.{png,jpg}, {train,test}/ir/ID.{png,jpg}    from https://github.com/Linfeng-Tang/MSRS
  labels/{fusion,visible,infrared}/{train,test}/ID.txt          from https://github.com/Lele-3/MSRS-detection-label"""

_ID = re.compile(r"\d+[DN]")


class Pair(NamedTuple):
    """The checked files of one record, and its annotations in pixels."""

    image_id: str
    visible: Path
    lwir: Path
    annotations: list[Annotation]

    @property
    def condition(self) -> str:
        """``day`` or ``night``."""
        return "night" if self.image_id.endswith("N") else "day"


class Msrs(tfds.core.GeneratorBasedBuilder):
    """MSRS with the boxes of one of its three label sets; the builder config is the label set.

    ``fusion`` (default) has the objects that either camera shows, ``visible`` and ``infrared`` those that one camera
    shows: by night, most people are annotated only on the infrared images. Labels are ``person``, ``bicycle`` and
    ``car``. Occlusion is not annotated (0) and nothing is ignored.

    The files are read from ``DownloadConfig(manual_dir=...)`` if given, else downloaded from two public repositories.
    """

    builder_config: tfds.core.BuilderConfig
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"Boxes annotated on the {image} images.")
        for name, image in zip(LABEL_SETS, ("fused", "visible", "infrared"), strict=True)
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "fusion"
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT

    _checked_pairs: dict[str, list[Pair]] | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Registered RGB-thermal pairs of road scenes by day and night with boxes of road users.",
            features=records.features(),
            homepage="https://github.com/Linfeng-Tang/MSRS",
            citation="Tang, Yuan, Zhang, Jiang, Ma: PIAFusion. Information Fusion 83-84, 2022.",
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepare the data set unless it is prepared; for the arguments see TFDS.

        All files of a manual folder are checked before anything is written or overwritten.

        Raises:
            InputError: files are missing or unreadable, or labels are malformed (one message counts all problems); the
                folder has another layout; the download failed; or another process is preparing.
        """
        download_config = download_config or tfds.download.DownloadConfig()
        overwrites = download_config.download_mode.overwrite_dataset
        if download_config.manual_dir is not None and (overwrites or not self.data_path.exists()):
            root = Path(download_config.manual_dir).expanduser()
            self._checked_pairs = find_pairs(root, root / "labels", self.builder_config.name)
        # One lock for all label sets: they unpack the same archives into the same folder.
        with preparation_lock(self, Path(self.data_path).parents[1], overwrites) as needs_preparing:
            if needs_preparing:
                super().download_and_prepare(download_config=download_config, **options)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = self._checked_pairs or download_pairs(dl_manager, self.builder_config.name)
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        for pair in pairs:
            yield (
                pair.image_id,
                {
                    "image_id": pair.image_id,
                    "visible": os.fspath(pair.visible),
                    "lwir": os.fspath(pair.lwir),
                    "condition": pair.condition,
                    "objects": records.objects(pair.annotations),
                },
            )


def open_builder(data_dir: str | None = None, labels: str = "fusion") -> Msrs:
    """Return the builder of one label set.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        labels: one of ``LABEL_SETS``.

    Raises:
        InputError: there is no such label set.
    """
    if labels not in LABEL_SETS:
        raise InputError(f"msrs: labels is {labels!r}; it must be one of: {', '.join(LABEL_SETS)}.")
    return Msrs(config=labels, data_dir=data_dir, file_format="array_record")


def download_pairs(dl_manager: tfds.download.DownloadManager, label_set: str) -> dict[str, list[Pair]]:
    """Download both repositories and return the pairs of every split.

    An image without a label file has no objects here; in a manual folder, every image needs a label file.

    Raises:
        InputError: the download failed, or its content is not as expected.
    """
    urls = {"images": IMAGES_URL, "labels": LABELS_URL}
    try:
        for url in urls.values():
            _check_is_reachable(url, Path(dl_manager.download_dir))
        archives = cast(dict[str, Any], dl_manager.download(urls))
    except (OSError, tfds.download.DownloadError) as error:
        raise InputError(
            f"MSRS: {IMAGES_URL} and {LABELS_URL} could not be downloaded ({error}). Connect to the network, or get "
            f"the two repositories elsewhere and pass their folder with DownloadConfig(manual_dir=...).\n{LAYOUT}"
        ) from error
    images = _parent_of(_extract(Path(archives["images"])), Path("train", "vi"))
    labels = _parent_of(_extract(Path(archives["labels"])), Path(label_set, "train"))
    return find_pairs(images, labels, label_set, absent_label_is_empty=True)


def find_pairs(
    images: Path, labels: Path, label_set: str, absent_label_is_empty: bool = False
) -> dict[str, list[Pair]]:
    """Find and check all files of the data set; write nothing.

    Args:
        images: folder that contains ``{train,test}/{vi,ir}``.
        labels: folder that contains ``{fusion,visible,infrared}/{train,test}``.
        label_set: one of ``LABEL_SETS``.
        absent_label_is_empty: whether an image without a label file has no objects, instead of being an error.

    Returns:
        The pairs of every split, sorted by id.

    Raises:
        InputError: folders or files are missing, or files are broken; the message lists the first twenty.
    """
    heading = f"MSRS in {images}"
    folders = [images / split / modality for split in SPLITS for modality in ("vi", "ir")]
    folders += [labels / label_set / split for split in SPLITS]
    raise_if_any([f"{folder}: no such folder" for folder in folders if not folder.is_dir()], heading, LAYOUT)

    splits, problems = {}, []
    for split in SPLITS:
        label_folder = labels / label_set / split
        splits[split], split_problems = _find_split(images / split, label_folder, absent_label_is_empty)
        problems += split_problems
        if not splits[split] and not split_problems:
            problems.append(f"{images / split}: no images")
    raise_if_any(problems, heading, f"Replace or remove these files.\n{LAYOUT}")
    return splits


def _find_split(images: Path, labels: Path, absent_label_is_empty: bool) -> tuple[list[Pair], list[str]]:
    """Return the usable pairs of a split, sorted by id, and the problems of all others."""
    files = {modality: _files_by_id(images / modality, IMAGE_SUFFIXES) for modality in ("vi", "ir")}
    texts = _files_by_id(labels, (".txt",))
    # Other text files are skipped: label tools put a classes.txt among the labels.
    ids = {image_id for image_id in texts if _ID.fullmatch(image_id)}.union(*files.values())

    def check(image_id: str) -> tuple[Pair | None, list[str]]:
        if not _ID.fullmatch(image_id):
            return None, [f"{images}/*/{image_id}: the name is not a number and D (day) or N (night)"]
        problems, paths, sizes = [], {}, set()
        for modality, by_id in files.items():
            path, problem = _only(by_id.get(image_id, []), images / modality / image_id, "image")
            size, problem = (None, problem) if path is None else _image_size(path)
            paths[modality] = path
            sizes.add(size)
            problems += [problem] if problem else []
        if not problems and len(sizes) > 1:
            shapes = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
            problems.append(f"{images}/{{vi,ir}}/{image_id}: the sizes of the pair differ, {shapes} pixels")
        if image_id not in texts and absent_label_is_empty:
            text = ""
        else:
            path, problem = _only(texts.get(image_id, []), labels / f"{image_id}.txt", "label file")
            text, problem = ("", problem) if path is None else _label_text(path)
            problems += [problem] if problem else []
        # A broken image has no size. The lines of its labels are checked all the same.
        width, height = next(iter(sizes - {None}), (1, 1))
        annotations, line_problems = yolo.parse(text, width, height, CLASSES, str(labels / f"{image_id}.txt"))
        problems += line_problems
        return None if problems else Pair(image_id, paths["vi"], paths["ir"], annotations), problems

    with ThreadPoolExecutor() as threads:
        checked = list(threads.map(check, sorted(ids)))
    return [pair for pair, _ in checked if pair], [problem for _, problems in checked for problem in problems]


def _files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return the files of a folder by name without suffix; hidden files are skipped."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files


def _only(paths: list[Path], expected: Path, kind: str) -> tuple[Path | None, str]:
    """Return the only path and "", or None and the problem."""
    if not paths:
        return None, f"{expected}: the {kind} is missing"
    if len(paths) > 1:
        return None, f"{expected}: {len(paths)} files with this name, {', '.join(path.name for path in paths)}"
    return paths[0], ""


def _image_size(path: Path) -> tuple[tuple[int, int] | None, str]:
    """Return the width and height of a complete, upright image and "", or None and the problem."""
    try:
        encoded = path.read_bytes()
        image, _ = decoding.decode(encoded, str(path))
    except OSError as error:
        return None, f"{path}: cannot be read ({error.strerror})"
    except InputError:
        return None, f"{path}: not a complete image ({len(encoded)} bytes)"
    return (image.shape[1], image.shape[0]), ""


def _label_text(path: Path) -> tuple[str, str]:
    """Return the text of a label file and "", or "" and the problem."""
    try:
        return read_text(path), ""
    except InputError as error:
        return "", str(error)


def _check_is_reachable(url: str, download_dir: Path) -> None:
    """Raise OSError if the host cannot be reached; TFDS would retry for minutes. Skip a file that is downloaded."""
    if any(url in info.read_text() for info in download_dir.glob("*/*.INFO")):
        return
    # The download itself reports a bad status or certificate.
    with contextlib.suppress(requests.exceptions.SSLError):
        requests.head(url, timeout=20)


def _extract(archive: Path) -> Path:
    """Unpack a zip file beside itself and return the folder; TFDS's own extraction needs TensorFlow."""
    folder = archive.with_name(f"{archive.name}.extracted")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"MSRS: the download {archive} is not a zip archive ({error}). Delete it and retry."
        ) from error
    return folder


def _parent_of(folder: Path, inner: Path) -> Path:
    """Return the folder that contains ``inner``, at most two levels below ``folder``; else ``folder`` itself.

    The archives have a top folder that is named after the branch.
    """
    for candidate in (folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        if (candidate / inner).is_dir():
            return candidate
    return folder
