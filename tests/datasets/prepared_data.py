"""Reading of prepared data sets in tests."""

import tensorflow_datasets as tfds

from dcrl_jax.data.records import open_split


def prepare(builder, manual_dir, **options):
    """Prepare a data set from a folder, and return its builder."""
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir), **options))
    return builder


def read(builder, split):
    """Return all records of a split in their order, with images as encoded bytes."""
    return list(open_split(builder, split))


def names(records):
    """Return the image ids of records."""
    return [record["image_id"].decode() for record in records]


def rows(record, key="objects"):
    """Return the objects of a record: label, box, occlusion, ignore."""
    objects = record[key]
    columns = (
        [label.decode() for label in objects["label"]],
        [box.tolist() for box in objects["box"]],
        [int(level) for level in objects["occlusion"]],
        [bool(ignore) for ignore in objects["ignore"]],
    )
    return list(zip(*columns, strict=True))


def table_of(builder):
    """Return the words of each line of the table of counts; the first line is the head."""
    return [line.split() for line in builder.info.metadata["table"].splitlines()]


def findings_of(data_dir):
    """Return the lines of the file of findings, as kind and text; none if there is no file."""
    lines = [line for path in data_dir.rglob("findings.txt") for line in path.read_text().splitlines()]
    return [tuple(line.split("\t")) for line in lines]


def files_below(folder):
    """Return all files below a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
