"""TFDS builder of NightOwls, from a copy that you fetched yourself."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets import copies, records
from datasets.nightowls.checks import CheckedImage, check_copy

# Images in a file of records. TFDS keeps those of one file in memory until it is written, some 200 MB.
_SHARD = 200

HOW_TO_GET_IT = """\
NightOwls cannot be downloaded by this program: its terms, for non-commercial use, forbid passing it on. Get the
training and the validation images and annotations from
  https://www.nightowls-dataset.org/download/
and unpack them into one folder: nightowls_training.json, nightowls_training/*.png, nightowls_validation.json and
nightowls_validation/*.png. Prepare it once, which copies the images:
  python -m datasets.nightowls.prepare --manual_dir=FOLDER
or give the folder to the run itself, --config.data.manual_dir=FOLDER."""


class Nightowls(tfds.core.ShardBasedBuilder):
    """RGB images of 1024x640 pixels by night, by day and at dawn; PNG files are copied as they are.

    Splits ``train`` (130,064 images) and ``validation`` (51,848), each in the order of its annotations; the labels of
    the test images are withheld. Labels are ``person``, ``bicycledriver``, ``motorbikedriver`` and ``ignore``, an area
    that is marked as ignored. Occlusion is none or, for whoever is marked as occluded, heavy. The ``image_id`` is the
    number by which results files name the image. Frames follow each other: parts of a split taken at random are alike.

    ``info.metadata`` has the ``table`` of counts and the ``warnings`` that go with every score.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET_IT

    # Go on without validation images that are missing or unreadable; every score is then printed with a warning.
    allow_incomplete: bool = False

    _checked: copies.CheckedCopy | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="NightOwls: A Pedestrians at Night Dataset.",
            features=records.features(lwir=False, conditions=records.CONDITIONS_AND_DAWN),
            homepage="https://www.nightowls-dataset.org/",
            citation="Neumann et al.: NightOwls: A Pedestrians at Night Dataset. ACCV 2018.",
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **options: Any
    ) -> None:
        """Prepares the data set, as every builder of TFDS; see there for the arguments.

        The copy in ``manual_dir`` is read and checked in full, and a table of what was found printed, before anything
        of the data set is written. What was found amiss stands in full in a file beside the data set.

        Raises:
            InputError: there is no manual folder, annotations are missing or malformed, or validation images are
                missing or unreadable.
        """
        with copies.unprepared(self, download_config, HOW_TO_GET_IT) as copy:
            if copy:
                self._checked = check_copy(copy, self.allow_incomplete)
                super().download_and_prepare(download_config=download_config, **options)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Any]]:
        self.info.metadata.update(self._checked.metadata)
        return copies.shards(self._checked.kept, _SHARD, _records, "images")


def _records(found: Sequence[CheckedImage]) -> Iterator[dict[str, Any]]:
    for path, image in found:
        yield {
            "image_id": str(image.number),
            "visible": io.BytesIO(path.read_bytes()),
            "condition": image.condition,
            "objects": records.objects(image.objects),
        }


def open_builder(data_dir: str | None = None, allow_incomplete: bool = False) -> Nightowls:
    """The builder.

    Args:
        data_dir: where prepared data lies; None for TFDS's default.
        allow_incomplete: whether missing validation images are a warning instead of an error.
    """
    builder = Nightowls(data_dir=data_dir, file_format="array_record")
    builder.allow_incomplete = allow_incomplete
    return builder
