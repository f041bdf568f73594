"""Loss terms of the paper, unweighted: detection and segmentation (Eq. 1, 8, 9), distillation (Eq. 14-18)."""
