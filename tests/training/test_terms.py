"""The student's loss terms on a batch: which there are, what the teacher was asked, and where no gradient may go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import make_batch

from dcrl_jax.losses.detection import weighted_sum
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import RegionOutputs
from dcrl_jax.training import terms as training_terms
from dcrl_jax.training.terms import detection_terms, distillation_terms, forward, training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

STAGES = ("rpg", "rdr")
DETECTION = {f"{stage}_{term}" for stage in STAGES for term in ("cls", "reg", "seg")}
SWITCHES = ("fea", "cls", "bbr", "seg")
ADDED = {
    "fea": {"fea"},
    "cls": {"rpg_cls_soft", "rdr_cls_soft"},
    "bbr": {"rpg_reg_bound", "rdr_reg_bound"},
    "seg": {"rpg_seg_soft", "rdr_seg_soft"},
}
EVERYTHING = set.union(*ADDED.values())


def image_keys():
    return jax.random.split(jax.random.key(5), 4)


def student_config(tiny_config, *on):
    """A student that distils what is named, every weight and constant of its loss another."""
    config = tiny_config("student")
    config.roi.sampled = 48  # more than there are proposals
    config.loss.update(box_weight=0.5, segmentation_weight=0.75)
    config.distillation.update({name: name in on for name in SWITCHES})
    config.distillation.update(rho=2.0, zeta=0.25, temperature=2.0, epsilon=0.625, delta=0.5, xi=0.375)
    return config


@pytest.fixture(scope="module")
def setting(tiny_config, random_params):
    """The complete student and its teacher: config, models and parameters, (student's, teacher's) each."""
    config = student_config(tiny_config, *SWITCHES)
    networks = build_network(config), build_network(tiny_config("teacher"))
    params = random_params(networks[0]), random_params(networks[1], seed=1)
    # Better than the student at four of six positive anchors.
    for name in ("visible", "lwir"):
        params[1][f"rpns_{name}"]["offsets"]["kernel"] *= 0.2
    return config, networks, params


def all_terms(networks, params, batch, config):
    """Forward pass, and all terms of a student's step."""
    rules = training_rules(config)
    run = forward(networks[0], params[0], batch, image_keys(), rules)
    added = distillation_terms(run, networks[0], params[0], networks[1], params[1], batch, rules)
    return run, detection_terms(run) | added


def fill_padding(patch, fill, seen):
    """Puts ``fill`` into everything that the sampled RoIs and anchors hold in their padding."""
    original = {name: getattr(training_terms, name) for name in ("rpg_targets", "sample_rois")}

    def fill_offsets(targets):
        used = targets.is_positive & targets.is_sampled
        return targets._replace(offsets=jnp.where(used[..., None], targets.offsets, fill))

    def rpg_targets(*arguments):
        index, targets = original["rpg_targets"](*arguments)
        seen["rpg"] = targets.is_sampled
        return index, fill_offsets(targets)

    def sample_rois(*arguments):
        rois, targets = original["sample_rois"](*arguments)
        seen["rdr"] = targets.is_sampled
        finite = jnp.where(jnp.isfinite(fill), fill, 1000.0)
        return jnp.where(targets.is_sampled[..., None], rois, finite), fill_offsets(targets)

    patch.setattr(training_terms, "rpg_targets", rpg_targets)
    patch.setattr(training_terms, "sample_rois", sample_rois)


@pytest.fixture(scope="module")
def one_pass(setting):
    """``run(batch, fill)``: forward pass, terms, gradients (student's, teacher's) of L_TS, and what is sampled."""
    config, networks, params = setting

    @jax.jit
    def gradients(params, batch, fill):
        def loss(params):
            seen = {}
            with pytest.MonkeyPatch.context() as patch:
                fill_padding(patch, fill, seen)
                run, terms = all_terms(networks, params, batch, config)
            return weighted_sum(terms, training_rules(config).weights), (run, terms, seen)

        return jax.grad(loss, has_aux=True)(params)

    def run(batch, fill=0.0):
        gradient, (forwarded, terms, seen) = jax.device_get(gradients(params, batch, np.float32(fill)))
        return forwarded, terms, gradient, seen

    return run


@pytest.fixture(scope="module")
def clean(one_pass):
    return one_pass(make_batch())


@pytest.fixture(scope="module")
def teacher_says(setting, clean):
    """The teacher's features, its outputs for all anchors, and for the student's RoIs."""
    _, (_, teacher), (_, params) = setting
    batch = make_batch()

    @jax.jit
    def run(params, rois):
        variables = {"params": params}
        features, rpg = teacher.apply(variables, batch.visible, batch.lwir, method="propose_regions")
        return features, rpg, teacher.apply(variables, features, rois, method="refine")

    return jax.device_get(run(params, clean[0].rois))


def shapes_of_terms(config, teacher):
    """Names and shapes of the terms of a student's config with a teacher's."""
    networks = build_network(config), build_network(teacher)
    params = [network.param_shapes() for network in networks]
    return jax.eval_shape(lambda p: all_terms(networks, p, make_batch(), config)[1], params)


# Soft labels and masks, worked out in NumPy.


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


def mean_cross_entropy(logits, labels, counted):
    entropy = -np.sum(labels * np.log(softmax(logits)), axis=-1)
    return np.mean([image[mask].mean() if mask.any() else 0.0 for image, mask in zip(entropy, counted, strict=True)])


@pytest.mark.parametrize(
    "on",
    [(), ("fea",), ("cls",), ("bbr",), ("seg",), SWITCHES],
    ids=lambda on: "+".join(on) or "none",
)
def test_table_iv_terms_are_exactly_those_switched_on(tiny_config, on):
    found = shapes_of_terms(student_config(tiny_config, *on), tiny_config("teacher"))
    assert set(found) == DETECTION.union(*(ADDED[name] for name in on))
    assert {leaf.shape for leaf in found.values()} == {()}


@pytest.mark.parametrize("stages", [("rpg",), ("rdr",), ()])
def test_stage_without_segmentation_learns_no_masks_from_the_teacher(tiny_config, stages):
    config, teacher = student_config(tiny_config, *SWITCHES), tiny_config("teacher")
    config.segmentation.stages = teacher.segmentation.stages = stages
    expected = {name for name in DETECTION | EVERYTHING if "seg" not in name or name[:3] in stages}
    assert set(shapes_of_terms(config, teacher)) == expected


def test_terms_are_finite_and_the_sample_has_padding(clean):
    _, terms, gradients, seen = clean
    assert set(terms) == DETECTION | EVERYTHING
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for stage in STAGES:
        assert seen[stage].any(1).all()
        assert not seen[stage].all()


def test_every_layer_of_the_student_learns(clean):
    _, _, (gradient, _), _ = clean
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.abs(leaf).max() > 0
    ]
    assert dead == []


def test_no_gradient_reaches_the_teacher(clean):
    _, _, (_, gradient), _ = clean
    leaves = jax.tree.leaves(gradient)
    assert len(leaves) > 40
    assert not any(leaf.any() for leaf in leaves)


def test_eq_15_teacher_s_features_are_both_branches_conv5_maps_one_after_the_other(setting, clean, teacher_says):
    _, _, (params, _) = setting
    run, terms, _, _ = clean
    layer = params["adaption_layer"]
    adapted = np.asarray(run.features, np.float64) @ layer["kernel"][0, 0] + layer["bias"]
    expected = np.mean((adapted - np.concatenate(teacher_says[0].maps, axis=-1)) ** 2)
    np.testing.assert_allclose(terms["fea"], expected, rtol=1e-5)


def test_eq_16_teacher_judges_the_student_s_own_anchors_and_rois(clean, teacher_says):
    run, terms, _, _ = clean
    _, rpg, rdr = teacher_says
    rows = np.arange(4)[:, None]
    for stage, logits in (("rpg", rpg.logits[rows, run.anchors]), ("rdr", rdr.logits)):
        own = getattr(run, stage)
        expected = mean_cross_entropy(own.outputs.logits, softmax(logits / 2.0), own.targets.is_sampled)
        np.testing.assert_allclose(terms[f"{stage}_cls_soft"], expected, rtol=1e-5)


def test_eq_17_teacher_s_offsets_of_the_same_anchors_and_rois_are_the_bound(clean, teacher_says):
    run, terms, _, _ = clean
    _, rpg, rdr = teacher_says
    rows = np.arange(4)[:, None]
    for stage, offsets in (("rpg", rpg.offsets[rows, run.anchors]), ("rdr", rdr.offsets)):
        own = getattr(run, stage)
        goal = np.asarray(own.targets.offsets, np.float64)
        error, bound = (np.sum((x - goal) ** 2, axis=-1) for x in (own.outputs.offsets, offsets))
        positive = own.targets.is_positive & own.targets.is_sampled
        is_worse = positive & (error + 0.5 > bound)
        assert 0 < is_worse.sum() < positive.sum(), stage
        expected = np.mean(np.sum(np.where(is_worse, error, 0), axis=1) / own.targets.is_sampled.sum(1))
        np.testing.assert_allclose(terms[f"{stage}_reg_bound"], expected, rtol=1e-5)


def test_eq_18_teacher_s_masks_are_of_the_whole_map_and_of_the_student_s_rois(clean, teacher_says):
    run, terms, _, _ = clean
    _, rpg, rdr = teacher_says
    for stage, guide in (("rpg", rpg), ("rdr", rdr)):
        own = getattr(run, stage)
        labels = softmax(guide.segmentation_logits)
        expected = mean_cross_entropy(own.outputs.segmentation_logits, labels, own.counted)
        np.testing.assert_allclose(terms[f"{stage}_seg_soft"], expected, rtol=1e-5)


def test_nan_in_the_padding_reaches_no_term_and_no_gradient(one_pass, clean):
    batch = make_batch()
    unused = ~(batch.is_person | batch.is_ignore)
    poisoned = batch._replace(boxes=np.where(unused[..., None], np.float32(np.nan), batch.boxes))
    assert np.isnan(poisoned.boxes).any()
    _, terms, gradients, _ = one_pass(poisoned, np.nan)
    assert terms == clean[1]
    jax.tree.map(np.testing.assert_array_equal, gradients, clean[2])


def test_thermal_image_changes_the_distillation_and_no_term_of_the_student_s_own(one_pass, clean):
    batch = make_batch()
    run, terms, _, _ = one_pass(batch._replace(lwir=255 - batch.lwir))
    jax.tree.map(np.testing.assert_array_equal, run, clean[0])
    assert {name for name in terms if terms[name] == clean[1][name]} >= DETECTION
    for name in EVERYTHING - ADDED["bbr"]:
        assert terms[name] != clean[1][name], name


def test_only_the_student_proposes_regions(setting, monkeypatch):
    config, networks, params = setting
    rules, calls = training_rules(config), []
    original = training_terms.propose

    def counted(*arguments, **keywords):
        calls.append(arguments)
        return original(*arguments, **keywords)

    monkeypatch.setattr(training_terms, "propose", counted)

    def run_student(params):
        return forward(networks[0], params, make_batch(), image_keys(), rules)

    run = jax.eval_shape(run_student, params[0])
    assert len(calls) == 1
    jax.eval_shape(
        lambda run, params: distillation_terms(
            run, networks[0], params[0], networks[1], params[1], make_batch(), rules
        ),
        run,
        params,
    )
    assert len(calls) == 1


class NanTeacher:
    """A teacher whose outputs are NaN; its own model, too."""

    @property
    def model(self):
        return self

    def apply(self, variables, *arguments, method):
        outputs = RegionOutputs(jnp.full((4, 72, 2), jnp.nan), jnp.full((4, 72, 4), jnp.nan), None)
        return (None, outputs) if method == "propose_regions" else outputs


def test_with_everything_off_loss_and_gradient_are_the_baseline_s_bit_for_bit(tiny_config, random_params):
    off, alone = student_config(tiny_config), tiny_config("baseline")
    alone.roi.sampled = 48
    alone.loss.update(box_weight=0.5, segmentation_weight=0.75)
    student, baseline = build_network(off), build_network(alone)
    params = random_params(baseline)

    def student_loss(params, batch):
        _, terms = all_terms((student, NanTeacher()), (params, None), batch, off)
        return weighted_sum(terms, training_rules(off).weights)

    def baseline_loss(params, batch):
        rules = training_rules(alone)
        run = forward(baseline, params, batch, image_keys(), rules)
        return weighted_sum(detection_terms(run), rules.weights)

    batch = make_batch()
    value, gradient = jax.jit(jax.value_and_grad(student_loss))(params, batch)
    expected, expected_gradient = jax.jit(jax.value_and_grad(baseline_loss))(params, batch._replace(lwir=None))
    assert value == expected > 0
    assert jax.tree.structure(gradient) == jax.tree.structure(expected_gradient)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected_gradient)
