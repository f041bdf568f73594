"""TFDS builder of the KAIST Multispectral Pedestrian Benchmark, from a copy that you fetched yourself."""

import dataclasses
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import copies, records
from datasets.kaist.checks import Pair, check_copy
from datasets.kaist.sets import KINDS
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError

# Pairs in a file of records. TFDS keeps those of one file in memory until it is written, some 100 MB.
_SHARD = 1000
_READ_AHEAD = 64  # pairs

HOW_TO_GET_IT = """\
KAIST cannot be downloaded by this program: its official links are dead. Its licence, CC BY-NC-SA 4.0, is for research.
Copies that people use:
  https://huggingface.co/datasets/McCheng/KAIST
  https://huggingface.co/datasets/richidubey/KAIST-Multispectral-Pedestrian-Detection-Dataset (reported incomplete)
  https://github.com/SoonminHwang/rgbt-ped-detection (the official repository; its issues collect new links)
Unpack one, with its annotations, into a folder, and prepare it once:
  python -m datasets.kaist.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER. For a first look without KAIST, take the
embedded scenes: put :synthetic behind the recipe, as in --config=configs/student.py:synthetic"""


@dataclasses.dataclass(eq=False, kw_only=True)
class KaistConfig(tfds.core.BuilderConfig):
    """Everything that decides the records; the name is made from it.

    Attributes:
        annotations: which annotations are trained and tested on. ``original``: both original. ``improved``: trained on
            the original, tested on the improved ones. ``sanitized``: trained on the sanitized, tested on the improved
            ones. ``paired``: both paired, boxes of either image in the record.
        train_stride: frames from one training image to the next.
        test_stride: frames from one test image to the next.
        train_list: an image list that takes the place of the stride.
        test_list: as ``train_list``.
        train_annotations: the folder of training annotations within the copy, where several would do.
        test_annotations: as ``train_annotations``.

    Raises:
        InputError: for an option out of range, or a list that cannot be read.
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
            named = getattr(self, f"{split}_annotations")
            if named is not None:
                parts.append(f"{split}_from_{_slug(named, [named])}")
        self.name = "-".join(parts)

    def image_ids(self, split: str) -> list[str]:
        """The frames of a split, in order."""
        path = getattr(self, f"{split}_list")
        return frames.read_list(path) if path else frames.split_frames(split, getattr(self, f"{split}_stride"))


class Kaist(tfds.core.ShardBasedBuilder):
    """Registered pairs of 640x512 pixels with pedestrians, by day and by night; images are copied as they are.

    Splits ``train`` (25,086 pairs) and ``test`` (2,252), each in the order of its frames: of the test, the first 1,455
    are day (``test[:1455]``), the others night. Labels are ``person``, ``people``, ``person?``, ``cyclist`` and, by
    annotation set, ``ignore`` and ``unpaired``.

    ``info.metadata`` says what was read: ``layout``, ``annotations`` by split, ``table`` of counts, and ``warnings``
    that go with every score.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [KaistConfig(annotations=name) for name in KINDS]
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET_IT

    # Go on without test images that are missing or unreadable; every score is then printed with a warning.
    allow_incomplete: bool = False

    _checked: copies.CheckedCopy | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="KAIST Multispectral Pedestrian Benchmark.",
            features=records.features(paired=self.builder_config.annotations == "paired"),
            homepage="https://soonminhwang.github.io/rgbt-ped-detection/",
            citation="Hwang, Park, Kim, Choi, Kweon: Multispectral Pedestrian Detection. CVPR 2015.",
            license="CC BY-NC-SA 4.0",
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepares the data set, as every builder of TFDS; see there for the arguments.

        The copy in ``manual_dir`` is read and checked in full, and a table of what was found printed, before anything
        of the data set is written. What was found amiss stands in full in a file beside the data set.

        Raises:
            InputError: there is no manual folder, something of the test split is missing, or annotations are not what
                the config asks for.
        """
        with copies.unprepared(self, download_config, HOW_TO_GET_IT) as copy:
            if copy:
                self._checked = check_copy(copy, self.builder_config, self.allow_incomplete)
                super().download_and_prepare(download_config=download_config, **options)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Any]]:
        self.info.metadata.update(self._checked.metadata)
        return copies.shards(self._checked.kept, _SHARD, _records, "pairs")


def _records(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    for pair, visible, lwir in _read_ahead(pairs):
        yield {
            "image_id": pair.image_id,
            "visible": io.BytesIO(visible),
            "lwir": io.BytesIO(lwir),
            "condition": frames.condition(pair.image_id),
            "objects": records.objects(pair.objects),
            **({} if pair.objects_lwir is None else {"objects_lwir": records.objects(pair.objects_lwir)}),
        }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False, **options: Any) -> Kaist:
    """The builder of a config that its options describe.

    Args:
        data_dir: where prepared data lies; None for TFDS's default.
        allow_incomplete: whether missing test images are a warning instead of an error.
        **options: attributes of KaistConfig.

    Raises:
        InputError: an option out of range.
        TypeError: an option that is not there.
    """
    config = KaistConfig(**options)
    # TFDS wants its own object where a config is one of those that it lists.
    config = next((one for one in Kaist.BUILDER_CONFIGS if one.name == config.name), config)
    builder = Kaist(config=config, data_dir=data_dir, file_format="array_record")
    builder.allow_incomplete = allow_incomplete
    return builder


def _read_ahead(pairs):
    """Each pair with the bytes of its images, read by threads a little ahead of the writer."""

    def read(pair):
        return pair, pair.visible.read_bytes(), pair.lwir.read_bytes()

    with ThreadPoolExecutor() as threads:
        waiting = deque()
        for pair in pairs:
            waiting.append(threads.submit(read, pair))
            if len(waiting) > _READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _slug(text: str, content: Sequence[str]) -> str:
    """A part of a folder's name that is another one for another content."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    checksum = zlib.crc32("\n".join(content).encode())
    return f"{readable}_{checksum:08x}"
