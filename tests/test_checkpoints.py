"""Saving, resuming, the best parameters, and parameters alone."""

import json
import shutil

import grain
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh

from configs import baseline, student, teacher
from dcrl_jax import checkpoints, parallel, published
from dcrl_jax.errors import InputError
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState


def make_config(**optimizer):
    config = teacher.get_config("synthetic")
    config.optimizer.update(optimizer)
    return config


def make_params(value=0.0, width=3):
    rng = np.random.default_rng(2)
    return {
        "backbones_visible": {"conv1_1": {"kernel": rng.normal(size=(2, width)).astype(np.float32) + value}},
        "modality_fusion": {"logits": {"bias": np.float32([value, -value])}},
    }


def make_state(step=0, value=0.0, width=3, config=None):
    """A state after one update, whose moments are not zero."""
    config = config or make_config()
    optimizer = build_optimizer(config, build_schedule(config, 100))
    params = make_params(value, width)
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    return TrainState(np.int32(step), params, opt_state)


def place(state):
    # A copy, because placing may share the buffers, and donating them would delete the original.
    copy = jax.tree.map(np.array, jax.device_get(state))
    return parallel.replicate(copy, Mesh(jax.local_devices()[:2], (parallel.AXIS,)))


def make_iterator(taken=0):
    dataset = grain.MapDataset.source(np.arange(7)).seed(3).shuffle().repeat()
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0)))
    return iterator, [int(next(iterator)) for _ in range(taken)]


def save(folder, *states, keep=2, config=None):
    """One finished checkpoint a state; the iterator has given as many elements as the state has steps."""
    with checkpoints.open_manager(folder, keep) as manager:
        for state in states:
            iterator, _ = make_iterator(taken=int(state.step))
            checkpoints.save_training(manager, state, iterator, config or make_config())
            manager.wait_until_finished()


def save_best(workdir, *steps_and_rates):
    """Says of each step whether it was saved; its parameters are moved by its number."""
    with checkpoints.open_manager(workdir / checkpoints.BEST_FOLDER) as manager:
        saved = []
        for step, rate in steps_and_rates:
            saved.append(checkpoints.save_best(manager, step, make_params(step), make_config(), rate))
            manager.wait_until_finished()
    return saved


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def assert_equal_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_state_comes_back_bit_for_bit_where_it_was_placed(tmp_path):
    state = make_state(step=5, value=0.1)
    save(tmp_path, place(state))
    target = place(make_state(value=9.0))
    with checkpoints.open_manager(tmp_path) as manager:
        restored = checkpoints.restore_training(manager, target, make_iterator()[0])
    assert_equal_bits(restored, state)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert leaf.sharding == wanted.sharding


def test_data_iterator_goes_on_where_it_stood(tmp_path):
    save(tmp_path, make_state(step=4))
    _, whole = make_iterator(taken=10)
    iterator, _ = make_iterator(taken=1)
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.restore_training(manager, place(make_state()), iterator)
    assert [int(next(iterator)) for _ in range(6)] == whole[4:]


def test_saved_buffers_may_be_reused_before_the_write_is_done(tmp_path):
    state = make_state(step=1, value=0.5)
    placed = place(state)
    add = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save_training(manager, placed, make_iterator()[0], make_config())
        add(placed)
        manager.wait_until_finished()
        restored = checkpoints.restore_training(manager, place(make_state()), make_iterator()[0])
    assert_equal_bits(restored, state)


def test_only_the_newest_are_kept(tmp_path):
    save(tmp_path, *(make_state(step) for step in (10, 20, 30)), keep=2)
    assert steps_in(tmp_path) == [20, 30]


def test_newest_is_resumed(tmp_path):
    save(tmp_path, make_state(10, value=1.0), make_state(20, value=2.0))
    with checkpoints.open_manager(tmp_path) as manager:
        restored = checkpoints.restore_training(manager, place(make_state()), make_iterator()[0])
    assert int(restored.step) == 20
    np.testing.assert_array_equal(restored.params["modality_fusion"]["logits"]["bias"], [2, -2])


def test_step_that_is_already_saved_is_not_written_again(tmp_path):
    save(tmp_path, make_state(10, value=1.0), make_state(10, value=2.0))
    params, _, _ = checkpoints.restore_params(str(tmp_path))
    np.testing.assert_array_equal(params["modality_fusion"]["logits"]["bias"], [1, -1])


def test_resuming_another_model_names_the_checkpoint_the_parameter_and_both_shapes(tmp_path):
    save(tmp_path, make_state(7, width=3))
    with (
        checkpoints.open_manager(tmp_path) as manager,
        pytest.raises(InputError) as refusal,
    ):
        checkpoints.restore_training(manager, place(make_state(width=4)), make_iterator()[0])
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / '7'} (params) does not fit the configured model:")
    assert "backbones_visible/conv1_1/kernel: (2, 3) instead of (2, 4)" in message


def test_resuming_with_another_optimizer_is_refused(tmp_path):
    save(tmp_path, make_state(7))
    other = make_state(config=make_config(name="sgd"))
    with (
        checkpoints.open_manager(tmp_path) as manager,
        pytest.raises(InputError, match=r"7 \(optimizer\) does not fit[^$]*trace.*: missing"),
    ):
        checkpoints.restore_training(manager, place(other), make_iterator()[0])


def test_best_is_replaced_by_a_lower_miss_rate_alone(tmp_path):
    saved = save_best(tmp_path, (10, 0.5), (20, 0.6), (30, 0.5), (40, float("nan")), (50, 0.4))
    assert saved == [True, False, False, False, True]
    assert steps_in(tmp_path / checkpoints.BEST_FOLDER) == [50]


def test_rate_that_is_not_a_number_gives_way_to_any_other(tmp_path):
    saved = save_best(tmp_path, (10, float("nan")), (20, float("nan")), (30, 0.9), (40, float("nan")))
    assert saved == [True, True, True, False]
    assert steps_in(tmp_path / checkpoints.BEST_FOLDER) == [30]


@pytest.mark.parametrize("lost", ["params/manifest.ocdbt", "optimizer", "data"])
def test_resuming_from_a_damaged_checkpoint_is_refused_with_its_folder(tmp_path, lost):
    save(tmp_path, make_state(20))
    folder = tmp_path / "20"
    if (folder / lost).is_dir():
        shutil.rmtree(folder / lost)
    else:
        (folder / lost).unlink()
    with checkpoints.open_manager(tmp_path) as manager, pytest.raises(InputError) as refusal:
        checkpoints.restore_training(manager, place(make_state()), make_iterator()[0])
    assert str(refusal.value).startswith(f"{folder} cannot be read as a checkpoint: ")


@pytest.mark.parametrize("lost", ["params/manifest.ocdbt", "optimizer", "data"])
def test_damaged_newest_checkpoint_is_put_aside_and_the_one_before_it_taken(tmp_path, capsys, lost):
    save(tmp_path, place(make_state(10, value=1.5)), place(make_state(20, value=2.5)))
    path = tmp_path / "20" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with checkpoints.open_manager(tmp_path, keep=2) as manager:
        state = checkpoints.restore_training(manager, place(make_state()), make_iterator()[0])
        assert manager.all_steps() == [10]
    assert int(state.step) == 10
    jax.tree.map(np.testing.assert_array_equal, state.params, make_state(10, value=1.5).params)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["10", "damaged-20"]
    said = capsys.readouterr().out
    assert said.startswith(f"warning: {tmp_path}/20 cannot be read as a checkpoint: ")
    assert said.endswith(f"put aside as {tmp_path}/damaged-20; going on from step 10\n")


def test_best_is_remembered_by_the_next_run(tmp_path):
    assert save_best(tmp_path, (10, 0.5)) == [True]
    assert save_best(tmp_path, (20, 0.7), (30, 0.4)) == [False, True]


@pytest.mark.parametrize("rate", [0.5, float("nan")])
def test_best_of_a_step_that_is_scored_again_stays(tmp_path, rate):
    # A run that is killed before the scores are on record takes them once more.
    assert save_best(tmp_path, (10, rate)) == [True]
    assert save_best(tmp_path, (10, rate)) == [False]
    assert steps_in(tmp_path / checkpoints.BEST_FOLDER) == [10]


@pytest.mark.parametrize("lost", [None, "params"])
def test_what_a_killed_run_had_still_to_delete_is_deleted_by_the_next(tmp_path, lost):
    save(tmp_path, make_state(10), make_state(20), make_state(30), keep=3)
    if lost:
        shutil.rmtree(tmp_path / "10" / lost)
    checkpoints.open_manager(tmp_path, keep=2).close()
    assert steps_in(tmp_path) == [20, 30]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run's folder: checkpoints of the steps 10 and 20, its best at step 5."""
    folder = tmp_path_factory.mktemp("run")
    states = [place(make_state(step, value=float(step))) for step in (10, 20)]
    save(folder / checkpoints.RESUME_FOLDER, *states, config=make_config(learning_rate=0.25))
    save_best(folder, (5, 0.3))
    return folder


@pytest.mark.parametrize(
    ("inside", "step"), [("", 5), ("best", 5), ("best/5", 5), ("checkpoints", 20), ("checkpoints/10", 10)]
)
def test_parameters_of_a_workdir_a_folder_or_one_checkpoint(workdir, inside, step):
    params, config, found_step = checkpoints.restore_params(str(workdir / inside))
    assert found_step == step
    assert_equal_bits(params, make_params(float(step)))
    assert config.optimizer.learning_rate == (make_config().optimizer.learning_rate if step == 5 else 0.25)
    for leaf in jax.tree.leaves(params):
        assert leaf.devices() == {jax.local_devices()[0]}


def test_published_model_is_restored_as_any_checkpoint(tmp_path):
    published.write(tmp_path, make_params(3.0), checkpoints.config_to_json(make_config(learning_rate=0.25)), 9)
    params, config, step = checkpoints.restore_params(str(tmp_path))
    assert_equal_bits(params, make_params(3.0))
    assert (config, step) == (make_config(learning_rate=0.25), 9)


def test_workdir_is_told_from_the_folders_in_it(workdir):
    assert checkpoints.is_workdir(str(workdir))
    for inside in ("best", "best/5", "checkpoints/10", "nothing"):
        assert not checkpoints.is_workdir(str(workdir / inside))


def test_workdir_whose_test_split_was_watched_gives_its_newest_parameters(tmp_path):
    config = make_config()
    config.data.validation_split = config.data.test_split
    with checkpoints.open_manager(tmp_path / checkpoints.BEST_FOLDER) as manager:
        checkpoints.save_best(manager, 5, make_params(5.0), config, 0.5)
    assert checkpoints.restore_params(str(tmp_path))[2] == 5  # there are no others yet
    save(tmp_path / checkpoints.RESUME_FOLDER, place(make_state(10)), config=config)
    assert checkpoints.restore_params(str(tmp_path))[2] == 10
    assert checkpoints.restore_params(str(tmp_path / "best"))[2] == 5


def test_fingerprint_is_that_of_the_values_and_their_names(workdir):
    params, own = make_params(5.0), checkpoints.fingerprint(make_params(5.0))
    assert checkpoints.fingerprint(checkpoints.restore_params(str(workdir))[0]) == own
    assert checkpoints.fingerprint(dict(reversed(params.items()))) == own
    others = [make_params(np.nextafter(np.float32(5), np.float32(6))), params | {"more": np.zeros(0, np.float32)}]
    others.append({"renamed" if name == "modality_fusion" else name: tree for name, tree in params.items()})
    others.append(jax.tree.map(lambda leaf: leaf.reshape(1, *leaf.shape), params))
    assert len({own, *map(checkpoints.fingerprint, others)}) == 5


def test_workdir_without_a_best_gives_its_newest(workdir, tmp_path):
    shutil.copytree(workdir / checkpoints.RESUME_FOLDER, tmp_path / checkpoints.RESUME_FOLDER)
    assert checkpoints.restore_params(str(tmp_path))[2] == 20


def test_relative_path_means_the_same(workdir, monkeypatch):
    monkeypatch.chdir(workdir.parent)
    assert checkpoints.restore_params(f"{workdir.name}/best")[2] == 5


def test_restored_parameters_and_config_are_those_of_the_model(workdir):
    params, config, _ = checkpoints.restore_params(str(workdir))
    checkpoints.check_params(params, make_params(), str(workdir))
    assert config == make_config()


def test_half_written_checkpoint_is_not_taken_for_the_newest(workdir, tmp_path):
    folder = tmp_path / checkpoints.RESUME_FOLDER
    shutil.copytree(workdir / checkpoints.RESUME_FOLDER, folder)
    (folder / "30.orbax-checkpoint-tmp").mkdir()
    (folder / "40").mkdir()
    assert checkpoints.restore_params(str(tmp_path))[2] == 20


def test_newest_step_is_the_highest_number_and_not_the_last_in_the_alphabet(tmp_path):
    for step in (9, 10, 100, 20):
        (tmp_path / str(step) / "params").mkdir(parents=True)
    assert checkpoints.newest_step(tmp_path) == 100


def test_newest_step_of_a_run_is_what_it_saved_last(workdir):
    assert checkpoints.newest_step(workdir / checkpoints.RESUME_FOLDER) == 20
    assert checkpoints.newest_step(workdir / checkpoints.BEST_FOLDER) == 5


def test_folder_that_is_empty_or_missing_has_no_newest_step(tmp_path):
    assert checkpoints.newest_step(tmp_path) is None
    assert checkpoints.newest_step(tmp_path / "missing") is None
    assert not (tmp_path / "missing").exists()


def test_unfinished_checkpoint_is_not_the_newest_step(tmp_path):
    (tmp_path / "30").mkdir()
    (tmp_path / "40.orbax-checkpoint-tmp" / "params").mkdir(parents=True)
    (tmp_path / "50").mkdir()
    (tmp_path / "50" / "params").write_text("not a folder")
    assert checkpoints.newest_step(tmp_path) is None
    (tmp_path / "20" / "params").mkdir(parents=True)
    assert checkpoints.newest_step(tmp_path) == 20


@pytest.mark.parametrize("inside", ["missing", "file", "empty", "30"])
def test_path_without_a_checkpoint_is_refused_with_what_was_expected(tmp_path, inside):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "30").mkdir()
    with pytest.raises(InputError) as refusal:
        checkpoints.restore_params(str(tmp_path / inside))
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / inside} holds no checkpoint: expected a run's workdir")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("lost", ["params/manifest.ocdbt", "params/d", "params/_METADATA", "config"])
def test_damaged_checkpoint_is_refused_with_its_folder(workdir, tmp_path, lost):
    folder = tmp_path / "5"
    shutil.copytree(workdir / checkpoints.BEST_FOLDER / "5", folder)
    if (folder / lost).is_dir():
        shutil.rmtree(folder / lost)
    else:
        (folder / lost).unlink()
    with pytest.raises(InputError) as refusal:
        checkpoints.restore_params(str(folder))
    assert str(refusal.value).startswith(f"{folder} cannot be read as a checkpoint: ")


@pytest.mark.parametrize(
    ("config", "message"), [(None, "config"), ([1, 2], "its config is a list, not key by key")], ids=["none", "list"]
)
def test_checkpoint_of_another_program_is_refused_with_its_folder(tmp_path, config, message):
    items = {"params": ocp.args.StandardSave({"w": np.zeros(3)})}
    items["config"] = ocp.args.JsonSave(config) if config else ocp.args.StandardSave({"w": np.zeros(3)})
    with ocp.CheckpointManager(tmp_path, item_names=tuple(items)) as manager:
        manager.save(3, args=ocp.args.Composite(**items))
    with pytest.raises(InputError, match=f"^{tmp_path}/3 cannot be read as a checkpoint: .*{message}"):
        checkpoints.restore_params(str(tmp_path))


def test_parameters_that_fit_are_accepted_whatever_their_kind():
    checkpoints.check_params(jax.tree.map(jnp.asarray, make_params(1.0)), make_params(), "run")
    checkpoints.check_params(make_params(), jax.eval_shape(make_params), "run")


def test_parameters_that_do_not_fit_are_named_with_their_source():
    found, expected = make_params(), make_params(width=4)
    found["rpns_old"] = {"bias": np.zeros(3, np.float32)}
    expected["rpns_lwir"] = {"bias": np.zeros(5, np.float32)}
    with pytest.raises(InputError) as refusal:
        checkpoints.check_params(found, expected, "run/best/7")
    assert str(refusal.value) == (
        "run/best/7 does not fit the configured model:\n"
        "  rpns_lwir/bias: missing\n"
        "  rpns_old/bias: not expected\n"
        "  backbones_visible/conv1_1/kernel: (2, 3) instead of (2, 4)\n"
        "Use the config that it was trained with, or another workdir."
    )


def test_long_list_of_differences_is_cut_and_counted():
    expected = {f"layer{number}": np.zeros(1) for number in range(9)}
    with pytest.raises(InputError, match="and 4 more") as refusal:
        checkpoints.check_params({}, expected, "run")
    assert str(refusal.value).count("missing") == 5


@pytest.mark.parametrize("recipe", [teacher, student, baseline], ids=["teacher", "student", "baseline"])
@pytest.mark.parametrize("data", ["kaist", "synthetic", "msrs"])
def test_config_comes_back_from_json_with_its_tuples(recipe, data):
    config = recipe.get_config(data)
    text = json.dumps(checkpoints.config_to_json(config))
    restored = checkpoints.config_from_json(json.loads(text))
    assert restored == config
    assert restored.to_dict() == config.to_dict()
    assert restored.segmentation.stages == ("rpg", "rdr")
    assert restored.train.steps is None
    assert isinstance(restored.rpn.offset_std, tuple)
    if recipe is not baseline:
        multimodal = restored if recipe is teacher else restored.teacher
        assert multimodal.fusion.grid == (4, 5)


# The library's writers that were not waited for complain when they are thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("save_one", ["resume", "best"])
def test_full_disk_is_said_and_leaves_the_checkpoint_before_and_nothing_half_written(tmp_path, no_room, save_one):
    wide = place(make_state(step=1, width=100_000))
    iterator, _ = make_iterator(taken=1)

    def write(manager, state, miss_rate):
        if save_one == "best":
            checkpoints.save_best(manager, int(state.step), state.params, make_config(), miss_rate)
        else:
            checkpoints.save_training(manager, state, iterator, make_config())
        checkpoints.wait_until_written(manager)

    with checkpoints.open_manager(tmp_path / "full", keep=2) as manager:
        write(manager, wide, 0.5)
        with no_room(100_000), pytest.raises(InputError) as refusal:
            write(manager, wide._replace(step=np.int32(2), params=jax.tree.map(lambda x: x + 1, wide.params)), 0.4)
    assert str(refusal.value) == (
        f"no checkpoint can be written to {tmp_path / 'full'}: File too large. The checkpoint of step 1 is kept; make "
        "room, then give the same command again."
    )
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["1"]
    restored, _, step = checkpoints.restore_params(str(tmp_path / "full"))
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(wide.params))


def test_checkpoint_of_other_processes_is_refused_with_both_numbers(tmp_path):
    save(tmp_path, make_state(step=1))
    data = tmp_path / "1" / "data"
    (data / "process_0-of-1.json").rename(data / "process_0-of-2.json")
    shutil.copy(data / "process_0-of-2.json", data / "process_1-of-2.json")
    iterator, _ = make_iterator()
    with (
        checkpoints.open_manager(tmp_path, 2) as manager,
        pytest.raises(InputError, match="saved by 2 processes") as no,
    ):
        checkpoints.restore_training(manager, place(make_state()), iterator)
    assert "this run has 1. Go on with 2, or start a new run" in str(no.value)
    assert (tmp_path / "1").is_dir()


def test_what_a_killed_run_left_half_written_is_removed_at_the_next_start(tmp_path):
    save(tmp_path, make_state(step=1))
    half_written = tmp_path / "2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "1", half_written)
    with checkpoints.open_manager(tmp_path, 2) as manager:
        assert list(manager.all_steps()) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_bucket_that_cannot_be_read_is_refused_by_its_own_name(monkeypatch):
    def missing(*_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(type(checkpoints.epath.Path("gs://bucket")), "is_dir", missing)
    monkeypatch.setattr(type(checkpoints.epath.Path("gs://bucket")), "glob", missing)
    with pytest.raises(InputError, match=r"^gs://bucket/run: Please install gcsfs to access Google Storage\.$"):
        checkpoints.restore_params("gs://bucket/run")


def test_error_that_is_not_of_the_disk_keeps_its_own_words(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("of the program")

    iterator, _ = make_iterator()
    with checkpoints.open_manager(tmp_path) as manager:
        monkeypatch.setattr(manager, "save", fail)
        with pytest.raises(ValueError, match=r"^of the program$"):
            checkpoints.save_training(manager, make_state(step=1), iterator, make_config())
