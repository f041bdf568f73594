"""What training starts from: what is restored, new and left out, and what is refused."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from training_cases import assert_same_bits

from configs import baseline, finetune, student, teacher
from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.models.network import build_network
from dcrl_jax.training import start, train


@pytest.fixture
def begin(tiny_config, random_params, monkeypatch):
    """Starts a detector from a checkpoint of another; gives both parameter trees and the result."""

    def run(role="baseline", there="baseline", here=None, **changes):
        config, others = here or tiny_config(role), tiny_config(there)
        others.update_from_flattened_dict(changes)
        config.init.checkpoint = "runs/other"
        theirs, network = random_params(build_network(others)), build_network(config)
        own = random_params(network, seed=3)
        monkeypatch.setattr(start.checkpoints, "restore_params", lambda path: (dict(theirs), others, 7))
        monkeypatch.setattr(type(network), "init_params", lambda *_: own)
        monkeypatch.setattr(type(network), "param_shapes", lambda _: own)
        return own, theirs, start.first_params(network, config, start.read_start(network, config))

    return run


@pytest.mark.parametrize("recipe", [teacher, student, baseline])
def test_recipes_on_kaist_start_from_imagenet_s_vgg16_and_the_others_from_nothing(recipe, monkeypatch, capsys):
    network = SimpleNamespace(init_params=lambda seed: {"a": "random"})
    monkeypatch.setattr(start.pretrained, "load_vgg16", lambda path, params: (path, params))
    source = "hf://timm/vgg16.tv_in1k/model.safetensors"
    assert start.first_params(network, recipe.get_config(), {}) == (source, {"a": "random"})
    assert capsys.readouterr().out == f"init: VGG-16 convolutions from {source}\n"
    for other in ("synthetic", "msrs"):
        assert start.first_params(network, recipe.get_config(other), {}) == {"a": "random"}


def test_checkpoint_or_an_empty_name_takes_the_place_of_imagenet_s_weights(monkeypatch):
    monkeypatch.setattr(start.pretrained, "load_vgg16", lambda *_: pytest.fail("loaded"))
    network = SimpleNamespace(init_params=lambda seed: {"a": "random", "b": "random"})
    for key, value in (("checkpoint", "runs/other"), ("vgg16", "")):
        config = baseline.get_config()
        config.init[key] = value
        assert start.first_params(network, config, {"b": "given"}) == {"a": "random", "b": "given"}


def size(tree):
    leaves = jax.tree.leaves(tree)
    return f"({sum(leaf.size for leaf in leaves):,} in {len(leaves)} arrays)"


@pytest.mark.parametrize(("role", "there"), [("student", "baseline"), ("baseline", "student")])
def test_student_and_baseline_start_from_each_other_and_differ_in_the_adaption_layer(begin, capsys, role, there):
    own, theirs, params = begin(role, there)
    assert params.keys() == own.keys()
    for name, tree in params.items():
        assert_same_bits(tree, own[name] if name == "adaption_layer" else theirs[name])
    lines = capsys.readouterr().out.splitlines()
    input_there = "synthetic_rgbt at 48x32, anchors 2 to 31 px"
    assert lines[0] == f"init: from runs/other, step 7, a {there}; {input_there} there, {input_there} here"
    shared = sorted(set(own) - {"adaption_layer"})
    assert lines[1] == "  restored: " + ", ".join(f"{name} {size(theirs[name])}" for name in shared)
    layer = f"adaption_layer {size((own | theirs)['adaption_layer'])}"
    assert lines[2] == f"  new: {layer if role == 'student' else 'nothing'}"
    assert lines[3] == f"  left out: {layer if there == 'student' else 'nothing'}"
    assert len(lines) == 4


def test_another_input_size_changes_no_shape_and_is_said(begin, tiny_config, capsys):
    here = tiny_config("baseline")
    here.data.height_px, here.data.width_px = 64, 72
    _, theirs, params = begin(here=here)
    assert_same_bits(params, theirs)
    printed = capsys.readouterr().out
    assert "at 48x32, anchors 2 to 31 px there, synthetic_rgbt at 72x64, anchors 4 to 62 px here" in printed
    assert "  new: nothing\n  left out: nothing\n" in printed


def test_arrays_of_another_shape_are_new_and_named(begin, capsys):
    own, theirs, params = begin(**{"roi.hidden": 12})
    for name in set(own) - {"roi_head"}:
        assert_same_bits(params[name], theirs[name])
    jax.tree.map(
        lambda result, new, old: np.testing.assert_array_equal(result, old if new.shape == old.shape else new),
        params["roi_head"],
        own["roi_head"],
        theirs["roi_head"],
    )
    lines = capsys.readouterr().out.splitlines()
    differing = [line for line in lines if line.startswith("  of another shape: ")]
    assert "  of another shape: roi_head/fc6/bias: (12,) there, (8,) here" in differing
    new = next(line for line in lines if line.startswith("  new: "))
    assert new.startswith("  new: roi_head (")
    assert new.endswith(f" in {len(differing)} arrays)")


def test_parts_that_the_checkpoint_lacks_are_new(begin, capsys):
    own, _, params = begin(**{"segmentation.stages": ("rpg",)})
    assert_same_bits(params["segmentation_rdr"], own["segmentation_rdr"])
    assert f"  new: segmentation_rdr {size(own['segmentation_rdr'])}\n" in capsys.readouterr().out


def test_another_backbone_is_refused_with_the_keys_of_its_network(begin, capsys):
    message = (
        r"runs/other is of another network: backbone/conv1_1/bias: \(8,\) there, \(4,\) here, and 25 more arrays of "
        r"the backbone\. Its own: --config\.backbone\.width=0\.125 --config\.roi\.hidden=12$"
    )
    with pytest.raises(InputError, match=message):
        begin(**{"backbone.width": 1 / 8, "roi.hidden": 12})
    assert capsys.readouterr().out == ""


def test_teacher_is_no_start_of_a_student(begin):
    with pytest.raises(InputError, match=r"another network: backbone/conv1_1/bias: not there, \(4,\) here"):
        begin("student", "teacher")


ROLES = {"": ("student", "baseline"), "/baseline": ("baseline",), "/dcrd": ("student",)}


@pytest.mark.parametrize("row", ROLES)
def test_fine_tuning_without_a_checkpoint_is_refused_before_anything_is_written(row, tiny_config, tmp_path):
    config = tiny_config("baseline")
    config.init.roles = finetune.get_config("synthetic_visible" + row).init.roles
    config.data.data_dir = str(tmp_path / "data")
    wanted = " or a ".join(ROLES[row])
    with pytest.raises(InputError, match=f"fine-tunes a trained {wanted}: give --config.init.checkpoint=PATH"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("row", "there"), [("dcrd", "baseline"), ("baseline", "student")])
def test_row_refuses_the_other_row_s_checkpoint_and_names_both(begin, tiny_config, row, there):
    here = tiny_config("baseline")
    here.init.roles = finetune.ROWS[row]
    with pytest.raises(
        InputError, match=f"runs/other holds a {there}, and this recipe fine-tunes a {here.init.roles[0]}"
    ):
        begin(here=here, there=there)


@pytest.mark.parametrize(
    ("row", "former", "fits"),
    [("dcrd", "dcrd", True), ("dcrd", "", False), ("", "dcrd", True), ("baseline", "dcrd", False)],
)
def test_what_was_fine_tuned_is_what_it_was_before(begin, tiny_config, row, former, fits, capsys):
    here = tiny_config("baseline")
    here.init.roles = finetune.ROWS[row]
    changes = {"init.roles": finetune.ROWS[former]}
    if fits:
        begin(here=here, **changes)
        assert "step 7, a student; " in capsys.readouterr().out
    else:
        found = " or a ".join(finetune.ROWS[former])
        with pytest.raises(InputError, match=f"runs/other holds a {found}, and this recipe fine-tunes a"):
            begin(here=here, **changes)


def test_missing_checkpoint_is_named(tiny_config, tmp_path):
    config = tiny_config("baseline")
    config.init.checkpoint = str(tmp_path / "nothing")
    with pytest.raises(InputError, match="nothing holds no checkpoint"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert checkpoints.newest_step(tmp_path / "run") is None
