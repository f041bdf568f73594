"""TFDS builder of NightOwls from the user's copy."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from datasets import records
from datasets.fetched import CheckedCopy, Copy, FetchedBuilder
from datasets.nightowls import checks
from datasets.nightowls.checks import CheckedImage
from dcrl_jax.annotations.types import IMAGE_CONDITIONS


class Nightowls(FetchedBuilder):
    """RGB images of 1024x640 pixels by night, by day and at dawn.

    Splits ``train`` (130,064 images) and ``validation`` (51,848), each in the order of its annotations; the labels of
    the test images are not published. Labels are ``person``, ``bicycledriver``, ``motorbikedriver`` and ``ignore`` (an
    area marked as ignored). Occlusion is heavy if the object is marked as occluded, else none. The ``image_id`` is the
    number by which results files name the image. Frames follow each other, so random parts of a split are alike.
    """

    SHARD_RECORDS = 200  # about 200 MB
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
NightOwls cannot be downloaded by this program: its terms, for non-commercial use, forbid passing it on. Get the
training and the validation images and annotations from
  https://www.nightowls-dataset.org/download/
and unpack them into one folder: nightowls_training.json, nightowls_training/*.png, nightowls_validation.json and
nightowls_validation/*.png. Prepare it once, which copies the images:
  python -m datasets.nightowls.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="NightOwls: A Pedestrians at Night Dataset.",
            features=records.features(lwir=False, conditions=IMAGE_CONDITIONS),
            homepage="https://www.nightowls-dataset.org/",
            citation="Neumann et al.: NightOwls: A Pedestrians at Night Dataset. ACCV 2018.",
            metadata=tfds.core.MetadataDict(),
        )

    def source_files(self, root: Path) -> Mapping[str, Path]:
        """Return the JSON files and the images; see ``checks.source_files``."""
        return checks.source_files(root)

    def check_copy(self, copy: Copy) -> CheckedCopy:
        """Return the usable part of the copy; see ``checks.check_copy``."""
        return checks.check_copy(copy, self.allow_incomplete)

    def make_records(self, items: Sequence[CheckedImage]) -> Iterator[dict[str, Any]]:
        """Yield the records of checked images, in order."""
        for path, image in items:
            yield {
                "image_id": str(image.number),
                "visible": io.BytesIO(path.read_bytes()),
                "condition": image.condition,
                "objects": records.objects(image.objects),
            }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False) -> Nightowls:
    """Return the builder.

    Args:
        data_dir: folder of the prepared data; None for TFDS's default.
        allow_incomplete: whether missing validation images are a warning instead of an error.
    """
    return Nightowls.open(data_dir, allow_incomplete)
