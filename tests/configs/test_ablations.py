"""The ablations: every row of the paper's tables is there, with its figure, and can be trained."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from configs import ablations, baseline, student, teacher
from dcrl_jax import parallel
from dcrl_jax.models import student as student_module
from dcrl_jax.models import teacher as teacher_module
from dcrl_jax.models.network import build_network
from dcrl_jax.training.data import empty_batch
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState, make_step
from dcrl_jax.training.terms import training_rules

# Miss rates in percent, as the paper's tables and the text on Fig. 6 give them: 23.37 and the gap of 3.87; 25.89
# becomes 30.07.
FIGURES = {
    **{"table2/without-mfl": 25.42, "table2/without-aas": 24.85, "table2/without-sfl": 24.06, "table2/cfl": 23.37},
    **{"table3/average": 24.63, "table3/linear": 25.35, "table3/maf": 23.37},
    **{"table4/baseline": 46.23, "table4/fea": 38.35, "table4/cls": 40.46, "table4/bbr": 37.97, "table4/seg": 41.52},
    **{"table4/cls+bbr": 34.18, "table4/cls+bbr+fea": 29.86, "table4/cls+bbr+fea+seg": 25.89},
    **{"table6/none": 25.23, "table6/rpg": 23.92, "table6/rdr": 24.68, "table6/rpg+rdr": 23.37},
    **{"fig6/teacher-without-cfl": 27.24, "fig6/student-without-cfl": 30.07},
}
TERMS_OF = {
    "fea": {"fea"},
    "cls": {"rpg_cls_soft", "rdr_cls_soft"},
    "bbr": {"rpg_reg_bound", "rdr_reg_bound"},
    "seg": {"rpg_seg_soft", "rdr_seg_soft"},
}
ALL_TERMS = set().union(*TERMS_OF.values())
every_row = pytest.mark.parametrize("name", ablations.ROWS)


def distilling(*on):
    return {f"distillation.{term}": term in on for term in TERMS_OF}


def test_names_cover_the_tables_with_the_paper_s_figures():
    assert {name: row.paper_percent for name, row in ablations.ROWS.items()} == FIGURES


@pytest.mark.parametrize(
    ("name", "recipe", "changes"),
    [
        ("table2/cfl", teacher, {}),
        # Sec. V-D: alpha = 0, alpha = 1, average pooling instead of the attention.
        ("table2/without-sfl", teacher, {"cfl.shared_fraction": 0.0}),
        ("table2/without-mfl", teacher, {"cfl.shared_fraction": 1.0}),
        ("table2/without-aas", teacher, {"cfl.aggregation": "average"}),
        ("table3/average", teacher, {"fusion.strategy": "average"}),
        ("table3/linear", teacher, {"fusion.strategy": "linear"}),
        ("table3/maf", teacher, {}),
        ("table4/baseline", baseline, {}),
        *((f"table4/{'+'.join(on)}", student, distilling(*on)) for on in (("fea",), ("cls",), ("bbr",), ("seg",))),
        ("table4/cls+bbr", student, distilling("cls", "bbr")),
        *((f"table4/cls+bbr+fea:{data}", student, distilling("cls", "bbr", "fea")) for data in ("synthetic", "msrs")),
        ("table4/cls+bbr+fea+seg", student, {}),
        ("table6/none", teacher, {"segmentation.stages": ()}),
        ("table6/rpg", teacher, {"segmentation.stages": ("rpg",)}),
        ("table6/rdr", teacher, {"segmentation.stages": ("rdr",)}),
        ("table6/rpg+rdr:kaist", teacher, {}),
        ("fig6/teacher-without-cfl", teacher, {"cfl.enabled": False}),
        ("fig6/student-without-cfl", student, {"teacher.cfl.enabled": False}),
    ],
)
def test_row_is_the_recipe_but_for_what_its_name_says(name, recipe, changes):
    expected = recipe.get_config(name.partition(":")[2] or "kaist")
    expected.update_from_flattened_dict(changes)
    assert ablations.get_config(name).to_dict() == expected.to_dict()


@pytest.mark.parametrize("argument", ["table5/baseline", "table4/fea+cls", "cfl:synthetic", "", "synthetic"])
def test_unknown_name_is_refused_with_the_command_that_lists_them(argument):
    message = f"no ablation is called {argument.partition(':')[0]!r}; python -m configs.ablations lists them"
    with pytest.raises(ValueError, match=re.escape(message)):
        ablations.get_config(argument)


def test_command_lists_every_name_with_its_figure(capsys):
    ablations.main([])
    title, *lines = capsys.readouterr().out.splitlines()
    assert "--config=configs/ablations.py:NAME" in title
    assert {line.split()[0]: float(line.split()[1]) for line in lines} == FIGURES
    with pytest.raises(SystemExit, match="1"):
        ablations.main(["table4/fea"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "unrecognized arguments: table4/fea" in printed.err


# Steps.


@pytest.fixture(scope="module")
def three_blocks(shallow_backbone):
    """Three of VGG's blocks, all of equal width: the fewest that have a stride of 8, and half the time to compile."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (teacher_module, student_module):
            patch.setattr(module, "BLOCKS", module.BLOCKS[:3])
        yield


def shrink(config):
    """Bring a config to 48x32 pixels and 4 channels; its first step already moves the parameters."""
    config.data.update(height_px=32, width_px=48, max_boxes=2)
    config.train.batch_size = jax.device_count()
    config.backbone.update(width=1 / 128, norm="none")
    config.anchors.per_cell = 3
    config.rpn.update(sampled=24, max_positive=8, before_nms=24, kept_training=16)
    config.roi.update(size=3, sampled=16, max_positive=4, hidden=8)
    config.loss.per_branch_weight = 0.0
    config.optimizer.update(name="sgd", learning_rate=0.01, warmup_steps=0, clip_norm=0.0)
    if config.role == "teacher":
        config.fusion.update(grid=(2, 3), hidden=8)
    return config


def build_step(name):
    """Return a row's step on one device, the shapes of its state, the networks of student and teacher, and a batch."""
    config = ablations.get_config(f"{name}:synthetic")
    guide = shrink(teacher_config(config)) if config.role == "student" else None
    config = shrink(config)
    network, *guides = (build_network(each) for each in (config, guide) if each)
    optimizer = build_optimizer(config, build_schedule(config, training_images=100))
    step = make_step(network, optimizer, training_rules(config), config.seed, *guides)
    step = parallel.parallel_step(step, Mesh(jax.local_devices()[:1], (parallel.AXIS,)), len(guides))
    params = network.param_shapes()
    state = TrainState(jax.ShapeDtypeStruct((), np.int32), params, jax.eval_shape(optimizer.init, params))
    return step, state, (network, *guides), empty_batch(config, 1)


def distilled_terms(name):
    """Return the terms that a row's teacher adds."""
    if name == "fig6/student-without-cfl":
        return ALL_TERMS
    return set().union(*(TERMS_OF.get(term, ()) for term in name.removeprefix("table4/").split("+")))


@every_row
@pytest.mark.usefixtures("three_blocks")
def test_row_has_a_step_with_its_terms(name):
    step, state, (_, *guides), batch = build_step(name)
    frozen = [guide.param_shapes() for guide in guides]
    new, metrics = jax.eval_shape(step, state, *frozen, batch)
    assert jax.tree.map(lambda leaf: leaf.shape, new) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert {leaf.shape for leaf in metrics.values()} == {()}
    assert metrics.keys() & ALL_TERMS == distilled_terms(name)


@pytest.mark.slow
@every_row
@pytest.mark.usefixtures("three_blocks", "quick_compile")
def test_row_takes_one_step(name, random_params):
    step, state, (network, *guides), batch = build_step(name)
    mesh = Mesh(jax.local_devices()[:1], (parallel.AXIS,))
    params, frozen = random_params(network), tuple(random_params(guide, seed=1) for guide in guides)
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state.opt_state)
    start = parallel.replicate(TrainState(np.int32(0), jax.tree.map(np.array, params), opt_state), mesh)
    # A person and padding in noise.
    images = np.random.default_rng(11).integers(0, 256, (1, 1, 32, 48, 4), dtype=np.uint8)
    batch = batch._replace(visible=images[..., :3], lwir=None if batch.lwir is None else images[..., 3:])
    batch.boxes[0, 0, 0], batch.is_person[0, 0, 0] = [4, 4, 12, 24], True
    new, metrics = step(start, *parallel.replicate(frozen, mesh), jax.device_put(batch, parallel.batch_sharding(mesh)))
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert metrics["loss"] > 0
    assert new.step == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
    moved = jax.tree.map(lambda before, after: np.any(before != after), params, jax.device_get(new.params))
    assert np.mean(jax.tree.leaves(moved)) > 0.5
