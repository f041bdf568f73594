"""The command ``python -m dcrl_jax.evaluation.kaist``, which is ``dcrl_jax.scorers.kaist``."""

from dcrl_jax.scorers.kaist import main

if __name__ == "__main__":
    main()
