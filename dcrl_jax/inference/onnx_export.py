"""A detector as an ONNX model for any batch size.

JAX traces ``detect``, and each primitive of the trace becomes ONNX operators (``onnx_primitives.RULES``). Four
functions of ``dcrl_jax.ops`` become one operator each, with the same results: ``conv3x3`` (Conv), ``max_pool``
(MaxPool), ``greedy_nms`` (NonMaxSuppression) and ``roi_align`` (RoiAlign).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from dcrl_jax.inference.onnx_primitives import RULES

OPSET = 18  # the first opset whose reductions all take their axes as an input
IR_VERSION = 8  # the version of this opset; older runtimes refuse newer ones
BATCH = "batch"


class Value(NamedTuple):
    """An array of the graph, which may still have to be broadcast."""

    name: str
    dtype: np.dtype
    shape: tuple  # of the ONNX array: 1 for an axis that is not yet broadcast
    full_shape: tuple  # of the JAX array


class ExternalArray(NamedTuple):
    """An array stored in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    file: str  # relative to the ONNX file
    offset: int  # bytes
    length: int  # bytes


def external_arrays(file: Path) -> dict[str, ExternalArray]:
    """Return the arrays of a safetensors file by name; all must be float32."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        shape, dtype = tuple(entry["shape"]), np.dtype(np.float32)
        arrays[name] = ExternalArray(shape, dtype, file.name, 8 + size + start, stop - start)
    return arrays


def onnx_model(
    program: Callable,
    weights: Mapping[str, ExternalArray],
    images: Mapping[str, tuple[int, int, int]],
    outputs: Sequence[str],
    stride: int,
    samples_per_bin: int,
) -> onnx.ModelProto:
    """Translate a detector to ONNX.

    Args:
        program: a function from a dict of parameters and images, uint8 [B, H, W, C], to a dict of arrays.
        weights: the stored parameters by name; the model refers to them.
        images: (H, W, C) of each image by name, in the order of ``program``'s arguments.
        outputs: the names of ``program``'s results in the order of the model's outputs.
        stride: pixels per feature cell of the detector's RoIAlign.
        samples_per_bin: samples on a side of a bin of the detector's RoIAlign.

    Raises:
        NotImplementedError: the program has a primitive without a rule; the message names it.
    """
    (batch,) = jax.export.symbolic_shape("b")
    arrays = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in weights.items()}
    inputs = [jax.ShapeDtypeStruct((batch, *shape), np.uint8) for shape in images.values()]
    traced = jax.make_jaxpr(program)(arrays, *inputs)
    roi_align = _roi_align(stride, samples_per_bin)
    graph = Graph({"conv3x3": _conv3x3, "max_pool": _max_pool, "greedy_nms": _nms, "roi_align": roi_align})
    # JAX flattens dicts, arguments and results alike, by sorted names.
    leaves = [graph.external(name, weights[name]) for name in sorted(arrays)]
    leaves += [graph.image(name, (batch, *shape)) for name, shape in images.items()]
    results = dict(zip(sorted(outputs), graph.call(traced, leaves), strict=True))
    return graph.model([graph.output(name, graph.full(results[name])) for name in outputs])


class Graph:
    """An ONNX graph under construction."""

    def __init__(self, functions: Mapping[str, Callable]):
        """Start an empty graph.

        Args:
            functions: rules by name of the jitted functions that are translated as a unit.
        """
        self._functions = functions
        self._nodes, self._inputs, self._initializers, self._count = [], [], {}, 0

    def call(self, traced: Any, operands: Sequence[Value]) -> list[Value]:
        """Add the equations of a closed jaxpr, and return its results."""
        values = dict(zip(traced.jaxpr.invars, operands, strict=True))
        values |= {
            var: self.constant(np.asarray(x)) for var, x in zip(traced.jaxpr.constvars, traced.consts, strict=True)
        }

        def read(atom):
            if not isinstance(atom, Literal):
                return values[atom]
            aval: Any = atom.aval
            return self.constant(np.asarray(atom.val, aval.dtype))

        for eqn in traced.jaxpr.eqns:
            results = self._apply(eqn, [read(atom) for atom in eqn.invars])
            results = results if isinstance(results, list) else [results]
            for var, value in zip(eqn.outvars, results, strict=True):
                values[var] = value._replace(full_shape=tuple(var.aval.shape))
        return [read(atom) for atom in traced.jaxpr.outvars]

    def _apply(self, eqn, operands):
        name = eqn.primitive.name
        if name in RULES:
            return RULES[name](self, eqn, *operands)
        if eqn.params.get("name") in self._functions:
            return self._functions[eqn.params["name"]](self, eqn, *operands)
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if key in eqn.params:
                return self.call(eqn.params[key], operands)
        raise NotImplementedError(f"no ONNX operator is known for the primitive {name}.")

    def constant(self, array: np.ndarray) -> Value:
        """Return a constant; equal arrays share one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._initializers:
            self._initializers[key] = numpy_helper.from_array(array, self._name("constant"))
        return Value(self._initializers[key].name, array.dtype, array.shape, array.shape)

    def external(self, name: str, array: ExternalArray) -> Value:
        """Return a parameter whose values stay in their file."""
        tensor = TensorProto(name=name, data_type=_onnx_type(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", array.file), ("offset", array.offset), ("length", array.length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return Value(name, array.dtype, array.shape, array.shape)

    def image(self, name: str, shape: tuple) -> Value:
        """Add an input of the model, uint8."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, _dimensions(shape)))
        return Value(name, np.dtype(np.uint8), shape, shape)

    def output(self, name: str, value: Value) -> onnx.ValueInfoProto:
        """Add an output of the model."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name], name))
        return helper.make_tensor_value_info(name, _onnx_type(value.dtype), _dimensions(value.shape))

    def model(self, outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the finished model, without nodes and constants that no output needs."""
        needed, nodes = {output.name for output in outputs}, []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
        initializers = [tensor for tensor in self._initializers.values() if tensor.name in needed]
        graph = helper.make_graph(nodes[::-1], "detector", self._inputs, outputs, initializers)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="dcrl_jax")

    def add(
        self, operator: str, *operands: Value | np.ndarray, shape: Sequence, dtype: Any = None, **attributes
    ) -> Value:
        """Add a node with one result; ``dtype`` defaults to the first operand's."""
        return self.add_many(operator, *operands, shapes=[shape], dtypes=[dtype], **attributes)[0]

    def add_many(self, operator, *operands, shapes, dtypes=None, **attributes) -> list[Value]:
        """Add a node with several results."""
        operands = [self.constant(x) if isinstance(x, np.ndarray) else x for x in operands]
        names = [self._name(operator) for _ in shapes]
        attributes = {
            key: [int(x) for x in value] if isinstance(value, (tuple, list, np.ndarray)) else value
            for key, value in attributes.items()
        }
        # The optimizer of older runtimes derives the names of its own nodes from these names.
        self._nodes.append(helper.make_node(operator, [x.name for x in operands], names, names[0], **attributes))
        dtypes = dtypes or [None] * len(shapes)
        return [
            Value(name, np.dtype(dtype or operands[0].dtype), tuple(shape), tuple(shape))
            for name, shape, dtype in zip(names, shapes, dtypes, strict=True)
        ]

    def elementwise(self, operator: str, *operands: Value) -> Value:
        """Add a node whose operands broadcast to each other."""
        predicates = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not", "IsNaN", "IsInf")
        dtype = np.dtype(bool) if operator in predicates else operands[-1].dtype
        rank = max(len(x.shape) for x in operands)
        shape = [1] * rank
        for x in operands:
            for axis, size in enumerate(x.shape, rank - len(x.shape)):
                if not _is_number(size) or size != 1:
                    shape[axis] = size
        return self.add(operator, *operands, shape=shape, dtype=dtype)

    def full(self, value: Value) -> Value:
        """Return an array broadcast to its full shape."""
        if value.shape == value.full_shape:
            return value
        return self.add("Expand", value, self.shape(value.full_shape), shape=value.full_shape)

    def shape(self, sizes: Sequence) -> Value:
        """Return a shape as an array, int64 [rank]; a size that is not a number is the batch size."""
        if all(_is_number(size) for size in sizes):
            return self.constant(np.array(sizes, np.int64))
        image = Value(self._inputs[0].name, np.dtype(np.uint8), (), ())
        batch = self.add("Shape", image, shape=(1,), dtype=np.int64, start=0, end=1)
        parts = [self.constant(np.array([size], np.int64)) if _is_number(size) else batch for size in sizes]
        return self.add("Concat", *parts, shape=(len(sizes),), dtype=np.int64, axis=0)

    def reshape(self, value: Value, shape: Sequence) -> Value:
        """Reshape an array; a size that contains the batch size follows from the others."""
        sizes = np.array([size if _is_number(size) else -1 for size in shape], np.int64)
        return self.add("Reshape", value, sizes, shape=shape)

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        """Permute the axes of an array."""
        if list(axes) == list(range(len(value.shape))):
            return value
        return self.add("Transpose", value, shape=[value.shape[axis] for axis in axes], perm=axes)

    def cast(self, value: Value, dtype: Any) -> Value:
        """Convert an array to another dtype."""
        return self.add("Cast", value, shape=value.shape, dtype=dtype, to=_onnx_type(dtype))

    def _name(self, kind):
        self._count += 1
        return f"{kind}_{self._count}"


def _onnx_type(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _is_number(size):
    """Return whether a size is known, rather than the batch size or an expression of it."""
    return isinstance(size, (int, np.integer))


def _dimensions(shape):
    return [int(size) if _is_number(size) else BATCH for size in shape]


def _conv3x3(graph, eqn, features, kernel):
    """Translate ``ops.convolution.conv3x3``: features [B, H, W, C] and kernel [3, 3, C, K] to [B, H, W, K]."""
    batch, height, width, outputs = eqn.outvars[0].aval.shape
    images = graph.transpose(graph.full(features), (0, 3, 1, 2))
    weights = graph.transpose(graph.full(kernel), (3, 2, 0, 1))
    result = graph.add("Conv", images, weights, shape=(batch, outputs, height, width), pads=(1, 1, 1, 1))
    return graph.transpose(result, (0, 2, 3, 1))


def _max_pool(graph, eqn, features):
    """Translate ``ops.pooling.max_pool``: [B, H, W, C] to [B, H / 2, W / 2, C]."""
    batch, height, width, channels = eqn.outvars[0].aval.shape
    images, shape = graph.transpose(graph.full(features), (0, 3, 1, 2)), (batch, channels, height, width)
    result = graph.add("MaxPool", images, shape=shape, kernel_shape=(2, 2), strides=(2, 2))
    return graph.transpose(result, (0, 2, 3, 1))


def _nms(graph, eqn, boxes, scores, mask, threshold):
    """Translate ``ops.nms.greedy_nms``: boxes [B, N, 4], scores and mask [B, N] to index and kept [B, K]."""
    boxes, scores, mask = (graph.full(x) for x in (boxes, scores, mask))
    count, kept_count = boxes.shape[1], eqn.outvars[0].aval.shape[1]
    lowest = np.array(-np.inf, np.float32)
    inside = graph.reshape(mask, (*mask.shape, 1))
    boxes = graph.elementwise("Where", inside, boxes, graph.constant(np.zeros((), np.float32)))
    scores = graph.elementwise("Where", mask, scores, graph.constant(lowest))
    chosen = graph.add(
        "NonMaxSuppression",
        boxes,
        graph.reshape(scores, (scores.shape[0], 1, count)),
        np.array([kept_count], np.int64),
        graph.reshape(threshold, (1,)),
        np.array([np.finfo(np.float32).min], np.float32),
        shape=(None, 3),
        dtype=np.int64,
    )
    # The operator's rows are image, class and box. Sort by score again, since their order is not specified.
    pairs = graph.add("Gather", chosen, np.array([0, 2], np.int64), shape=(None, 2), axis=1)
    nothing = graph.add("Expand", graph.constant(lowest), graph.shape(scores.shape), shape=scores.shape)
    survivors = graph.add("GatherND", scores, pairs, shape=(None,))
    sparse = graph.add("ScatterND", nothing, pairs, survivors, shape=scores.shape)
    shape = (scores.shape[0], kept_count)
    if count < kept_count:
        room = (scores.shape[0], kept_count - count)
        empty = graph.add("Expand", graph.constant(lowest), graph.shape(room), shape=room)
        sparse = graph.add("Concat", sparse, empty, shape=shape, axis=1)
    best, index = graph.add_many(
        "TopK", sparse, np.array([kept_count], np.int64), shapes=[shape] * 2, dtypes=(None, np.int64)
    )
    kept = graph.elementwise("Greater", best, graph.constant(lowest))
    index = graph.elementwise("Where", kept, graph.cast(index, np.int32), graph.constant(np.zeros((), np.int32)))
    return [index, kept]


def _roi_align(stride, samples_per_bin):
    def rule(graph, eqn, features, rois):
        """Translate ``ops.roi_align``: features [B, H, W, C] and RoIs [B, R, 4] to [B, R, bins, bins, C]."""
        batch, count, bins, _, channels = eqn.outvars[0].aval.shape
        numbers = graph.shape((batch, count))
        size = graph.add("Gather", numbers, np.array(0, np.int64), shape=())
        image = graph.add("Range", np.array(0, np.int64), size, np.array(1, np.int64), shape=(batch,))
        image = graph.add("Expand", graph.reshape(image, (batch, 1)), numbers, shape=(batch, count))
        pooled = graph.add(
            "RoiAlign",
            graph.transpose(graph.full(features), (0, 3, 1, 2)),
            graph.reshape(graph.full(rois), (batch * count, 4)),
            graph.reshape(image, (batch * count,)),
            shape=(batch * count, channels, bins, bins),
            output_height=bins,
            output_width=bins,
            sampling_ratio=samples_per_bin,
            spatial_scale=1.0 / stride,
            mode="avg",
            coordinate_transformation_mode="half_pixel",
        )
        return graph.reshape(graph.transpose(pooled, (0, 2, 3, 1)), (batch, count, bins, bins, channels))

    return rule
