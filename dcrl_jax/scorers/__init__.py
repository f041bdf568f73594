"""Commands that score results files with the rules of a benchmark; they need no JAX."""
