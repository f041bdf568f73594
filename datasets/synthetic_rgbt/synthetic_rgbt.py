"""TFDS builder of the synthetic RGB-thermal scenes; the same options render the same scenes."""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import records
from datasets.preparation import preparation_lock
from datasets.synthetic_rgbt.rendering import SPLITS, SceneOptions, encode_scenes
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

_MINIMUM = {"height_px": 32, "width_px": 32, "seed": 0, **dict.fromkeys(SPLITS, 1)}


@dataclasses.dataclass(eq=False, kw_only=True)
class SceneConfig(tfds.core.BuilderConfig):
    """The options that determine the records; the config's name is made from them.

    Attributes:
        height_px: height of the images.
        width_px: width of the images.
        seed: seed of the scenes, not negative. Each split has its own random numbers, so no scene is in two splits.
        train: number of training scenes; scenes 0, 2, 4... are by day, the others by night.
        validation: number of validation scenes.
        test: number of test scenes.

    Raises:
        InputError: an option is out of range.
    """

    DATA_SET: ClassVar[str]  # for messages

    name: str = dataclasses.field(default="", init=False)
    height_px: int
    width_px: int
    seed: int = 0
    train: int
    validation: int
    test: int

    def __post_init__(self):
        for key, minimum in _MINIMUM.items():
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise InputError(f"{self.DATA_SET}: {key} must be a whole number of at least {minimum}, not {value!r}.")
        counts = "-".join(f"{split}{getattr(self, split)}" for split in SPLITS)
        self.name = f"{self.width_px}x{self.height_px}-seed{self.seed}-{counts}"


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticConfig(SceneConfig):
    """The options of ``SceneConfig`` with the defaults of this data set, and label noise.

    Attributes:
        label_noise: whether the training boxes have annotation errors (see ``label_noise``). The images, and the boxes
            of the other splits, do not depend on it.
    """

    DATA_SET: ClassVar = "synthetic_rgbt"

    height_px: int = 128
    width_px: int = 160
    train: int = 2000
    validation: int = 300
    test: int = 500
    label_noise: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.label_noise, bool):
            raise InputError(f"{self.DATA_SET}: label_noise must be True or False, not {self.label_noise!r}.")
        self.name += "-noisy" * self.label_noise


class SyntheticRgbt(tfds.core.GeneratorBasedBuilder):
    """Registered RGB-thermal street scenes by day and night, rendered on all cores of the machine."""

    builder_config: SyntheticConfig
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        # Scenes are stored in the order of their index; training shuffles them.
        return self.dataset_info_from_configs(
            description="Synthetic registered RGB-thermal street scenes with pedestrians, by day and by night.",
            features=records.features(),
            disable_shuffling=True,
        )

    def download_and_prepare(self, **options: Any) -> None:
        """Prepare the data set unless it is prepared; for the options see TFDS.

        Raises:
            InputError: another process is preparing it.
        """
        with preparation_lock(self, Path(self.data_path).parent) as needs_preparing:
            if needs_preparing:
                super().download_and_prepare(**options)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        noisy = config.label_noise and split == "train"
        options = SceneOptions(split, config.seed, config.height_px, config.width_px, noisy)
        for index, record in enumerate(render_records(options, getattr(config, split))):
            yield index, record | {name: io.BytesIO(record[name]) for name in ("visible", "lwir")}


def render_records(options: SceneOptions, count: int) -> Iterable[dict[str, Any]]:
    """Return an iterable of the first ``count`` records of a split that shows a progress bar; images are PNG bytes."""
    return progress_bar(encode_scenes(options, count), f"rendering {options.split}", count, "scenes")


def open_builder(data_dir: str | None = None, **options: Any) -> SyntheticRgbt:
    """Return the builder of a config.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        **options: attributes of SyntheticConfig.

    Raises:
        InputError: an option is out of range.
        TypeError: there is no such option.
    """
    return SyntheticRgbt(config=SyntheticConfig(**options), data_dir=data_dir, file_format="array_record")
