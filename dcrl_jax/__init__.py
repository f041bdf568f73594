"""Deep cross-modal representation learning and distillation for pedestrian detection, in JAX and Flax."""
