"""The command ``python -m dcrl_jax.evaluation.nightowls``, which is ``dcrl_jax.scorers.nightowls``."""

from dcrl_jax.scorers.nightowls import main

if __name__ == "__main__":
    main()
