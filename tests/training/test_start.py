"""What training starts from: which parameters are restored, new and left out, and which checkpoints are refused."""

import contextlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from training_cases import assert_same_bits, changed

from configs import baseline, finetune, student, teacher
from dcrl_jax.errors import InputError
from dcrl_jax.models.network import build_network
from dcrl_jax.training import start


def no_images():
    raise AssertionError("only init.rescale looks at images")


@pytest.fixture
def begin(tiny_config, random_params, monkeypatch):
    """Start a detector from a checkpoint of another; return both parameter trees and the result."""

    def run(role="baseline", there="baseline", here=None, **changes):
        config, others = here or tiny_config(role), tiny_config(there)
        others.update_from_flattened_dict(changes)
        config.init.checkpoint = "runs/other"
        theirs, network = random_params(build_network(others)), build_network(config)
        own = random_params(network, seed=3)
        monkeypatch.setattr(start.checkpoints, "restore_params", lambda path: (dict(theirs), others, 7))
        monkeypatch.setattr(type(network), "init_params", lambda *_: own)
        monkeypatch.setattr(type(network), "param_shapes", lambda _: own)
        return own, theirs, start.first_params(network, config, start.read_start(network, config), no_images)

    return run


@pytest.mark.parametrize("recipe", [teacher, student, baseline])
def test_recipes_on_kaist_start_from_vgg16_and_the_others_from_nothing(recipe, monkeypatch, capsys):
    network = SimpleNamespace(init_params=lambda seed: {"a": "random", "b": "random"})
    monkeypatch.setattr(start.pretrained, "load_vgg16", lambda path, params: (path, params))
    source = "hf://timm/vgg16.tv_in1k/model.safetensors"
    assert start.first_params(network, recipe.get_config("kaist/literal"), {}, no_images) == (
        source,
        {"a": "random", "b": "random"},
    )
    assert capsys.readouterr().out == f"init: VGG-16 convolutions from {source}\n"
    from_checkpoint, from_nothing = recipe.get_config("kaist/literal"), recipe.get_config()
    from_checkpoint.init.checkpoint, from_nothing.init.vgg16 = "runs/other", ""
    for config in (recipe.get_config("synthetic"), from_checkpoint, from_nothing):
        assert start.first_params(network, config, {"b": "given"}, no_images) == {"a": "random", "b": "given"}


def test_features_are_rescaled_if_the_config_says_so(monkeypatch, capsys):
    network = SimpleNamespace(init_params=lambda seed: {"a": "random"}, model="model")
    monkeypatch.setattr(start.pretrained, "load_vgg16", lambda path, params: "vgg16")
    monkeypatch.setattr(start, "rescale", lambda *arguments: arguments)
    config, images = baseline.get_config("kaist/literal"), [np.zeros((3, 4, 4, 3), np.uint8)]
    config.init.rescale = True
    assert start.first_params(network, config, {}, lambda: images) == ("model", "vgg16", images)
    assert capsys.readouterr().out.endswith("init: all features scaled to RMS 1 on 3 training images\n")


def size(tree):
    leaves = jax.tree.leaves(tree)
    return f"({sum(leaf.size for leaf in leaves):,} in {len(leaves)} arrays)"


@pytest.mark.parametrize(("role", "there"), [("student", "baseline"), ("baseline", "student")])
def test_student_and_baseline_start_from_each_other(begin, capsys, role, there):
    own, theirs, params = begin(role, there)
    assert params.keys() == own.keys()
    for name, tree in params.items():
        assert_same_bits(tree, own[name] if name == "adaption_layer" else theirs[name])
    shared = sorted(set(own) - {"adaption_layer"})
    layer = f"adaption_layer {size((own | theirs)['adaption_layer'])}"
    inputs = "synthetic_rgbt at 48x32, anchors 2 to 31 px"
    assert capsys.readouterr().out.splitlines() == [
        f"init: from runs/other, step 7, a {there}; {inputs} there, {inputs} here",
        "  restored: " + ", ".join(f"{name} {size(theirs[name])}" for name in shared),
        f"  new: {layer if role == 'student' else 'nothing'}",
        f"  left out: {layer if there == 'student' else 'nothing'}",
    ]


def test_only_arrays_that_are_missing_or_of_another_shape_are_new(begin, tiny_config, capsys):
    here = changed(tiny_config("baseline"), {"data.height_px": 64, "data.width_px": 72})
    own, theirs, params = begin(here=here, **{"roi.hidden": 12, "segmentation.stages": ("rpg",)})
    for name in set(own) - {"roi_head", "segmentation_rdr"}:
        assert_same_bits(params[name], theirs[name])
    assert_same_bits(params["segmentation_rdr"], own["segmentation_rdr"])
    for new, old, result in zip(*(jax.tree.leaves(tree["roi_head"]) for tree in (own, theirs, params)), strict=True):
        np.testing.assert_array_equal(result, old if new.shape == old.shape else new)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("48x32, anchors 2 to 31 px there, synthetic_rgbt at 72x64, anchors 4 to 62 px here")
    differing = [line for line in lines if line.startswith("  of another shape: ")]
    assert "  of another shape: roi_head/fc6/bias: (12,) there, (8,) here" in differing
    new = next(line for line in lines if line.startswith("  new: "))
    assert new.startswith("  new: roi_head (")
    assert new.endswith(f" in {len(differing)} arrays), segmentation_rdr {size(own['segmentation_rdr'])}")


@pytest.mark.parametrize(
    ("role", "there", "changes", "message"),
    [
        (
            "baseline",
            "baseline",
            {"backbone.width": 1 / 8, "roi.hidden": 12},
            r"conv1_1/bias: \(8,\) there, \(4,\) here, and 25 more\. Its own: "
            r"--config\.backbone\.width=0\.125 --config\.roi\.hidden=12$",
        ),
        ("student", "teacher", {}, r"conv1_1/bias: not there, \(4,\) here"),
    ],
)
def test_another_backbone_is_refused_with_the_keys_of_its_network(begin, capsys, role, there, changes, message):
    with pytest.raises(
        InputError, match=rf"^runs/other is of another network, with another backbone: backbone/{message}"
    ):
        begin(role, there, **changes)
    assert capsys.readouterr().out == ""


def test_frozen_blocks_need_a_start_that_is_not_random(tiny_config):
    config = tiny_config()
    config.backbone.frozen_blocks = 2
    with pytest.raises(InputError, match=r"frozen_blocks is 2, but these blocks would keep random values"):
        start.read_start(None, config)


@pytest.mark.parametrize(("row", "wanted"), [("", "student or a baseline"), ("dcrd", "student")])
def test_fine_tuning_needs_a_checkpoint(row, wanted):
    config = finetune.get_config(f"synthetic_visible{row and '/'}{row}")
    with pytest.raises(InputError, match=f"fine-tunes a trained {wanted}: give --config.init.checkpoint=PATH"):
        start.read_start(None, config)


@pytest.mark.parametrize(
    ("row", "there", "former", "refused"),
    [
        ("dcrd", "student", (), None),
        ("dcrd", "baseline", (), "holds a baseline, and this recipe fine-tunes a student"),
        ("baseline", "student", (), "holds a student, and this recipe fine-tunes a baseline"),
        # A fine-tuned detector counts as what it was before.
        ("dcrd", "baseline", finetune.ROWS["dcrd"], None),
        ("", "baseline", finetune.ROWS["dcrd"], None),
        ("dcrd", "baseline", finetune.ROWS[""], "holds a student or a baseline, and this recipe fine-tunes a student"),
        ("baseline", "baseline", finetune.ROWS["dcrd"], "holds a student, and this recipe fine-tunes a baseline"),
    ],
)
def test_row_of_table_v_needs_its_own_kind_of_checkpoint(begin, tiny_config, capsys, row, there, former, refused):
    here = tiny_config("baseline")
    here.init.roles = finetune.ROWS[row]
    refusal = pytest.raises(InputError, match=f"runs/other {refused}") if refused else contextlib.nullcontext()
    with refusal:
        begin(here=here, there=there, **{"init.roles": former})
    assert ("step 7, a student; " in capsys.readouterr().out) == (refused is None)
