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
    columns = zip(*(record[key][name] for name in ("label", "box", "occlusion", "ignore")), strict=True)
    return [(label.decode(), box.tolist(), int(level), bool(ignore)) for label, box, level, ignore in columns]


def table_of(builder):
    """Return the lines of the table of counts with single spaces; the first line is the head."""
    head, _, *lines = builder.info.metadata["table"].splitlines()
    return [" ".join(line.split()) for line in (head, *lines)]


def lines_of_counts(**counts):
    """Return the lines of a table of counts below its head, from texts like ``images 3 1 2, people 4 1 3`` by split."""
    return [f"{split}: {line}" for split, text in counts.items() for line in text.split(", ")]


def findings_of(data_dir):
    """Return the lines of the file of findings, as kind and text; none if there is no file."""
    lines = [line for path in data_dir.rglob("findings.txt") for line in path.read_text().splitlines()]
    return [tuple(line.split("\t")) for line in lines]


def files_below(folder):
    """Return all files below a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
