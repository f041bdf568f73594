"""Measurements: speed, memory, many devices, and whether distillation and fine-tuning help."""
