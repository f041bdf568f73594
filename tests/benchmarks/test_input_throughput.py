"""The pairs that the benchmark renders, its rates, and the cores that a GPU needs."""

import pytest

from benchmarks import input_throughput as throughput
from dcrl_jax.data import sources
from dcrl_jax.training.data import open_train_source


def test_rendered_pairs_have_kaists_size_and_go_through_the_pipeline(tmp_path):
    configs = throughput.recipes(throughput.make_pairs(tmp_path, 4), ["--config.train.batch_size=8"])
    source = open_train_source(sources.prepare(configs["pairs"].data), configs["pairs"].data)
    assert len(source) == 4
    assert all(40_000 < len(source[index]["visible"]) < 90_000 for index in range(4))
    for config in configs.values():
        rate = throughput.timed_batches(source, config, threads=2, batches=1)
        assert rate.images == 8
        assert rate.per_second > 0
        assert tuple(throughput.stage_times(source, config, images=3)) == throughput.STAGES


def test_a_gpu_consumes_its_share_of_the_peak_and_cores_follow():
    rows = throughput.demand({"pairs": 100.0, "RGB only": 50.0})
    assert rows[0][:3] == ["teacher", 2.10, "A100, TF32"]
    assert rows[0][3:] == pytest.approx([0.4 * 156 / 2.10, 0.4 * 156 / 210])
    assert [row[-1] for row in rows if row[0] == "baseline"] == [row[3] / 50 for row in rows[8:]]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--threads=0", "expected whole numbers of at least 1"),
        ("--threads=two", "expected whole numbers of at least 1"),
        ("--pairs=0", "expected at least 1"),
        ("--config.data.height=1", "the config has no key"),
    ],
)
def test_values_that_mean_nothing_are_refused(argument, message, capsys):
    with pytest.raises(SystemExit):
        throughput.main([argument])
    assert message in capsys.readouterr().err
