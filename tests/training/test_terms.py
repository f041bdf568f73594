"""The rules of training that a config asks for, and the terms that a teacher adds to a student's loss."""

import jax
import numpy as np
import pytest
from training_cases import assert_learns, assert_same_bits, make_batch

from configs import baseline, student, teacher
from dcrl_jax.losses.detection import weighted_sum
from dcrl_jax.losses.distillation import NO_DISTILLATION, Distillation
from dcrl_jax.models.detect import ProposalRules
from dcrl_jax.models.network import build_network
from dcrl_jax.training import terms as training_terms
from dcrl_jax.training.step import make_loss
from dcrl_jax.training.targets import RdrRules, RpgRules
from dcrl_jax.training.terms import detection_terms, distillation_terms, forward, training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STAGES = ("rpg", "rdr")
OWN = ("cls", "reg", "seg", "branches")
SOFT = ("cls_soft", "reg_bound", "seg_soft")  # Eq. 16 to 18
DETECTION = {f"{stage}_{term}" for stage in STAGES for term in ("cls", "reg", "seg")}
ADDED = {"fea": {"fea"}}
ADDED |= {name: {f"{s}_{soft}" for s in STAGES} for name, soft in zip(("cls", "bbr", "seg"), SOFT, strict=True)}
ALL_ADDED = set.union(*ADDED.values())


def weights_of(config):
    """Return the weights by the name of the term without its stage, in which both stages must agree."""
    weights = training_rules(config).weights
    assert set(weights) == {f"{stage}_{term}" for stage in STAGES for term in OWN + SOFT} | {"fea"}
    for term in OWN + SOFT:
        assert weights[f"rpg_{term}"] == weights[f"rdr_{term}"], term
    return {"fea": weights["fea"]} | {term: weights[f"rpg_{term}"] for term in OWN + SOFT}


LOSS = {"loss.box_weight": 2.0, "loss.segmentation_weight": 4.0}
BRANCHES = {"loss.per_branch_weight": 5.0}
OFF = {f"distillation.{name}": False for name in ADDED}
OTHERS = {f"distillation.{k}": v for k, v in {"rho": 0.125, "zeta": 0.75, "epsilon": 3.0, "xi": 0.25}.items()}


@pytest.mark.parametrize(
    ("recipe", "changes", "weights"),
    # In the order of OWN, of SOFT, and fea.
    [
        (teacher, {}, (1, 1, 1, 0, 0, 0, 0, 0)),
        (teacher, LOSS | BRANCHES, (1, 2, 4, 5, 0, 0, 0, 0)),
        (baseline, LOSS, (1, 2, 4, 0, 0, 0, 0, 0)),
        (student, {}, (0.5, 1, 0.5, 0, 0.5, 0.5, 0.5, 0.5)),
        (student, LOSS | OTHERS, (0.75, 2, 1, 0, 0.25, 6, 3, 0.125)),
        (student, LOSS | OFF, (1, 2, 4, 0, 0, 0, 0, 0)),
    ],
    ids=["eq1-paper", "eq1", "eq1-baseline", "eq14-paper", "eq14", "nothing distilled"],
)
def test_weights_follow_eq_1_and_eq_14(recipe, changes, weights):
    config = recipe.get_config("kaist/literal")
    config.update_from_flattened_dict(changes)
    assert weights_of(config) == dict(zip((*OWN, *SOFT, "fea"), weights, strict=True))


def test_only_a_student_distils():
    config = student.get_config("kaist/literal")
    values = {"fea": True, "cls": True, "bbr": False, "seg": True, "rho": 0.1, "zeta": 0.2, "temperature": 3.0}
    values |= {"epsilon": 0.4, "delta": 0.6, "xi": 0.7}
    config.distillation.update(values)
    assert training_rules(config).distillation == Distillation(**values)
    for recipe in (teacher, baseline):
        assert training_rules(recipe.get_config("kaist/literal")).distillation == NO_DISTILLATION
    # Masks of no stage are none.
    config.segmentation.stages = ()
    config.distillation.update(fea=False, cls=False)
    assert not training_rules(config).distillation.any


def test_rules_come_from_the_config():
    config = teacher.get_config("kaist/literal")
    config.rpn.update(positive_iou=0.61, negative_iou=0.21, ignore_ioa=0.41, match_best_anchor=False)
    config.rpn.update(sampled=99, max_positive=33, offset_std=(1.0, 2.0, 3.0, 4.0), kept_training=777)
    config.roi.update(positive_iou=0.55, ignore_ioa=0.45, sampled=44, max_positive=11)
    config.backbone.stride = 16
    rules = training_rules(config)
    std = (1.0, 2.0, 3.0, 4.0)
    assert rules.proposals == ProposalRules((512, 640), std, 4.0, 6000, 777, 0.7)
    assert rules.rpg == RpgRules(0.61, 0.21, 0.41, False, 99, 33, std)
    assert rules.rdr == RdrRules(0.55, 0.45, 44, 11, std)
    assert rules.stride == 16


KEYS = jax.random.split(jax.random.key(5), 4)


def student_config(tiny_config, *on):
    """A student that distils ``on``; all weights and constants of its loss differ."""
    config = tiny_config("student")
    config.roi.sampled = 48  # more than there are proposals
    config.loss.update(box_weight=0.5, segmentation_weight=0.75)
    config.distillation.update({name: name in on for name in ADDED})
    config.distillation.update(rho=2.0, zeta=0.25, temperature=2.0, epsilon=0.625, delta=0.5, xi=0.375)
    return config


@pytest.fixture(scope="module")
def setting(tiny_config, random_params):
    """The complete student and its teacher: config, networks and parameters, (student's, teacher's) each."""
    config = student_config(tiny_config, *ADDED)
    networks = build_network(config), build_network(tiny_config("teacher"))
    params = random_params(networks[0]), random_params(networks[1], seed=1)
    # Better than the student at four of six positive anchors.
    for name in ("visible", "lwir"):
        params[1][f"rpns_{name}"]["offsets"]["kernel"] *= 0.2
    return config, networks, params


def all_terms(networks, params, batch, config):
    """Return the forward pass, and all terms of a student's step."""
    rules = training_rules(config)
    run = forward(networks[0], params[0], batch, KEYS, rules)
    added = distillation_terms(run, networks[0], params[0], networks[1], params[1], batch, rules)
    return run, detection_terms(run) | added


@pytest.fixture(scope="module")
def one_pass(setting):
    """``run(batch)``: forward pass, terms, and gradients (student's, teacher's) of L_TS."""
    config, networks, params = setting

    @jax.jit
    def gradients(params, batch):
        def loss(params):
            run, terms = all_terms(networks, params, batch, config)
            return weighted_sum(terms, training_rules(config).weights), (run, terms)

        return jax.grad(loss, has_aux=True)(params)

    def run(batch):
        gradient, (forwarded, terms) = jax.device_get(gradients(params, batch))
        return forwarded, terms, gradient

    return run


@pytest.fixture(scope="module")
def clean(one_pass):
    return one_pass(make_batch())


@pytest.fixture(scope="module")
def teacher_outputs(setting, clean):
    """The teacher's features, and by stage its outputs for the student's anchors and RoIs."""
    _, (_, network), (_, params) = setting
    batch, run = make_batch(), clean[0]

    @jax.jit
    def apply(params, rois):
        variables = {"params": params}
        features, rpg = network.model.apply(variables, batch.visible, batch.lwir, method="propose_regions")
        return features, rpg, network.model.apply(variables, features, rois, method="refine")

    features, rpg, rdr = jax.device_get(apply(params, run.rois))
    rows = np.arange(4)[:, None]
    rpg = rpg._replace(logits=rpg.logits[rows, run.anchors], offsets=rpg.offsets[rows, run.anchors])
    return features, {"rpg": rpg, "rdr": rdr}


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


def mean_cross_entropy(logits, labels, counted):
    entropy = -np.sum(labels * np.log(softmax(logits)), axis=-1)
    return np.mean([image[mask].mean() if mask.any() else 0.0 for image, mask in zip(entropy, counted, strict=True)])


@pytest.mark.parametrize(
    ("on", "stages"),
    [((), STAGES), *(((name,), STAGES) for name in ADDED), *((tuple(ADDED), stages) for stages in (("rpg",), ()))],
    ids=lambda names: "+".join(names) or "none",
)
def test_terms_are_those_switched_on_for_stages_with_masks(tiny_config, on, stages):
    config, teacher = student_config(tiny_config, *on), tiny_config("teacher")
    config.segmentation.stages = teacher.segmentation.stages = stages
    networks = build_network(config), build_network(teacher)
    params = [network.param_shapes() for network in networks]
    terms = jax.eval_shape(lambda params: all_terms(networks, params, make_batch(), config)[1], params)
    expected = DETECTION.union(*(ADDED[name] for name in on))
    assert set(terms) == {name for name in expected if "seg" not in name or name[:3] in stages}
    assert {leaf.shape for leaf in terms.values()} == {()}


def test_every_layer_of_the_student_learns_and_none_of_the_teacher(clean):
    run, terms, (gradient, of_teacher) = clean
    assert set(terms) == DETECTION | ALL_ADDED
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    for mask in (run.rpg.targets.is_sampled, run.rdr.targets.is_sampled):  # with padding
        assert mask.any(1).all()
        assert not mask.all()
    assert_learns(gradient)
    assert len(jax.tree.leaves(of_teacher)) > 40
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_teacher))


def test_eq_15_compares_with_the_conv5_maps_of_both_branches(setting, clean, teacher_outputs):
    layer = setting[2][0]["adaption_layer"]
    run, terms, _ = clean
    adapted = np.asarray(run.features, np.float64) @ layer["kernel"][0, 0] + layer["bias"]
    expected = np.mean((adapted - np.concatenate(teacher_outputs[0].maps, axis=-1)) ** 2)
    np.testing.assert_allclose(terms["fea"], expected, rtol=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_eq_16_to_18_compare_with_the_teacher_at_the_same_anchors_and_rois(clean, teacher_outputs, stage):
    run, terms, _ = clean
    (own, targets, _, counted), soft = getattr(run, stage), teacher_outputs[1][stage]
    expected = mean_cross_entropy(own.logits, softmax(soft.logits / 2.0), targets.is_sampled)
    np.testing.assert_allclose(terms[f"{stage}_cls_soft"], expected, rtol=1e-5)

    goal = np.asarray(targets.offsets, np.float64)
    error, bound = (np.sum((offsets - goal) ** 2, axis=-1) for offsets in (own.offsets, soft.offsets))
    positive = targets.is_positive & targets.is_sampled
    is_worse = positive & (error + 0.5 > bound)
    assert 0 < is_worse.sum() < positive.sum()
    expected = np.mean(np.sum(np.where(is_worse, error, 0), axis=1) / targets.is_sampled.sum(1))
    np.testing.assert_allclose(terms[f"{stage}_reg_bound"], expected, rtol=1e-5)

    expected = mean_cross_entropy(own.segmentation_logits, softmax(soft.segmentation_logits), counted)
    np.testing.assert_allclose(terms[f"{stage}_seg_soft"], expected, rtol=1e-5)


def test_nan_in_padded_boxes_reaches_no_term_and_no_gradient(one_pass, clean):
    batch = make_batch()
    unused = ~(batch.is_person | batch.is_ignore)
    boxes = np.where(unused[..., None], np.float32(np.nan), batch.boxes)
    _, terms, gradients = one_pass(batch._replace(boxes=boxes))
    assert terms == clean[1]
    assert_same_bits(gradients, clean[2])


def test_student_that_distils_nothing_has_the_program_of_the_baseline(tiny_config):
    alone = tiny_config("baseline")
    alone.roi.sampled = 48
    alone.loss.update(box_weight=0.5, segmentation_weight=0.75)

    def program(config):
        network = build_network(config)
        gradient = jax.grad(make_loss(network, training_rules(config)), has_aux=True)
        return str(jax.make_jaxpr(gradient)(network.param_shapes(), (), make_batch()._replace(lwir=None), KEYS))

    assert program(student_config(tiny_config)) == program(alone)


def test_thermal_image_changes_only_what_is_distilled(one_pass, clean):
    batch = make_batch()
    run, terms, _ = one_pass(batch._replace(lwir=255 - batch.lwir))
    assert_same_bits(run, clean[0])
    assert {name for name in terms if terms[name] == clean[1][name]} >= DETECTION
    for name in ALL_ADDED - ADDED["bbr"]:
        assert terms[name] != clean[1][name], name


def test_only_the_student_proposes_regions(setting, monkeypatch):
    config, networks, params = setting
    propose, calls = training_terms.propose, []
    monkeypatch.setattr(training_terms, "propose", lambda *args, **given: calls.append(1) or propose(*args, **given))
    jax.eval_shape(lambda params: all_terms(networks, params, make_batch(), config)[1], params)
    assert len(calls) == 1
