"""TFDS builder of Caltech Pedestrians, from the original archives: .seq videos, and .vbb or the new annotations."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import copies, records
from datasets.caltech_pedestrian.checks import Frame, check_copy
from dcrl_jax.annotations.caltech import seq
from dcrl_jax.annotations.caltech.truths import KINDS
from dcrl_jax.errors import InputError

# Images in a file of records. TFDS keeps those of one file in memory until it is written, some 40 MB.
_SHARD = 1000

HOW_TO_GET_IT = """\
Caltech Pedestrians cannot be downloaded by this program. Get the videos of sets 0 to 10 and their annotations from
  https://data.caltech.edu/records/f6rph-90m20
and unpack them, and the archives within them, into one folder: set00/V000.seq and set00/V000.vbb to set10/V011.seq
and set10/V011.vbb, in whatever folders above. The new annotations (Zhang and others, How Far are We from Solving
Pedestrian Detection?, CVPR 2016) are text files such as set06_V000_I00029.jpg.txt, in a folder of their own within it.
Prepare it once:
  python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER."""


@dataclasses.dataclass(eq=False, kw_only=True)
class CaltechConfig(tfds.core.BuilderConfig):
    """Everything that decides the records; the name is made from it.

    Attributes:
        annotations: ``original``, the .vbb files, or ``new``, for training and test.
        train_skip: frames from one training image to the next: 3, which is called 10x and which ``configs/finetune.py``
            trains on, or 30 as in the test.

    Raises:
        InputError: for an option out of range.
    """

    name: str = dataclasses.field(default="", init=False)
    annotations: str = "original"
    train_skip: int = 3

    def __post_init__(self):
        if self.annotations not in KINDS:
            raise InputError(
                f"caltech_pedestrian: annotations is {self.annotations!r}; it must be one of: {', '.join(KINDS)}."
            )
        if not isinstance(self.train_skip, int) or isinstance(self.train_skip, bool) or self.train_skip < 1:
            raise InputError(
                f"caltech_pedestrian: train_skip must be a whole number of at least 1, not {self.train_skip!r}."
            )
        self.name = f"{self.annotations}-train_skip_{self.train_skip}"


class CaltechPedestrian(tfds.core.ShardBasedBuilder):
    """RGB images of 640x480 pixels, all by day; the JPEG files within the videos are copied as they are.

    Splits ``train`` (sets 0 to 5; 42,782 images) and ``test`` (4,024), each in the order of its frames. Labels are
    ``person``, ``people``, ``person?``, ``ignore``, and others that the benchmark leaves out. Occlusion is by the
    visible share: none, partial (at least 65 %), heavy.

    ``info.metadata`` says what was read: ``annotations`` by split, ``table`` of counts, and ``warnings`` that go with
    every score.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [CaltechConfig(annotations=name) for name in KINDS]
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET_IT

    # Go on without test images that are missing or unreadable; every score is then printed with a warning.
    allow_incomplete: bool = False

    _checked: copies.CheckedCopy | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Caltech Pedestrian Detection Benchmark.",
            features=records.features(lwir=False),
            homepage="https://data.caltech.edu/records/f6rph-90m20",
            citation="Dollár, Wojek, Schiele, Perona: Pedestrian Detection: An Evaluation of the State of the Art. "
            "PAMI 34(4), 2012.",
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepares the data set, as every builder of TFDS; see there for the arguments.

        The copy in ``manual_dir`` is read and checked in full, and a table of what was found printed, before anything
        of the data set is written. What was found amiss stands in full in a file beside the data set.

        Raises:
            InputError: there is no manual folder, or something of the test split is missing or unreadable.
        """
        with copies.unprepared(self, download_config, HOW_TO_GET_IT) as copy:
            if copy:
                self._checked = check_copy(copy, self.builder_config, self.allow_incomplete)
                super().download_and_prepare(download_config=download_config, **options)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Any]]:
        self.info.metadata.update(self._checked.metadata)
        return copies.shards(self._checked.kept, _SHARD, _records, "images")


def _records(found: Sequence[Frame]) -> Iterator[dict[str, Any]]:
    for frame in found:
        yield {
            "image_id": frame.image_id,
            "visible": io.BytesIO(seq.read_frame(frame.video, frame.number)),
            "condition": "day",
            "objects": records.objects(frame.objects),
        }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False, **options: Any) -> CaltechPedestrian:
    """The builder of a config that its options describe.

    Args:
        data_dir: where prepared data lies; None for TFDS's default.
        allow_incomplete: whether missing test images are a warning instead of an error.
        **options: attributes of CaltechConfig.

    Raises:
        InputError: an option out of range.
        TypeError: an option that is not there.
    """
    config = CaltechConfig(**options)
    # TFDS wants its own object where a config is one of those that it lists.
    config = next((one for one in CaltechPedestrian.BUILDER_CONFIGS if one.name == config.name), config)
    builder = CaltechPedestrian(config=config, data_dir=data_dir, file_format="array_record")
    builder.allow_incomplete = allow_incomplete
    return builder
