"""ONNX Runtime gives what JAX gives: for NMS, RoIAlign and every kind of detector."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from dcrl_jax.inference.export import flat_detect
from dcrl_jax.inference.onnx_export import external_arrays, onnx_model
from dcrl_jax.models.network import build_network
from dcrl_jax.ops.nms import nms
from dcrl_jax.ops.roi_align import roi_align


def run_onnx(program, images, outputs, stride=8, samples_per_bin=2):
    """The results of ONNX Runtime for a program of uint8 arrays, by name."""
    shapes = {name: image.shape[1:] for name, image in images.items()}
    model = onnx_model(lambda _, *images: program(*images), {}, shapes, outputs, stride, samples_per_bin)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return dict(zip(outputs, session.run(None, images), strict=True))


@pytest.mark.parametrize(
    ("count", "kept", "iou"), [(60, 10, 0.0), (60, 10, 0.3), (60, 10, 1.0), (7, 20, 0.3), (1, 1, 0.5)]
)
def test_nms_keeps_the_same_boxes_in_the_same_order(count, kept, iou):
    def program(boxes, scores, mask):
        mask = mask.astype(jnp.float32) > 0
        # Padding may hold anything.
        boxes = jnp.where(mask[..., None], boxes.astype(jnp.float32), jnp.nan)
        scores = jnp.where(mask, scores.astype(jnp.float32), jnp.nan)
        index, is_kept = jax.vmap(lambda b, s, m: nms(b, s, m, iou, kept))(boxes, scores, mask)
        return {"index": index, "kept": is_kept}

    # Small whole numbers make equal scores, overlaps equal to the threshold, and empty boxes.
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 24, (4, count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 13, (4, count, 2))], axis=-1).astype(np.uint8)
    mask = rng.integers(0, 8, (4, count), np.uint8)
    mask[0], mask[2] = 1, 0
    images = {"boxes": boxes, "scores": rng.integers(0, 16, (4, count), np.uint8), "mask": mask}
    results, expected = run_onnx(program, images, ["index", "kept"]), jax.device_get(program(*images.values()))
    np.testing.assert_array_equal(results["kept"], expected["kept"])
    np.testing.assert_array_equal(results["index"], expected["index"])
    assert expected["kept"][0].any()
    assert not expected["kept"][2].any()


@pytest.mark.parametrize(("stride", "size", "samples"), [(8, 7, 2), (16, 3, 1)])
def test_roi_align_samples_each_image_as_jax_does(stride, size, samples):
    def program(features, rois):
        features, rois = features.astype(jnp.float32), rois.astype(jnp.float32) - 30
        return {"pooled": jax.vmap(lambda x, r: roi_align(x, r, stride, size, samples))(features, rois)}

    rng = np.random.default_rng(0)
    features = rng.integers(0, 256, (3, 5, 9, 4), np.uint8)
    # Some RoIs reach beyond the map; the first one is empty.
    corners = rng.integers(0, 100, (3, 6, 2))
    rois = np.concatenate([corners, corners + rng.integers(1, 150, (3, 6, 2))], axis=-1).astype(np.uint8)
    rois[:, 0, 2:] = rois[:, 0, :2]
    results = run_onnx(program, {"features": features, "rois": rois}, ["pooled"], stride, samples)
    expected = program(features, rois)["pooled"]
    assert expected.shape == (3, 6, size, size, 4)
    np.testing.assert_allclose(results["pooled"], expected, rtol=1e-5, atol=1e-3)


KINDS = {
    "no CFL": {"cfl.enabled": False, "fusion.strategy": "linear", "backbone.stride": 16},
    "no MFL": {"cfl.shared_fraction": 1.0, "fusion.grid": (), "segmentation.stages": ()},
    "average": {"cfl.shared_fraction": 0.0, "fusion.strategy": "average", "roi.samples_per_bin": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_teacher_gives_what_its_network_gives(tiny_config, random_params, tmp_path, kind):
    config = tiny_config("teacher")
    config.update_from_flattened_dict(KINDS[kind])
    network = build_network(config)
    params = flatten_dict(random_params(network), sep="/")
    save_file(params, tmp_path / "params.safetensors")
    outputs = ["boxes", "scores", "mask", "modality_weights"]
    shapes = {"visible": (32, 48, 3), "lwir": (32, 48, 1)}
    weights, program, model = external_arrays(tmp_path / "params.safetensors"), flat_detect(network), network.model
    detector = onnx_model(program, weights, shapes, outputs, model.stride, model.roi_samples_per_bin)
    onnx.save(detector, tmp_path / "detector.onnx")
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (2, *shape), np.uint8) for name, shape in shapes.items()}
    results = onnxruntime.InferenceSession(tmp_path / "detector.onnx").run(None, images)
    expected = jax.device_get(jax.jit(program)(params, *images.values()))
    mask = expected["mask"]
    assert mask.any()
    tolerances = {"boxes": 1e-4, "scores": 1e-5, "mask": 0, "modality_weights": 1e-6}
    for name, values in zip(outputs, results, strict=True):
        valid = mask if name in ("boxes", "scores") else ...
        np.testing.assert_allclose(values[valid], expected[name][valid], rtol=0, atol=tolerances[name])
