"""The size of every term of a loss, and its gradient by the backbones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from dcrl_jax.models.network import Network
from dcrl_jax.structures import Batch
from dcrl_jax.training.step import FrozenTeacher
from dcrl_jax.training.terms import TrainingRules, detection_terms, distillation_terms, forward

ALL = "all together"


class Term(NamedTuple):
    """A term of a loss on some batches."""

    size: float  # its mean, without its weight; of the whole loss, the weighted sum
    norm: float  # of its weighted gradient by the backbones, the mean over the batches


def measure_terms(
    network: Network,
    params: Any,
    rules: TrainingRules,
    batches: Sequence[Batch],
    seed: int,
    teacher: FrozenTeacher | None = None,
) -> dict[str, Term]:
    """Return the terms of a loss by name, and under ``ALL`` the whole loss; terms of weight 0 are left out.

    Args:
        network: a teacher, student or baseline.
        params: its parameters.
        rules: the rules of its training.
        batches: training batches.
        seed: of the sampled anchors and RoIs.
        teacher: of a student that distils.
    """
    backbones = [name for name in params if name.startswith("backbone")]
    frozen = () if teacher is None else (teacher.params,)

    def terms_of(params, frozen, batch, keys):
        run = forward(network, params, batch, keys, rules)
        terms = detection_terms(run)
        if teacher is not None:
            terms |= distillation_terms(run, network, params, teacher.network, frozen[0], batch, rules)
        return {name: term for name, term in terms.items() if rules.weights[name]}

    @jax.jit
    def measure(params, frozen, batch, keys, weights):
        def loss(own):
            terms = terms_of({**params, **own}, frozen, batch, keys)
            return sum(weights[name] * term for name, term in terms.items()), terms

        gradient, terms = jax.grad(loss, has_aux=True)({name: params[name] for name in backbones})
        return optax.tree.norm(gradient), terms

    names = sorted(jax.eval_shape(terms_of, params, frozen, batches[0], _keys(seed, batches[0])))
    sizes: dict[str, list[float]] = {name: [] for name in names}
    norms: dict[str, list[float]] = {name: [] for name in (*names, ALL)}
    for number, batch in enumerate(batches):
        terms = {}
        for name, values in norms.items():
            weights = {term: rules.weights[term] if name in (term, ALL) else 0.0 for term in names}
            norm, terms = measure(params, frozen, batch, _keys(seed + number, batch), weights)
            values.append(float(norm))
        for name in names:
            sizes[name].append(float(terms[name]))
    found = {name: Term(float(np.mean(sizes[name])), float(np.mean(norms[name]))) for name in names}
    total = sum(rules.weights[name] * term.size for name, term in found.items())
    return found | {ALL: Term(total, float(np.mean(norms[ALL])))}


def _keys(seed, batch):
    return jax.random.split(jax.random.key(seed), len(batch.boxes))
