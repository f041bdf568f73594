"""TFDS builder of Caltech Pedestrians from the original archives: .seq videos, and .vbb or the new annotations."""

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import records
from datasets.caltech_pedestrian import checks
from datasets.caltech_pedestrian.checks import Frame
from datasets.fetched import CheckedCopy, Copy, FetchedBuilder
from dcrl_jax.annotations.caltech import folders, seq
from dcrl_jax.annotations.caltech.truths import KINDS
from dcrl_jax.errors import InputError


@dataclasses.dataclass(eq=False, kw_only=True)
class CaltechConfig(tfds.core.BuilderConfig):
    """The options that determine the records; the config's name is made from them.

    Attributes:
        annotations: the training and test annotations: ``original`` (.vbb files) or ``new`` (text files).
        train_skip: frames from one training image to the next: 3 (called 10x, for ``configs/finetune.py``), or 30 as in
            the test split.

    Raises:
        InputError: an option is out of range.
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


class CaltechPedestrian(FetchedBuilder):
    """RGB images of 640x480 pixels, all by day; the JPEG frames of the videos are copied as they are.

    Splits ``train`` (sets 0 to 5; 42,782 images) and ``test`` (4,024), each in the order of its frames. Labels are
    ``person``, ``people``, ``person?``, ``ignore``, and others that the benchmark does not score. Occlusion
    follows from the visible share: none, partial (at least 65 %) or heavy.

    ``info.metadata`` also describes the ``annotations`` of each split.
    """

    builder_config: CaltechConfig
    SHARD_RECORDS = 1000  # about 40 MB
    BUILDER_CONFIGS: ClassVar = [CaltechConfig(annotations=name) for name in KINDS]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Caltech Pedestrians cannot be downloaded by this program. Get the videos of sets 0 to 10 and their annotations from
  https://data.caltech.edu/records/f6rph-90m20
and unpack them, and the archives within them, into one folder: set00/V000.seq and set00/V000.vbb to set10/V011.seq
and set10/V011.vbb, in any parent folders. The new annotations (Zhang et al., How Far are We from Solving Pedestrian
Detection?, CVPR 2016) are text files such as set06_V000_I00029.jpg.txt, in a subfolder of their own.
Prepare it once:
  python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Caltech Pedestrian Detection Benchmark.",
            features=records.features(lwir=False),
            homepage="https://data.caltech.edu/records/f6rph-90m20",
            citation="Dollár, Wojek, Schiele, Perona: Pedestrian Detection: An Evaluation of the State of the Art. "
            "PAMI 34(4), 2012.",
            metadata=tfds.core.MetadataDict(),
        )

    def source_files(self, root: Path) -> Mapping[str, Path]:
        """Return the videos and the config's annotations, by their names below ``root``."""
        files = folders.index(root)
        annotations = files.vbb if self.builder_config.annotations == "original" else files.texts
        paths = [*files.seq.values(), *annotations.values()]
        return {path.relative_to(root).as_posix(): path for path in paths}

    def check_copy(self, copy: Copy) -> CheckedCopy:
        """Return the usable part of the copy; see ``checks.check_copy``."""
        return checks.check_copy(copy, self.builder_config, self.allow_incomplete)

    def make_records(self, items: Sequence[Frame]) -> Iterator[dict[str, Any]]:
        """Yield the records of checked frames, in order."""
        for frame in items:
            yield {
                "image_id": frame.image_id,
                "visible": io.BytesIO(seq.read_frame(frame.video, frame.number)),
                "condition": "day",
                "objects": records.objects(frame.objects),
            }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False, **options: Any) -> CaltechPedestrian:
    """Return the builder of a config.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        allow_incomplete: whether missing test images are a warning instead of an error.
        **options: attributes of CaltechConfig.

    Raises:
        InputError: an option is out of range.
        TypeError: there is no such option.
    """
    return CaltechPedestrian.open(data_dir, allow_incomplete, CaltechConfig(**options))
