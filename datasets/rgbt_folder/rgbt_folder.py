"""TFDS builder of a user's folder of registered RGB-thermal pairs."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import tensorflow_datasets as tfds

from datasets import records
from datasets.fetched import CheckedCopy, Copy, FetchedBuilder, read_ahead
from datasets.rgbt_folder import checks
from datasets.rgbt_folder.checks import Item
from datasets.rgbt_folder.options import FolderConfig
from datasets.rgbt_folder.plan import Plan, make_plan
from dcrl_jax import decoding
from dcrl_jax.registration import register_lwir


class RgbtFolder(FetchedBuilder):
    """The pairs of a folder with their labels; ``FolderConfig`` has the options.

    Splits are ``train``, ``validation`` and ``test``, as far as the folder has them. Images are stored as they are,
    except for thermal ones with ``lwir_to_visible``, which are stored as PNG of the visible image's size. Labels of
    people are ``person``, regions to ignore are ``ignore``; all others keep their names.

    ``info.metadata`` also has the ``contact_sheet``: split and index of the pairs to look at.
    """

    builder_config: FolderConfig
    SHARD_RECORDS = 100  # 200 MB of pairs of 2 MB
    UNIT = "pairs"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
rgbt_folder needs a folder of visible and thermal images and their labels, whose names tell which belong together:
  visible/train/0001.jpg, thermal/train/0001.jpg, labels/train/0001.txt     or
  0001_rgb.png, 0001_ir.png, 0001.xml, and many more; or a CSV list of the pairs.
Look at what is found in it, and prepare it:
  python -m datasets.rgbt_folder.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER."""

    _plan: Plan | None = None  # of the folder that source_files was asked for

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Registered RGB-thermal pairs of a user's folder with boxes of people.",
            features=records.features(),
            metadata=tfds.core.MetadataDict(),
        )

    def source_files(self, root: Path) -> Mapping[str, Path]:
        """Return the pairs, their label files, and the lists and names that are used."""
        self._plan = make_plan(root, self.builder_config)
        return self._plan.files

    def check_copy(self, copy: Copy) -> CheckedCopy:
        """Return the usable part of the folder; see ``checks.check_copy``."""
        plan = self._plan or make_plan(copy.root, self.builder_config)
        self._plan = None
        return checks.check_copy(copy, self.builder_config, plan, self._source.contents, self.allow_incomplete)

    def make_records(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """Yield the records of checked pairs, in order."""
        for item, (visible, lwir) in read_ahead(items, _read_images):
            yield {
                "image_id": item.image_id,
                "visible": io.BytesIO(visible),
                "lwir": io.BytesIO(lwir),
                "condition": item.condition,
                "objects": records.objects(item.objects),
            }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False, **options: Any) -> RgbtFolder:
    """Return the builder of a folder.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        allow_incomplete: whether pairs of the scored split that cannot be used are a warning instead of an error.
        **options: fields of FolderConfig.

    Raises:
        InputError: an option is out of range.
        TypeError: there is no such option.
    """
    return RgbtFolder.open(data_dir, allow_incomplete, FolderConfig(**options))


def _read_images(item: Item) -> tuple[bytes, bytes]:
    """Return the visible and the thermal image to store."""
    visible, lwir = item.visible.read_bytes(), item.lwir.read_bytes()
    if item.registration is None:
        return visible, lwir
    # One channel first, as in detection.
    pixels = decoding.grey_lwir(*decoding.decode(lwir, str(item.lwir)), str(item.lwir))
    file = io.BytesIO()
    PIL.Image.fromarray(register_lwir(pixels, item.registration, item.size)[..., 0]).save(file, "PNG")
    return visible, file.getvalue()
