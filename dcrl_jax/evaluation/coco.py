"""The command ``python -m dcrl_jax.evaluation.coco``, which is ``dcrl_jax.scorers.coco``."""

from dcrl_jax.scorers.coco import main

if __name__ == "__main__":
    main()
