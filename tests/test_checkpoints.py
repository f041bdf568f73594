"""Saving, resuming, the best parameters, and parameters without the rest."""

import functools
import itertools
import json
import shutil
import time

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from jax.sharding import Mesh

from configs import teacher
from dcrl_jax import checkpoints, parallel, param_trees
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


@functools.cache
def updated_by(name):
    """The optimizer's state after one update, whose moments are not zero."""
    config, params = make_config(name=name), make_params(1.0)
    optimizer = build_optimizer(config, build_schedule(config, 100))
    return jax.device_get(optimizer.update(params, optimizer.init(params), params)[1])


def make_state(step=0, value=0.0, width=3, optimizer="adamw"):
    return TrainState(np.int32(step), make_params(value, width), updated_by(optimizer))


def place(state):
    # A copy, because placing may share the buffers, and donating them would delete the original.
    copy = jax.tree.map(np.array, jax.device_get(state))
    return parallel.replicate(copy, Mesh(jax.local_devices()[:2], (parallel.AXIS,)))


def make_iterator(taken=0):
    dataset = grain.MapDataset.source(np.arange(7)).seed(3).shuffle().repeat()
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0)))
    return iterator, [int(next(iterator)) for _ in range(taken)]


def save(folder, *states, keep=2, config=None):
    """Save one checkpoint for each state; the iterator has given as many elements as the state has steps."""
    with checkpoints.open_manager(folder, keep) as manager:
        for state in states:
            iterator, _ = make_iterator(taken=int(state.step))
            checkpoints.save_training(manager, state, iterator, config or make_config())
            manager.wait_until_finished()


def restore(folder, target=None, iterator=None):
    with checkpoints.open_manager(folder, keep=2) as manager:
        return checkpoints.restore_training(manager, target or place(make_state()), iterator or make_iterator()[0])


def save_best(workdir, *steps_and_rates, config=None):
    """Return of each step whether it was saved; its parameters are moved by its number."""
    with checkpoints.open_manager(workdir / checkpoints.BEST_FOLDER) as manager:
        saved = []
        for step, rate in steps_and_rates:
            saved.append(checkpoints.save_best(manager, step, make_params(step), config or make_config(), rate))
            manager.wait_until_finished()
    return saved


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_equal_bits(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_newest_state_and_data_position_come_back_bit_for_bit_in_place(tmp_path):
    state = make_state(step=30, value=0.1)
    save(tmp_path, make_state(step=10), make_state(step=20), place(state), place(make_state(step=30, value=5.0)))
    assert names_in(tmp_path) == ["20", "30"]  # the second state of step 30 was not saved again
    target, iterator = place(make_state(value=9.0)), make_iterator(taken=1)[0]
    restored = restore(tmp_path, target, iterator)
    assert_equal_bits(restored, state)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert leaf.sharding == wanted.sharding
    assert [int(next(iterator)) for _ in range(6)] == make_iterator(taken=36)[1][30:]


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


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_clock_that_jumps_while_a_checkpoint_is_written_does_no_harm(tmp_path, monkeypatch, seconds):
    clock, calls = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: clock() + seconds * next(calls) % 40_000)
    state = make_state(step=1, value=0.5)
    save(tmp_path, state)
    monkeypatch.undo()
    assert_equal_bits(restore(tmp_path), state)


def test_another_network_or_optimizer_is_refused(tmp_path):
    save(tmp_path, make_state(7, width=3))
    with pytest.raises(InputError) as refusal:
        restore(tmp_path, place(make_state(width=4)))
    assert str(refusal.value).startswith(f"{tmp_path / '7'} (params) does not fit the configured model:")
    assert "backbones_visible/conv1_1/kernel: (2, 3) instead of (2, 4)" in str(refusal.value)
    with pytest.raises(InputError, match=r"7 \(optimizer\) does not fit[^$]*trace.*: missing"):
        restore(tmp_path, place(make_state(optimizer="sgd")))


@pytest.mark.parametrize("lost", ["params/manifest.ocdbt", "optimizer", "data"])
def test_damaged_checkpoint_is_put_aside_or_refused_if_it_is_the_last(tmp_path, capsys, lost):
    save(tmp_path, place(make_state(10, value=1.5)), place(make_state(20, value=2.5)))
    remove(tmp_path / "20" / lost)
    state = restore(tmp_path)
    assert int(state.step) == 10
    assert_equal_bits(state.params, make_params(1.5))
    assert names_in(tmp_path) == ["10", "damaged-20"]
    warning = capsys.readouterr().out
    assert warning.startswith(f"warning: {tmp_path}/20 cannot be read as a checkpoint: ")
    assert warning.endswith(f"renamed to {tmp_path}/damaged-20; resuming from step 10\n")
    remove(tmp_path / "10" / lost)
    with pytest.raises(InputError) as refusal:
        restore(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / '10'} cannot be read as a checkpoint: ")


def test_checkpoint_of_other_processes_is_refused_with_both_numbers(tmp_path):
    save(tmp_path, make_state(step=1))
    data = tmp_path / "1" / "data"
    (data / "process_0-of-1.json").rename(data / "process_0-of-2.json")
    shutil.copy(data / "process_0-of-2.json", data / "process_1-of-2.json")
    with pytest.raises(InputError, match=r"saved by 2 processes, and this run has 1\. Go on with 2, or start a new"):
        restore(tmp_path)
    assert (tmp_path / "1").is_dir()


@pytest.mark.parametrize("lost", [None, "params"])
def test_next_start_deletes_what_a_killed_run_left(tmp_path, lost):
    save(tmp_path, make_state(10), make_state(20), make_state(30), keep=3)
    shutil.copytree(tmp_path / "30", tmp_path / "40.orbax-checkpoint-tmp")
    if lost:
        remove(tmp_path / "10" / lost)
    with checkpoints.open_manager(tmp_path, keep=2):
        pass
    assert names_in(tmp_path) == ["20", "30"]


# The library's writers that were not waited for complain when they are thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["resume", "best"])
def test_full_disk_keeps_the_former_checkpoint(tmp_path, no_room, kind):
    wide = place(make_state(step=1, width=100_000))
    iterator, _ = make_iterator(taken=1)

    def write(manager, state, miss_rate):
        if kind == "best":
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
    assert names_in(tmp_path / "full") == ["1"]
    params, _, step = checkpoints.restore_params(str(tmp_path / "full"))
    assert step == 1
    assert_equal_bits(params, jax.device_get(wide.params))


def test_error_of_the_program_keeps_its_words(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("of the program")

    with checkpoints.open_manager(tmp_path) as manager:
        monkeypatch.setattr(manager, "save", fail)
        with pytest.raises(ValueError, match=r"^of the program$"):
            checkpoints.save_training(manager, make_state(step=1), make_iterator()[0], make_config())


NAN = float("nan")


@pytest.mark.parametrize(
    ("starts", "saved", "best"),
    [
        ([[(10, 0.5), (20, 0.6), (30, 0.5), (40, NAN), (50, 0.4)]], [True, False, False, False, True], 50),
        ([[(10, NAN), (20, NAN), (30, 0.9), (40, NAN)]], [True, True, True, False], 30),
        ([[(10, 0.5)], [(20, 0.7), (30, 0.4)]], [True, False, True], 30),
        # A run that is killed before its scores are on record scores the step again.
        ([[(10, 0.5)], [(10, 0.5)]], [True, False], 10),
    ],
    ids=["lower", "nan", "next start", "same step"],
)
def test_only_a_lower_miss_rate_replaces_the_best(tmp_path, starts, saved, best):
    assert [is_saved for start in starts for is_saved in save_best(tmp_path, *start)] == saved
    assert names_in(tmp_path / checkpoints.BEST_FOLDER) == [str(best)]


@pytest.mark.parametrize("lost", ["scores", "scores/metadata"])
def test_best_that_cannot_be_read_is_replaced(tmp_path, capsys, lost):
    save_best(tmp_path, (10, 0.1))
    remove(tmp_path / "best" / "10" / lost)
    assert save_best(tmp_path, (20, 0.5)) == [True]
    assert names_in(tmp_path / "best") == ["20"]
    warning = capsys.readouterr().out
    assert warning.startswith(f"warning: {tmp_path}/best/10 cannot be read as a checkpoint: ")
    assert warning.endswith(". The parameters of this step replace it\n")


def test_disk_that_cannot_be_read_is_not_taken_for_damage(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    save_best(tmp_path, (10, 0.1))
    save(tmp_path / "checkpoints", make_state(1), make_state(2))
    with checkpoints.open_manager(tmp_path / "best") as manager:
        monkeypatch.setattr(manager, "restore", fail)
        with pytest.raises(InputError, match=r"best/10 cannot be read: Input/output error; see that its disk"):
            checkpoints.save_best(manager, 20, make_params(), make_config(), 0.05)
    with checkpoints.open_manager(tmp_path / "checkpoints", keep=2) as manager:
        monkeypatch.setattr(manager, "restore", fail)
        with pytest.raises(InputError, match=r"checkpoints/2 cannot be read: Input/output error; see that its disk"):
            checkpoints.restore_training(manager, place(make_state()), make_iterator()[0])
    assert names_in(tmp_path / "best") == ["10"]
    assert names_in(tmp_path / "checkpoints") == ["1", "2"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run's folder: checkpoints of the steps 8 and 20, its best at step 5."""
    folder = tmp_path_factory.mktemp("run")
    states = [place(make_state(step, value=float(step))) for step in (8, 20)]
    save(folder / checkpoints.RESUME_FOLDER, *states, config=make_config(learning_rate=0.25))
    save_best(folder, (5, 0.3))
    return folder


@pytest.mark.parametrize(
    ("inside", "step"), [("", 5), ("best", 5), ("best/5", 5), ("checkpoints", 20), ("checkpoints/8", 8)]
)
def test_parameters_of_a_workdir_a_folder_or_one_checkpoint(workdir, monkeypatch, inside, step):
    monkeypatch.chdir(workdir.parent)
    for path in (str(workdir / inside), f"{workdir.name}/{inside}"):
        params, config, found_step = checkpoints.restore_params(path)
        assert found_step == step
        assert_equal_bits(params, make_params(float(step)))
        assert config == (make_config() if step == 5 else make_config(learning_rate=0.25))
        assert all(leaf.devices() == {jax.local_devices()[0]} for leaf in jax.tree.leaves(params))
    assert checkpoints.is_workdir(str(workdir / inside)) == (not inside)


def test_newest_counts_without_a_best_or_if_the_test_split_chose_it(workdir, tmp_path):
    config = make_config()
    config.data.validation_split = config.data.test_split
    save_best(tmp_path, (5, 0.5), config=config)
    assert checkpoints.restore_params(str(tmp_path))[2] == 5  # there are no others yet
    folder = shutil.copytree(workdir / checkpoints.RESUME_FOLDER, tmp_path / checkpoints.RESUME_FOLDER)
    # Neither of these is a complete checkpoint.
    (folder / "30.orbax-checkpoint-tmp").mkdir()
    (folder / "40").mkdir()
    assert checkpoints.restore_params(str(tmp_path))[2] == 20
    assert checkpoints.restore_params(str(tmp_path / "best"))[2] == 5
    config.data.validation_videos = ("set00",)  # training images, which may choose
    save_best(tmp_path, (7, 0.4), config=config)
    assert checkpoints.restore_params(str(tmp_path))[2] == 7
    shutil.rmtree(tmp_path / checkpoints.BEST_FOLDER)
    assert checkpoints.restore_params(str(tmp_path))[2] == 20


@pytest.mark.parametrize("inside", ["missing", "file", "empty", "30"])
def test_path_without_a_checkpoint_is_refused_with_what_was_expected(tmp_path, inside):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "30").mkdir()
    (tmp_path / "30" / "params").write_text("not a folder")
    with pytest.raises(InputError) as refusal:
        checkpoints.restore_params(str(tmp_path / inside))
    assert str(refusal.value).startswith(f"{tmp_path / inside} holds no checkpoint: expected a run's workdir")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("lost", ["params/manifest.ocdbt", "params/d", "params/_METADATA", "config"])
def test_parameters_of_a_damaged_checkpoint_are_refused(workdir, tmp_path, lost):
    folder = shutil.copytree(workdir / checkpoints.BEST_FOLDER / "5", tmp_path / "5")
    remove(folder / lost)
    with pytest.raises(InputError) as refusal:
        checkpoints.restore_params(str(folder))
    assert str(refusal.value).startswith(f"{folder} cannot be read as a checkpoint: ")


def array_named(*keys):
    parts = [{"key": key, "key_type": 2} for key in keys]
    return {"tree_metadata": {str(keys): {"key_metadata": parts, "value_metadata": {"value_type": "jax.Array"}}}}


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        {"tree_metadata": None},
        {"tree_metadata": {"a": []}},
        array_named("/elsewhere/1/params/s"),
        array_named("a", ".."),
        array_named(*["a"] * 20_000),
        *("[" * 100_000, "{}"),
    ],
    ids=["list", "null", "no array", "absolute", "above", "deep", "nested", "empty"],
)
def test_names_of_arrays_lead_nowhere_else(workdir, tmp_path, monkeypatch, metadata):
    folder = shutil.copytree(workdir / checkpoints.BEST_FOLDER / "5", tmp_path / "5")
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    (folder / "params" / "_METADATA").write_text(text)
    monkeypatch.setattr(ocp.StandardCheckpointHandler, "metadata", lambda *_: pytest.fail("opened"))
    with pytest.raises(InputError, match=f"^{folder} cannot be read as a checkpoint: "):
        checkpoints.restore_params(str(folder))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"shape": [10**10]}, r"its files of [\d,]+ bytes state arrays of 40,000,000,0\d\d\."),
        ({"chunks": [10**10]}, r"its files of [\d,]+ bytes state arrays of 40,000,000,0\d\d\."),
        ({"dtype": "<f8"}, r"modality_fusion/logits/bias is no array of float32\."),
        ({"dtype": "|S9"}, r"data type .* not understood\."),
    ],
    ids=["shape", "chunk", "dtype", "text"],
)
def test_arrays_that_need_more_than_their_files_are_not_read(workdir, tmp_path, monkeypatch, metadata, message):
    folder = shutil.copytree(workdir / checkpoints.BEST_FOLDER / "5", tmp_path / "5")
    array = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "<f4", "order": "C"} | metadata
    array |= dict.fromkeys(("compressor", "filters", "fill_value"))
    store = {"driver": "ocdbt", "base": f"file://{folder}/params", "path": "modality_fusion.logits.bias/"}
    spec = {"driver": "zarr", "kvstore": store, "metadata": array, "create": True, "delete_existing": True}
    tensorstore.open(spec).result()
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError, match=f"^{folder} cannot be read as a checkpoint: {message}"):
        checkpoints.restore_params(str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, " cannot be read as a checkpoint: its values are nested too deep."),
        (" " * 2**20 + "{}", " cannot be read as a checkpoint: it has more than 1,048,576 bytes."),
        (None, " cannot be read as a checkpoint: it has more than 1,048,576 bytes."),
        ("{}", ": config.role is missing"),
        (
            '{"role": "teacher", "seed": 0, "data": 3}',
            ": config.data.height_px is missing: this config was saved by another",
        ),
        ('{"role": "teacher", "a.b": 3}', ": its config is not one of dcrl_jax: ConfigDict does not accept dots"),
        ('{"role": "teacher", "__class__": 3}', ": its config is not one of dcrl_jax: '__class__ cannot be"),
        ("data.height_px", ": config.data.height_px is 1000000; it must be above 0 and at most 4,096."),
        ("rpn.before_nms", ": config.rpn.before_nms is 1000000; it must be above 0 and at most 20,000."),
        ("anchors.aspect_ratio", ": config.anchors.aspect_ratio is nan; it must be a finite number."),
    ],
    ids=["deep", "long", "endless", "empty", "section", "dots", "method", "input", "proposals", "nan"],
)
def test_config_that_anybody_may_have_written_is_checked(workdir, tmp_path, content, message):
    folder = shutil.copytree(workdir / checkpoints.BEST_FOLDER / "5", tmp_path / "5")
    file = folder / "config" / "metadata"
    if content is None:
        file.unlink()
        file.symlink_to("/dev/zero")
    elif content[0] in "ard":
        config, (section, name) = json.loads(file.read_text()), content.split(".")
        config[section][name] = float("nan") if name == "aspect_ratio" else 10**6
        file.write_text(json.dumps(config))
    else:
        file.write_text(content)
    with pytest.raises(InputError) as refusal:
        checkpoints.restore_params(str(folder))
    assert str(refusal.value).startswith(f"{folder}{message}")


@pytest.mark.parametrize(("config", "message"), [(None, "config"), ([1, 2], "its config is a list, not a JSON object")])
def test_checkpoint_of_another_program_is_refused(tmp_path, config, message):
    items = {"params": ocp.args.StandardSave({"w": np.zeros(3)})}
    items["config"] = ocp.args.JsonSave(config) if config else ocp.args.StandardSave({"w": np.zeros(3)})
    with ocp.CheckpointManager(tmp_path, item_names=tuple(items)) as manager:
        manager.save(3, args=ocp.args.Composite(**items))
    with pytest.raises(InputError, match=f"^{tmp_path}/3 cannot be read as a checkpoint: .*{message}"):
        checkpoints.restore_params(str(tmp_path))


def test_bucket_that_cannot_be_read_is_refused_by_its_name(monkeypatch):
    def missing(*_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(type(checkpoints.epath.Path("gs://bucket")), "is_dir", missing)
    monkeypatch.setattr(type(checkpoints.epath.Path("gs://bucket")), "glob", missing)
    with pytest.raises(InputError, match=r"^gs://bucket/run: Please install gcsfs to access Google Storage\.$"):
        checkpoints.restore_params("gs://bucket/run")


def test_restored_parameters_have_the_fingerprint_of_the_saved_ones(workdir):
    restored = checkpoints.restore_params(str(workdir))[0]
    assert param_trees.fingerprint(restored) == param_trees.fingerprint(make_params(5.0))
