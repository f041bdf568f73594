"""One TFDS builder per data set; each converts raw files to records of one schema (``datasets.records``)."""
