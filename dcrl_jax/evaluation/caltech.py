"""The command ``python -m dcrl_jax.evaluation.caltech``, which is ``dcrl_jax.scorers.caltech``."""

from dcrl_jax.scorers.caltech import main

if __name__ == "__main__":
    main()
