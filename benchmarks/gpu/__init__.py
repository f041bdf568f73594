"""Everything that is to be measured on a GPU, in one run of a quarter of an hour; see benchmarks/README.md."""
