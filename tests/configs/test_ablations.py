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
from dcrl_jax.structures import Batch
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState, make_step
from dcrl_jax.training.terms import training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone", "three_blocks")

# Miss rates in percent, as the paper's tables and the text on Fig. 6 give them.
PAPER = {
    "table2": {"without-mfl": 25.42, "without-aas": 24.85, "without-sfl": 24.06, "cfl": 23.37},
    "table3": {"average": 24.63, "linear": 25.35, "maf": 23.37},
    "table4": {
        "baseline": 46.23,
        "fea": 38.35,
        "cls": 40.46,
        "bbr": 37.97,
        "seg": 41.52,
        "cls+bbr": 34.18,
        "cls+bbr+fea": 29.86,
        "cls+bbr+fea+seg": 25.89,
    },
    "table6": {"none": 25.23, "rpg": 23.92, "rdr": 24.68, "rpg+rdr": 23.37},
    # 23.37 and the gap of 3.87; 25.89 becomes 30.07.
    "fig6": {"teacher-without-cfl": 27.24, "student-without-cfl": 30.07},
}
FIGURES = {f"{table}/{name}": percent for table, rows in PAPER.items() for name, percent in rows.items()}
EVERY_ROW = pytest.mark.parametrize("name", ablations.ROWS)
TERMS_OF = {
    "fea": {"fea"},
    "cls": {"rpg_cls_soft", "rdr_cls_soft"},
    "bbr": {"rpg_reg_bound", "rdr_reg_bound"},
    "seg": {"rpg_seg_soft", "rdr_seg_soft"},
}


@pytest.fixture(scope="module")
def three_blocks():
    """Three of VGG's blocks, all of equal width: the fewest that have a stride of 8, and half the time to compile."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (teacher_module, student_module):
            patch.setattr(module, "BLOCKS", module.BLOCKS[:3])
        yield


def shrink(config):
    """Brings a config to 48x32 pixels and 4 channels; its first step already moves the parameters."""
    config.data.height_px, config.data.width_px = 32, 48
    config.data.max_boxes = 2
    config.backbone.width = 1 / 128
    config.backbone.norm = "none"
    config.anchors.per_cell = 3
    config.rpn.update(sampled=24, max_positive=8, before_nms=24, kept_training=16)
    config.roi.update(size=3, sampled=16, max_positive=4, hidden=8)
    config.loss.per_branch_weight = 0.0
    config.optimizer.update(name="sgd", learning_rate=0.01, warmup_steps=0, clip_norm=0.0)
    if config.role == "teacher":
        config.fusion.update(grid=(2, 3), hidden=8)
    return config


def one_image():
    """A pair with a person and padding, as the only image of the only device."""
    rng = np.random.default_rng(11)
    return Batch(
        visible=rng.integers(0, 256, (1, 1, 32, 48, 3), dtype=np.uint8),
        lwir=rng.integers(0, 256, (1, 1, 32, 48, 1), dtype=np.uint8),
        boxes=np.array([[[[4, 4, 12, 24], [0, 0, 0, 0]]]], np.float32),
        is_person=np.array([[[True, False]]]),
        is_ignore=np.zeros((1, 1, 2), bool),
        is_night=np.zeros((1, 1), bool),
        index=np.zeros((1, 1), np.int32),
        valid=np.ones((1, 1), bool),
    )


def compile_step(config, guide, random_params):
    """One compiled step on one device, placed as the training loop places it, with its arguments."""
    network = build_network(config)
    params = random_params(network)
    mesh = Mesh(jax.local_devices()[:1], (parallel.AXIS,))
    optimizer = build_optimizer(config, build_schedule(config, training_images=100))
    frozen, teacher = (), None
    if guide is not None:
        teacher = build_network(guide)
        frozen = (parallel.replicate(random_params(teacher, seed=1), mesh),)
    step = make_step(network, optimizer, training_rules(config), config.seed, teacher)
    step = parallel.parallel_step(step, mesh, frozen_arguments=len(frozen))
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(optimizer.init, params))
    state = TrainState(np.int32(0), params, opt_state)
    batch = one_image()._replace(lwir=None) if config.role == "baseline" else one_image()
    arguments = parallel.replicate(state, mesh), *frozen, jax.device_put(batch, parallel.batch_sharding(mesh))
    return step.lower(*arguments).compile(), arguments


@pytest.fixture(scope="module")
def take_one_step(random_params):
    """``run(config, guide)``: parameters before a step, the state after it and its metrics; equal recipes run once."""
    done = {}

    def run(config, guide):
        key = config.to_json(), guide and guide.to_json()
        if key not in done:
            compiled, arguments = compile_step(config, guide, random_params)
            before = jax.tree.map(np.array, jax.device_get(arguments[0].params))
            done[key] = before, *jax.device_get(compiled(*arguments))
        return done[key]

    return run


def test_names_cover_the_tables_with_the_paper_s_figures():
    assert {name: row.paper_percent for name, row in ablations.ROWS.items()} == FIGURES
    assert {table: len(rows) for table, rows in PAPER.items()} == {
        "table2": 4,
        "table3": 3,
        "table4": 8,
        "table6": 4,
        "fig6": 2,
    }


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # Sec. V-D: alpha = 0, alpha = 1, average pooling instead of the attention.
        ("table2/without-sfl", {"cfl.shared_fraction": 0.0}),
        ("table2/without-mfl", {"cfl.shared_fraction": 1.0}),
        ("table2/without-aas", {"cfl.aggregation": "average"}),
        ("table3/average", {"fusion.strategy": "average"}),
        ("table3/linear", {"fusion.strategy": "linear"}),
        ("table6/none", {"segmentation.stages": ()}),
        ("table6/rpg", {"segmentation.stages": ("rpg",)}),
        ("table6/rdr", {"segmentation.stages": ("rdr",)}),
        ("fig6/teacher-without-cfl", {"cfl.enabled": False}),
        *((name, {}) for name in ("table2/cfl", "table3/maf", "table6/rpg+rdr")),
    ],
)
def test_teacher_s_row_is_the_paper_s_teacher_but_for_what_it_leaves_out(name, changes):
    expected = teacher.get_config()
    expected.update_from_flattened_dict(changes)
    assert ablations.get_config(name).to_dict() == expected.to_dict()


@pytest.mark.parametrize("name", [name for name in ablations.ROWS if name.startswith("table4/")])
def test_table_iv_row_distils_what_its_name_says_and_nothing_else(name):
    on = name.removeprefix("table4/").split("+")
    expected = baseline.get_config() if on == ["baseline"] else student.get_config()
    if on != ["baseline"]:
        expected.distillation.update({term: term in on for term in TERMS_OF})
    assert ablations.get_config(name).to_dict() == expected.to_dict()


def test_fig_6_student_learns_from_a_teacher_without_cfl():
    config = ablations.get_config("fig6/student-without-cfl")
    expected = student.get_config()
    expected.teacher.cfl.enabled = False
    assert config.to_dict() == expected.to_dict()
    assert not teacher_config(config).cfl.enabled


@EVERY_ROW
def test_row_builds_and_takes_one_step(name, take_one_step):
    config = ablations.get_config(f"{name}:synthetic")
    guide = teacher_config(config) if config.role == "student" else None
    params, state, metrics = take_one_step(shrink(config), guide and shrink(guide))
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert metrics["loss"] > 0
    assert state.step == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    moved = jax.tree.map(lambda before, after: np.any(before != after), params, state.params)
    assert np.mean(jax.tree.leaves(moved)) > 0.5
    everything = set().union(*TERMS_OF.values())
    on = name.removeprefix("table4/").split("+")
    distilled = set().union(*(terms for term, terms in TERMS_OF.items() if term in on))
    assert set(metrics) & everything == (everything if name == "fig6/student-without-cfl" else distilled)


@pytest.mark.parametrize("data", ["synthetic", "msrs"])
def test_name_is_followed_by_the_data_set(data):
    config = ablations.get_config(f"table4/cls+bbr+fea:{data}")
    expected = student.get_config(data)
    expected.distillation.seg = False
    assert config.to_dict() == expected.to_dict()
    assert ablations.get_config("table2/cfl:kaist").to_dict() == ablations.get_config("table2/cfl").to_dict()


@pytest.mark.parametrize("argument", ["table5/baseline", "table4/fea+cls", "cfl:synthetic", "", "synthetic"])
def test_unknown_name_is_refused_with_the_command_that_lists_them(argument):
    message = f"no ablation is called {argument.partition(':')[0]!r}; python -m configs.ablations lists them"
    with pytest.raises(ValueError, match=re.escape(message)):
        ablations.get_config(argument)


def test_no_name_is_refused_as_an_unknown_one_is():
    with pytest.raises(ValueError, match=r"no ablation is called ''; python -m configs\.ablations lists them"):
        ablations.get_config()


def test_unknown_data_set_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="kaist/mlpd, synthetic, msrs, not 'moon'"):
        ablations.get_config("table2/cfl:moon")


def test_command_lists_every_name_with_its_figure(capsys):
    ablations.main([])
    title, *lines = capsys.readouterr().out.splitlines()
    assert "--config=configs/ablations.py:NAME" in title
    assert {line.split()[0]: float(line.split()[1]) for line in lines} == FIGURES


def test_command_has_help_and_refuses_arguments_that_it_does_not_know(capsys):
    with pytest.raises(SystemExit, match="0"):
        ablations.main(["--help"])
    assert "Every ablation of the paper by name" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        ablations.main(["table4/fea"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "unrecognized arguments: table4/fea" in printed.err
