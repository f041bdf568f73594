"""TFDS builder of synthetic RGB scenes of another look than ``synthetic_rgbt``'s: what a network is fine-tuned on.

The scenes are drawn by the same program. The camera is another one (see ``look``), the people are smaller, and there
are no thermal images.
"""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from datasets import records
from datasets.preparation import alone
from datasets.synthetic_rgbt.rendering import SPLITS, SceneOptions, encode_scenes
from datasets.synthetic_rgbt.synthetic_rgbt import check_options
from datasets.synthetic_visible.look import photograph
from dcrl_jax.progress import progress_bar

# Median height of the people as a share of the image's; 0.4 in synthetic_rgbt.
TYPICAL_SHARE = 0.3
# Added to the seed, so that a scene is none of synthetic_rgbt's of the same seed in other light.
_OTHER_SCENES = 1_000_000


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticVisibleConfig(tfds.core.BuilderConfig):
    """Everything that decides the records. The name is made from the options, so no two configs share files.

    Attributes:
        height_px: height of the images.
        width_px: width of the images.
        seed: not negative. No scene is in two splits, or in ``synthetic_rgbt``.
        train: number of scenes in this split; scenes 0, 2, 4... are days, the others nights.
        validation: as ``train``.
        test: as ``train``.

    Raises:
        InputError: for an option out of range.
    """

    name: str = dataclasses.field(default="", init=False)
    height_px: int = 112
    width_px: int = 160
    seed: int = 0
    train: int = 200
    validation: int = 100
    test: int = 400

    def __post_init__(self):
        check_options("synthetic_visible", self)
        counts = "-".join(f"{split}{getattr(self, split)}" for split in SPLITS)
        self.name = f"{self.width_px}x{self.height_px}-seed{self.seed}-{counts}"


class SyntheticVisible(tfds.core.GeneratorBasedBuilder):
    """RGB street scenes by day and by night, rendered on all cores of the machine."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Synthetic RGB street scenes with pedestrians, by day and by night, of a cheap camera.",
            features=records.features(lwir=False),
            disable_shuffling=True,
        )

    def download_and_prepare(self, **options: Any) -> None:
        """Prepares the data set unless it is there, as every builder of TFDS; see there for the options.

        Raises:
            InputError: another process is preparing it.
        """
        with alone(self, Path(self.data_path).parent) as is_missing:
            if is_missing:
                super().download_and_prepare(**options)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        count, seed = getattr(config, split), config.seed + _OTHER_SCENES
        options = SceneOptions(split, seed, config.height_px, config.width_px, typical_share=TYPICAL_SHARE)
        bar = progress_bar(encode_scenes(options, count), f"rendering {split}", count, "scenes")
        for index, record in enumerate(bar):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            scene = cv2.imdecode(np.frombuffer(record.pop("visible"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            del record["lwir"]
            yield index, record | {"visible": io.BytesIO(photograph(rng, scene))}


def open_builder(data_dir: str | None = None, **options: int) -> SyntheticVisible:
    """The builder of a config that its options describe.

    Args:
        data_dir: where prepared data lies; None for TFDS's default.
        **options: attributes of SyntheticVisibleConfig.

    Raises:
        InputError: an option out of range.
        TypeError: an option that is not there.
    """
    return SyntheticVisible(config=SyntheticVisibleConfig(**options), data_dir=data_dir, file_format="array_record")
