"""TFDS builder of synthetic RGB scenes that look different from those of ``synthetic_rgbt``, for fine-tuning.

The same program draws the scenes, but with another camera (see ``look``), smaller people and no thermal images.
"""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from datasets import records
from datasets.synthetic_rgbt.rendering import SPLITS, SceneOptions
from datasets.synthetic_rgbt.synthetic_rgbt import SceneConfig, SyntheticRgbt, render_records
from datasets.synthetic_visible.look import photograph

# Median height of the people as a share of the image's height; 0.4 in synthetic_rgbt.
TYPICAL_SHARE = 0.3
# Added to the seed, so that synthetic_rgbt with the same seed has other scenes.
_SEED_OFFSET = 1_000_000


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticVisibleConfig(SceneConfig):
    """The options of ``SceneConfig`` with the defaults of this data set."""

    DATA_SET: ClassVar = "synthetic_visible"

    height_px: int = 112
    width_px: int = 160
    train: int = 200
    validation: int = 100
    test: int = 400


class SyntheticVisible(SyntheticRgbt):
    """RGB street scenes by day and night, rendered on all cores of the machine."""

    builder_config: SyntheticVisibleConfig

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Synthetic RGB street scenes with pedestrians, by day and by night, of a cheap camera.",
            features=records.features(lwir=False),
            disable_shuffling=True,
        )

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        seed = config.seed + _SEED_OFFSET
        options = SceneOptions(split, seed, config.height_px, config.width_px, typical_share=TYPICAL_SHARE)
        for index, record in enumerate(render_records(options, getattr(config, split))):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            scene = cv2.imdecode(np.frombuffer(record.pop("visible"), np.uint8), cv2.IMREAD_COLOR)
            assert scene is not None
            del record["lwir"]
            yield index, record | {"visible": io.BytesIO(photograph(rng, scene[..., ::-1]))}


def open_builder(data_dir: str | None = None, **options: Any) -> SyntheticVisible:
    """Return the builder of a config.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        **options: attributes of SyntheticVisibleConfig.

    Raises:
        InputError: an option is out of range.
        TypeError: there is no such option.
    """
    return SyntheticVisible(config=SyntheticVisibleConfig(**options), data_dir=data_dir, file_format="array_record")
