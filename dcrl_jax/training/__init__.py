"""Training: targets, loss terms, the step, and the run that repeats it."""
