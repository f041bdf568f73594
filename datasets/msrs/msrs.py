"""MSRS: 1,444 registered RGB-thermal pairs of road scenes, 640x480 pixels, day and night, with person boxes.

The images are from the repository Linfeng-Tang/MSRS (Tang et al. 2022), the boxes from the repository
Lele-3/MSRS-detection-label, which has three label sets: drawn on the visible, the infrared and the fused images.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import requests
import tensorflow_datasets as tfds

from datasets import checks, records
from datasets.archives import unpack
from datasets.preparation import Source, check_source, named_folder, preparation_lock, read_contents, record_source
from dcrl_jax import decoding
from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular

CLASSES = ("person", "bicycle", "car")
SPLITS = ("train", "test")
MODALITY_FOLDERS = ("vi", "ir")
LABEL_SETS = ("fusion", "visible", "infrared")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# What an image without a label file is: an image without objects, or a mistake.
MISSING_LABELS = ("background", "error")
BACKGROUND = "taken as background"
NO_LABELS = f"image without a label file, {BACKGROUND}"
UNUSED = "text file that is not used"

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


class CheckedFiles(NamedTuple):
    """All files of the data set."""

    pairs: dict[str, list[Pair]]  # by split, sorted by id
    findings: list[Finding]  # what is not as expected but no reason to refuse the files
    source: Source


class _Metadata(tfds.core.MetadataDict):
    """Metadata that may be missing: data sets that earlier versions prepared have none."""

    def load_metadata(self, data_dir):
        with contextlib.suppress(FileNotFoundError):
            super().load_metadata(data_dir)


class Msrs(tfds.core.GeneratorBasedBuilder):
    """MSRS with the boxes of one of its three label sets; the builder config is the label set.

    ``fusion`` (default) has the objects that either camera shows, ``visible`` and ``infrared`` those that one camera
    shows: by night, most people are annotated only on the infrared images. Labels are ``person``, ``bicycle`` and
    ``car``. Occlusion is not annotated (0) and nothing is ignored.

    The files are read from ``DownloadConfig(manual_dir=...)`` if given, else downloaded from two public repositories.
    ``info.metadata`` has the ``warnings`` to print with every score, and what the data set was ``made_from``.
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

    missing_labels: str = "background"  # one of MISSING_LABELS

    _checked: CheckedFiles | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Registered RGB-thermal pairs of road scenes by day and night with boxes of road users.",
            features=records.features(),
            homepage="https://github.com/Linfeng-Tang/MSRS",
            citation="Tang, Yuan, Zhang, Jiang, Ma: PIAFusion. Information Fusion 83-84, 2022.",
            metadata=_Metadata(),
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepare the data set unless it is prepared; for the arguments see TFDS.

        All files of a manual folder are checked before anything is written or overwritten. If the data set is prepared,
        a manual folder must hold what the data set was made from; see ``preparation.check_source``.

        Raises:
            InputError: files are missing or unreadable, or labels are malformed (one message counts all problems); the
                folder has another layout, or other files than those that the data set was made from; images lack their
                label files, and that is not allowed; the download failed; or another process is preparing.
        """
        download_config = download_config or tfds.download.DownloadConfig()
        overwrites = download_config.download_mode.overwrite_dataset
        root = named_folder(self, download_config)
        label_set = self.builder_config.name
        if root and (overwrites or not self.data_path.exists()):
            self._checked = check_files(root, root / "labels", label_set, self.missing_labels)
        # One lock for all label sets: they unpack the same archives into the same folder.
        with preparation_lock(self, Path(self.data_path).parents[1], overwrites) as needs_preparing:
            if needs_preparing:
                super().download_and_prepare(download_config=download_config, **options)
                return
        if root:
            check_source(self, root, source_files(root, root / "labels", label_set))
        warnings = [text for text in (self.info.metadata or {}).get("warnings", ()) if BACKGROUND in text]
        if warnings and self.missing_labels == "error":
            raise InputError(
                f"missing_labels is 'error', but {self.data_dir} was prepared with 'background':\n  "
                + "\n  ".join(warnings)
                + "\nAdd the label files, and delete this folder or give another one for prepared data (data_dir)."
            )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        checked = self._checked or download_files(dl_manager, self.builder_config.name, self.missing_labels)
        findings = Path(self.data_dir_root) / self.name / self.builder_config.name / "findings.txt"
        findings.unlink(missing_ok=True)
        checks.report_findings(checked.findings, findings)
        metadata: Any = self.info.metadata  # a MetadataDict
        metadata["warnings"] = _warnings(checked)
        for warning in metadata["warnings"]:
            print(f"warning: {warning}", flush=True)
        record_source(self, checked.source)
        return {split: self._generate_examples(pairs) for split, pairs in checked.pairs.items()}

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


def open_builder(data_dir: str | None = None, labels: str = "fusion", missing_labels: str = "background") -> Msrs:
    """Return the builder of one label set.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        labels: one of ``LABEL_SETS``.
        missing_labels: one of ``MISSING_LABELS``: whether an image without a label file is an image without objects,
            which is counted in a warning with every score, or an error.

    Raises:
        InputError: there is no such label set, or ``missing_labels`` is another word.
    """
    for name, value, known in (("labels", labels, LABEL_SETS), ("missing_labels", missing_labels, MISSING_LABELS)):
        if value not in known:
            raise InputError(f"msrs: {name} is {value!r}; it must be one of: {', '.join(known)}.")
    builder = Msrs(config=labels, data_dir=data_dir, file_format="array_record")
    builder.missing_labels = missing_labels
    return builder


def download_files(dl_manager: tfds.download.DownloadManager, label_set: str, missing_labels: str) -> CheckedFiles:
    """Download both repositories and check their files as those of a manual folder.

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
    checked = check_files(images, labels, label_set, missing_labels)
    return checked._replace(source=checked.source._replace(made_from=f"{IMAGES_URL} and {LABELS_URL}"))


def source_files(images: Path, labels: Path, label_set: str) -> dict[str, Path]:
    """Return the files that can change the records, by their names in the expected layout.

    A split without images is left out.

    Args:
        images: folder that contains ``{train,test}/{vi,ir}``.
        labels: folder that contains ``{fusion,visible,infrared}/{train,test}``.
        label_set: one of ``LABEL_SETS``.
    """
    files = {}
    for split in SPLITS:
        by_folder = {f"{split}/{modality}": images / split / modality for modality in MODALITY_FOLDERS}
        found = [(name, path) for name, folder in by_folder.items() for path in _files(folder, IMAGE_SUFFIXES)]
        texts = [path for path in _files(labels / label_set / split, (".txt",)) if _ID.fullmatch(path.stem)]
        found += [(f"labels/{label_set}/{split}", path) for path in texts if found]
        files |= {f"{name}/{path.name}": path for name, path in found}
    return files


def check_files(images: Path, labels: Path, label_set: str, missing_labels: str = "background") -> CheckedFiles:
    """Find and check all files of the data set; write nothing.

    Files without any training image have no training split.

    Args:
        images: folder that contains ``{train,test}/{vi,ir}``.
        labels: folder that contains ``{fusion,visible,infrared}/{train,test}``.
        label_set: one of ``LABEL_SETS``.
        missing_labels: one of ``MISSING_LABELS``. A split without any label file is an error in any case.

    Raises:
        InputError: folders or files are missing, or files are broken; the message lists the first twenty.
    """
    heading = f"MSRS in {images}"
    paths = source_files(images, labels, label_set)
    splits = SPLITS
    if not any(name.startswith("train/") for name in paths) and any(name.startswith("test/") for name in paths):
        print(checks.NO_TRAINING_IMAGE, flush=True)
        splits = ("test",)
    folders = [images / split / modality for split in splits for modality in MODALITY_FOLDERS]
    folders += [labels / label_set / split for split in splits]
    raise_if_any([f"{folder}: no such folder" for folder in folders if not folder.is_dir()], heading, LAYOUT)

    source = Source(os.path.abspath(images), read_contents(paths, images))
    pairs, problems, findings = {}, [], []
    for split in splits:
        label_folder = labels / label_set / split
        pairs[split], split_problems, split_findings = _check_split(images / split, label_folder, missing_labels)
        problems += split_problems
        findings += [Finding(kind, f"{split}: {text}") for kind, text in split_findings]
        if not pairs[split] and not split_problems:
            problems.append(f"{images / split}: no images")
    remedy = "Replace or remove these files."
    if missing_labels == "error":
        remedy += " With the option missing_labels='background', an image without a label file has no objects."
    raise_if_any(problems, heading, f"{remedy}\n{LAYOUT}")
    return CheckedFiles(pairs, findings, source)


def _warnings(checked: CheckedFiles) -> list[str]:
    """Return one line for each split that has images without a label file."""
    warnings = []
    for split, pairs in checked.pairs.items():
        count = sum(kind == NO_LABELS and text.startswith(f"{split}: ") for kind, text in checked.findings)
        if count:
            warnings.append(f"{split} split: {count:,} of {len(pairs):,} images have no label file, {BACKGROUND}")
    return warnings


def _check_split(images: Path, labels: Path, missing_labels: str) -> tuple[list[Pair], list[str], list[Finding]]:
    """Return the usable pairs of a split, sorted by id, the problems of all others, and the findings."""
    files = {modality: _files_by_id(images / modality, IMAGE_SUFFIXES) for modality in MODALITY_FOLDERS}
    all_texts = _files_by_id(labels, (".txt",))
    texts = {image_id: paths for image_id, paths in all_texts.items() if _ID.fullmatch(image_id)}
    image_ids = set().union(*files.values())
    if image_ids and texts.keys().isdisjoint(image_ids):
        return [], [f"{labels}: no label file of any image in {images}"], []
    # Label tools put a list of the classes among the labels.
    unused = [path for name, paths in all_texts.items() if name not in texts and name != "classes" for path in paths]
    findings = [Finding(UNUSED, os.fspath(path)) for path in unused]

    def check(image_id: str) -> tuple[Pair | None, list[str], list[Finding]]:
        if not _ID.fullmatch(image_id):
            return None, [f"{images}/*/{image_id}: the name is not a number and D (day) or N (night)"], []
        problems, notes, paths, sizes = [], [], {}, set()
        for modality, by_id in files.items():
            path, problem = _only(by_id.get(image_id, []), images / modality / image_id, "image")
            size, problem, image_notes = (None, problem, []) if path is None else _check_image(path, modality)
            paths[modality] = path
            sizes.add(size)
            problems += [problem] if problem else []
            notes += image_notes
        if not problems and len(sizes) > 1:
            shapes = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
            problems.append(f"{images}/{{vi,ir}}/{image_id}: the sizes of the pair differ, {shapes} pixels")
        label_path = labels / f"{image_id}.txt"
        if image_id not in texts and missing_labels == "background":
            text = ""
            notes.append(Finding(NO_LABELS, os.fspath(label_path)))
        else:
            path, problem = _only(texts.get(image_id, []), label_path, "label file")
            text, problem = ("", problem) if path is None else _label_text(path)
            problems += [problem] if problem else []
        # A broken image has no size. The lines of its labels are checked all the same.
        width, height = next(iter(sizes - {None}), (1, 1))
        parsed = yolo.parse(text, (width, height), CLASSES, str(label_path))
        # The published labels have no box beyond the image or of no size, so that one shows a wrong file.
        problems += [*parsed.problems, *(finding.text for finding in parsed.findings)]
        annotations, repeats = drop_repeats(parsed.annotations, image_id)
        pair = None if problems else Pair(image_id, paths["vi"], paths["ir"], annotations)
        return pair, problems, notes + repeats

    with ThreadPoolExecutor() as threads:
        checked = list(threads.map(check, sorted(image_ids.union(texts))))
    return (
        [pair for pair, _, _ in checked if pair],
        [problem for _, problems, _ in checked for problem in problems],
        findings + [note for _, _, notes in checked for note in notes],
    )


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the sorted files of a folder with one of the suffixes; hidden files are skipped. No folder, no files."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def _files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return the files of a folder by name without suffix; hidden files are skipped."""
    files: dict[str, list[Path]] = {}
    for path in _files(folder, suffixes):
        files.setdefault(path.stem, []).append(path)
    return files


def _only(paths: list[Path], expected: Path, kind: str) -> tuple[Path | None, str]:
    """Return the only path and "", or None and the problem."""
    if not paths:
        return None, f"{expected}: the {kind} is missing"
    if len(paths) > 1:
        return None, f"{expected}: {len(paths)} files with this name, {', '.join(path.name for path in paths)}"
    return paths[0], ""


def _check_image(path: Path, modality: str) -> tuple[tuple[int, int] | None, str, list[Finding]]:
    """Return an image's upright width and height, or None and the problem, and what training does not take as it is."""
    try:
        with open_regular(path) as file:
            encoded = file.read()
        image, dtype = decoding.decode(encoded, str(path))
    except OSError as error:
        return None, f"{path}: cannot be read ({error.strerror})", []
    except InputError as error:
        return None, str(error), []
    size = image.shape[1], image.shape[0]
    try:
        if modality == "vi":
            decoding.check_visible(image, dtype, str(path))
        else:
            decoding.check_lwir(image, dtype, str(path), size[::-1], decoding.ANY_RULES)
    except InputError as error:
        return size, "", [Finding(checks.REFUSED, str(error))]
    is_wide = modality == "ir" and dtype != "uint8"
    return size, "", [Finding(checks.MORE_BITS, f"{path}: {dtype}")] if is_wide else []


def _label_text(path: Path) -> tuple[str, str]:
    """Return the text of a label file and "", or "" and the problem."""
    try:
        return read_text(path), ""
    except InputError as error:
        return "", str(error)


def _check_is_reachable(url: str, download_dir: Path) -> None:
    """Raise OSError if the host cannot be reached; TFDS would retry for minutes. Skip a file that is downloaded."""
    if any(url in info.read_text(encoding="utf-8") for info in download_dir.glob("*/*.INFO")):
        return
    # The download itself reports a bad status or certificate.
    with contextlib.suppress(requests.exceptions.SSLError):
        requests.head(url, timeout=20)


def _extract(archive: Path) -> Path:
    """Unpack a zip file beside itself and return the folder; TFDS's own extraction needs TensorFlow."""
    folder = archive.with_name(f"{archive.name}.extracted")
    unpack(archive, folder)
    return folder


def _parent_of(folder: Path, inner: Path) -> Path:
    """Return the folder that contains ``inner``, at most two levels below ``folder``; else ``folder`` itself.

    The archives have a top folder that is named after the branch.
    """
    for candidate in (folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        if (candidate / inner).is_dir():
            return candidate
    return folder
