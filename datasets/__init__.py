"""One TFDS builder per data set: raw files in, records of one schema (``datasets.records``) out."""
