"""Every measurement that needs a GPU, in one run of a quarter of an hour; see benchmarks/README.md."""
