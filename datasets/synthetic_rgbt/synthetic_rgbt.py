"""TFDS builder of the synthetic RGB-thermal scenes: nothing to download, the same scenes for the same options."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import records
from datasets.preparation import alone
from datasets.synthetic_rgbt.rendering import SPLITS, SceneOptions, encode_scenes
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

_LEAST = {"height_px": 32, "width_px": 32, "seed": 0, **dict.fromkeys(SPLITS, 1)}


def check_options(data_set: str, config: tfds.core.BuilderConfig) -> None:
    """Refuse sizes, seed and counts of scenes that mean nothing; raises InputError."""
    for key, least in _LEAST.items():
        value = getattr(config, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{data_set}: {key} must be a whole number of at least {least}, not {value!r}.")


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """Everything that decides the records. The name is made from the options, so no two configs share files.

    Attributes:
        height_px: height of the images.
        width_px: width of the images.
        seed: not negative. Splits draw from different streams of it: no scene is in two splits.
        train: number of scenes in this split; scenes 0, 2, 4... are days, the others nights.
        validation: as ``train``.
        test: as ``train``.
        label_noise: whether the training split's boxes have faults (see ``label_noise``). All images, and the boxes
            of the other splits, are the same with and without.

    Raises:
        InputError: for an option out of range.
    """

    name: str = dataclasses.field(default="", init=False)
    height_px: int = 128
    width_px: int = 160
    seed: int = 0
    train: int = 2000
    validation: int = 300
    test: int = 500
    label_noise: bool = False

    def __post_init__(self):
        check_options("synthetic_rgbt", self)
        if not isinstance(self.label_noise, bool):
            raise InputError(f"synthetic_rgbt: label_noise must be True or False, not {self.label_noise!r}.")
        counts = "-".join(f"{split}{getattr(self, split)}" for split in SPLITS)
        self.name = f"{self.width_px}x{self.height_px}-seed{self.seed}-{counts}" + "-noisy" * self.label_noise


class SyntheticRgbt(tfds.core.GeneratorBasedBuilder):
    """Registered RGB-thermal street scenes by day and by night, rendered on all cores of the machine."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        # Scenes are stored in the order of their index; whoever trains shuffles.
        return self.dataset_info_from_configs(
            description="Synthetic registered RGB-thermal street scenes with pedestrians, by day and by night.",
            features=records.features(),
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
        count = getattr(config, split)
        noisy = config.label_noise and split == "train"
        options = SceneOptions(split, config.seed, config.height_px, config.width_px, noisy)
        encoded = encode_scenes(options, count)
        for index, record in enumerate(progress_bar(encoded, f"rendering {split}", count, "scenes")):
            yield index, record | {name: io.BytesIO(record[name]) for name in ("visible", "lwir")}


def open_builder(data_dir: str | None = None, **options: int) -> SyntheticRgbt:
    """The builder of a config that its options describe.

    Args:
        data_dir: where prepared data lies; None for TFDS's default.
        **options: attributes of SyntheticConfig.

    Raises:
        InputError: an option out of range.
        TypeError: an option that is not there.
    """
    return SyntheticRgbt(config=SyntheticConfig(**options), data_dir=data_dir, file_format="array_record")
