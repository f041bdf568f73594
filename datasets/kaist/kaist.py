"""TFDS builder of the KAIST Multispectral Pedestrian Benchmark from the user's copy."""

import dataclasses
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import records
from datasets.fetched import CheckedCopy, Copy, FetchedBuilder, read_ahead
from datasets.kaist import checks
from datasets.kaist.checks import Pair
from datasets.kaist.sets import KINDS
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError


@dataclasses.dataclass(eq=False, kw_only=True)
class KaistConfig(tfds.core.BuilderConfig):
    """The options that determine the records; the config's name is made from them.

    Attributes:
        annotations: the training and test annotations. ``original``: both original. ``improved``: trained on the
            original, tested on the improved ones. ``sanitized``: trained on the sanitized, tested on the improved ones.
            ``paired``: both paired, with the boxes of both images in the record.
        train_stride: frames from one training image to the next.
        test_stride: frames from one test image to the next.
        train_list: an image list instead of the stride.
        test_list: an image list instead of the stride.
        train_annotations: the folder of the training annotations within the copy, if several match.
        test_annotations: the folder of the test annotations within the copy, if several match.

    Raises:
        InputError: an option is out of range, or a list cannot be read.
    """

    name: str = dataclasses.field(default="", init=False)
    annotations: str = "original"
    train_stride: int = frames.STRIDES["train"]
    test_stride: int = frames.STRIDES["test"]
    train_list: str | None = None
    test_list: str | None = None
    train_annotations: str | None = None
    test_annotations: str | None = None

    def __post_init__(self):
        if self.annotations not in KINDS:
            raise InputError(f"kaist: annotations is {self.annotations!r}; it must be one of: {', '.join(KINDS)}.")
        parts = [self.annotations]
        for split in frames.SPLITS:
            stride, path = getattr(self, f"{split}_stride"), getattr(self, f"{split}_list")
            if not isinstance(stride, int) or isinstance(stride, bool) or stride < 1:
                raise InputError(f"kaist: {split}_stride must be a whole number of at least 1, not {stride!r}.")
            if path is not None:
                parts.append(f"{split}_list_{_slug(Path(path).stem, frames.read_list(path))}")
            elif stride != frames.STRIDES[split]:
                if not frames.split_frames(split, stride):
                    raise InputError(f"kaist: {split}_stride is {stride}; no video has as many frames.")
                parts.append(f"{split}_stride_{stride}")
            folder = getattr(self, f"{split}_annotations")
            if folder is not None:
                parts.append(f"{split}_from_{_slug(folder, [folder])}")
        self.name = "-".join(parts)

    def image_ids(self, split: str) -> list[str]:
        """Return the frames of a split, in order."""
        path = getattr(self, f"{split}_list")
        return frames.read_list(path) if path else frames.split_frames(split, getattr(self, f"{split}_stride"))


class Kaist(FetchedBuilder):
    """Registered pairs of 640x512 pixels with pedestrians, by day and night.

    Splits ``train`` (25,086 pairs) and ``test`` (2,252), each in the order of its frames. The first 1,455 test pairs
    are day (``test[:1455]``), the others night. Labels are ``person``, ``people``, ``person?``, ``cyclist`` and, in
    some annotation sets, ``ignore`` and ``unpaired``.

    ``info.metadata`` also describes the ``layout`` of the copy and the ``annotations`` of each split.
    """

    builder_config: KaistConfig
    SHARD_RECORDS = 1000  # about 100 MB
    UNIT = "pairs"
    BUILDER_CONFIGS: ClassVar = [KaistConfig(annotations=name) for name in KINDS]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
KAIST cannot be downloaded by this program: its official links are dead. Its licence, CC BY-NC-SA 4.0, is for research.
Copies that people use:
  https://huggingface.co/datasets/McCheng/KAIST
  https://huggingface.co/datasets/richidubey/KAIST-Multispectral-Pedestrian-Detection-Dataset (reported incomplete)
  https://github.com/SoonminHwang/rgbt-ped-detection (the official repository; its issues collect new links)
Unpack one, with its annotations, into a folder, and prepare it once:
  python -m datasets.kaist.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER. For a first look without KAIST, use the embedded
scenes: add :synthetic to the recipe, as in --config=configs/student.py:synthetic"""

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="KAIST Multispectral Pedestrian Benchmark.",
            features=records.features(paired=self.builder_config.annotations == "paired"),
            homepage="https://soonminhwang.github.io/rgbt-ped-detection/",
            citation="Hwang, Park, Kim, Choi, Kweon: Multispectral Pedestrian Detection. CVPR 2015.",
            license="CC BY-NC-SA 4.0",
            metadata=tfds.core.MetadataDict(),
        )

    def source_files(self, root: Path) -> Mapping[str, Path]:
        """Return the images and annotations of the config's frames; see ``checks.source_files``."""
        return checks.source_files(root, self.builder_config)

    def check_copy(self, copy: Copy) -> CheckedCopy:
        """Return the usable part of the copy; see ``checks.check_copy``."""
        return checks.check_copy(copy, self.builder_config, self.allow_incomplete)

    def make_records(self, items: Sequence[Pair]) -> Iterator[dict[str, Any]]:
        """Yield the records of checked pairs, in order."""
        for pair, (visible, lwir) in read_ahead(items, _read_images):
            yield {
                "image_id": pair.image_id,
                "visible": io.BytesIO(visible),
                "lwir": io.BytesIO(lwir),
                "condition": frames.condition(pair.image_id),
                "objects": records.objects(pair.objects),
                **({} if pair.objects_lwir is None else {"objects_lwir": records.objects(pair.objects_lwir)}),
            }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False, **options: Any) -> Kaist:
    """Return the builder of a config.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        allow_incomplete: whether missing test images are a warning instead of an error.
        **options: attributes of KaistConfig.

    Raises:
        InputError: an option is out of range.
        TypeError: there is no such option.
    """
    return Kaist.open(data_dir, allow_incomplete, KaistConfig(**options))


def _read_images(pair: Pair) -> tuple[bytes, bytes]:
    return pair.visible.read_bytes(), pair.lwir.read_bytes()


def _slug(text: str, content: Sequence[str]) -> str:
    """Return ``text`` as part of a folder's name, with a checksum of ``content``."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    checksum = zlib.crc32("\n".join(content).encode())
    return f"{readable}_{checksum:08x}"
