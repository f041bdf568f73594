"""ONNX operators for the JAX primitives of the detectors.

A rule takes the graph, the equation and its operands (see ``onnx_export.Graph``) and returns the result, or a list of
results. Element-wise operators of ONNX broadcast as NumPy's do; for all others, ``Graph.full`` broadcasts an operand.
"""

import string

import numpy as np

INT64_MAX = np.iinfo(np.int64).max


def _reshape(graph, eqn, operand):
    return graph.reshape(graph.full(operand), eqn.outvars[0].aval.shape)


def _broadcast(graph, eqn, operand, *_):
    # The new axes keep length 1 until an operator needs the full array.
    shape = [1] * len(eqn.params["shape"])
    for axis, size in zip(eqn.params["broadcast_dimensions"], operand.shape, strict=True):
        shape[axis] = size
    return operand if tuple(shape) == operand.shape else graph.reshape(operand, shape)


def _transpose(graph, eqn, operand):
    return graph.transpose(operand, eqn.params["permutation"])


def _slice(graph, eqn, operand, *_):
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    # A limit that is not a number is the batch size.
    limits = [limit if isinstance(limit, (int, np.integer)) else INT64_MAX for limit in limits]
    numbers = [np.array(values, np.int64) for values in (starts, limits, range(len(starts)), steps)]
    return graph.add("Slice", graph.full(operand), *numbers, shape=eqn.outvars[0].aval.shape)


def _split(graph, eqn, operand):
    sizes = np.array(eqn.params["sizes"], np.int64)
    shapes = [var.aval.shape for var in eqn.outvars]
    return graph.add_many("Split", graph.full(operand), sizes, shapes=shapes, axis=eqn.params["axis"])


def _concatenate(graph, eqn, *operands):
    operands = [graph.full(operand) for operand in operands]
    return graph.add("Concat", *operands, shape=eqn.outvars[0].aval.shape, axis=eqn.params["dimension"])


def _stack(graph, eqn, *operands):
    axis = eqn.params["axis"]
    parts = [graph.full(operand) for operand in operands]
    parts = [graph.reshape(part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in parts]
    return graph.add("Concat", *parts, shape=eqn.outvars[0].aval.shape, axis=axis)


def _convert(graph, eqn, operand, *_):
    return graph.cast(operand, eqn.params["new_dtype"])


def _select(graph, eqn, which, *cases):
    if len(cases) != 2 or which.dtype != bool:
        raise NotImplementedError("select_n of more than two cases")
    return graph.elementwise("Where", which, cases[1], cases[0])


def _reduce(operator):
    def rule(graph, eqn, operand):
        is_bool = operand.dtype == bool
        # ONNX's reductions do not take booleans.
        result = graph.cast(graph.full(operand), np.int32) if is_bool else graph.full(operand)
        # One axis at a time: a long sum in one node loses a digit of precision in ONNX Runtime.
        for axis in sorted(eqn.params["axes"], reverse=True):
            shape = result.shape[:axis] + result.shape[axis + 1 :]
            result = graph.add(operator, result, np.array([axis], np.int64), shape=shape, keepdims=0)
        return graph.cast(result, bool) if is_bool else result

    return rule


def _is_finite(graph, eqn, operand):
    is_not_finite = graph.elementwise("Or", graph.elementwise("IsNaN", operand), graph.elementwise("IsInf", operand))
    return graph.elementwise("Not", is_not_finite)


def _power(graph, eqn, operand):
    if eqn.params["y"] != 2:
        raise NotImplementedError(f"power {eqn.params['y']}")
    return graph.elementwise("Mul", operand, operand)


def _convolution(graph, eqn, inputs, kernel):
    params = eqn.params
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) != {1}:
        raise NotImplementedError("transposed convolution")
    dimensions = params["dimension_numbers"]
    before, after = zip(*params["padding"], strict=True)
    outputs = graph.add(
        "Conv",
        graph.transpose(graph.full(inputs), dimensions.lhs_spec),
        graph.transpose(graph.full(kernel), dimensions.rhs_spec),
        shape=[eqn.outvars[0].aval.shape[axis] for axis in dimensions.out_spec],
        strides=params["window_strides"],
        pads=(*before, *after),
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return graph.transpose(outputs, np.argsort(dimensions.out_spec))


def _product(graph, eqn, left, right):
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right, shape = graph.full(left), graph.full(right), eqn.outvars[0].aval.shape
    ranks = len(left.shape), len(right.shape)
    if not left_batch and (tuple(left_sum), tuple(right_sum), ranks[1]) == ((ranks[0] - 1,), (0,), 2):
        return graph.add("MatMul", left, right, shape=shape)
    letters = iter(string.ascii_lowercase)
    left_names, right_names = [next(letters) for _ in range(ranks[0])], [next(letters) for _ in range(ranks[1])]
    for i, j in zip((*left_sum, *left_batch), (*right_sum, *right_batch), strict=True):
        right_names[j] = left_names[i]
    free = [left_names[i] for i in range(ranks[0]) if i not in (*left_sum, *left_batch)]
    free += [right_names[j] for j in range(ranks[1]) if j not in (*right_sum, *right_batch)]
    result = "".join([left_names[i] for i in left_batch] + free)
    equation = f"{''.join(left_names)},{''.join(right_names)}->{result}"
    return graph.add("Einsum", left, right, shape=shape, equation=equation)


def _top_k(graph, eqn, operand):
    shapes = [var.aval.shape for var in eqn.outvars]
    if eqn.params.get("axis", len(shapes[0]) - 1) != len(shapes[0]) - 1:
        raise NotImplementedError("top_k along an inner axis")
    count = np.array([eqn.params["k"]], np.int64)
    values, indices = graph.add_many("TopK", graph.full(operand), count, shapes=shapes, dtypes=(None, np.int64))
    return [values, graph.cast(indices, np.int32)]


def _gather(graph, eqn, operand, indices):
    """Translate three kinds of gather, whose indices lie inside the operand.

    These are rows of each image, [B, N, ...] by [B, K, 1]; a slice of one axis; and indices on the last axis.
    """
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, indices = graph.full(operand), graph.cast(graph.full(indices), np.int64)
    shape = eqn.outvars[0].aval.shape
    # x[..., :n] for a symbolic batch size.
    if indices.shape == (1,) and tuple(numbers.offset_dims) == tuple(range(len(operand.shape))):
        (axis,) = numbers.start_index_map
        stop = graph.add("Add", indices, np.array([sizes[axis]], np.int64), shape=(1,))
        return graph.add("Slice", operand, indices, stop, np.array([axis], np.int64), shape=shape)
    # x[..., ::2] in some versions of JAX.
    others = (size for axis, size in enumerate(sizes) if axis not in numbers.collapsed_slice_dims)
    expected = [size for axis, size in enumerate(operand.shape) if axis not in numbers.collapsed_slice_dims]
    last = len(operand.shape) - 1
    if len(indices.shape) == 2 and tuple(numbers.collapsed_slice_dims) == (last,) and list(others) == expected:
        return graph.add("Gather", operand, graph.reshape(indices, indices.shape[:1]), shape=shape, axis=last)
    batched = tuple(numbers.operand_batching_dims), tuple(numbers.start_indices_batching_dims)
    rows = tuple(numbers.collapsed_slice_dims), tuple(numbers.start_index_map)
    if (
        batched != ((0,), (0,))
        or rows != ((1,), (1,))
        or tuple(sizes[:2]) != (1, 1)
        or tuple(sizes[2:]) != tuple(operand.shape[2:])
        or len(indices.shape) != 3
    ):
        raise NotImplementedError("a gather other than of complete rows per image")
    return graph.add("GatherND", operand, indices, shape=shape, batch_dims=1)


def _iota(graph, eqn):
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    numbers = np.arange(shape[axis], dtype=eqn.params["dtype"])
    return graph.constant(np.broadcast_to(np.expand_dims(numbers, [i for i in range(len(shape)) if i != axis]), shape))


def _elementwise(*operators):
    def rule(graph, eqn, *operands):
        result = graph.elementwise(operators[0], *operands)
        for operator in operators[1:]:
            result = graph.elementwise(operator, result)
        return result

    return rule


RULES = {
    "add": _elementwise("Add"),
    "and": _elementwise("And"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "copy": lambda graph, eqn, operand: operand,
    "div": _elementwise("Div"),
    "dot_general": _product,
    "eq": _elementwise("Equal"),
    "exp": _elementwise("Exp"),
    "expand_dims": _reshape,
    "floor": _elementwise("Floor"),
    "gather": _gather,
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "integer_pow": _power,
    "iota": _iota,
    "is_finite": _is_finite,
    "le": _elementwise("LessOrEqual"),
    "logistic": _elementwise("Sigmoid"),
    "lt": _elementwise("Less"),
    "max": _elementwise("Max"),
    "min": _elementwise("Min"),
    "mul": _elementwise("Mul"),
    "ne": _elementwise("Equal", "Not"),
    "neg": _elementwise("Neg"),
    "not": _elementwise("Not"),
    "or": _elementwise("Or"),
    "reduce_and": _reduce("ReduceMin"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_or": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceSum"),
    "reshape": _reshape,
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": lambda graph, eqn, operand: graph.elementwise("Mul", operand, operand),
    "squeeze": _reshape,
    "stack": _stack,
    "stop_gradient": lambda graph, eqn, operand: operand,
    "sub": _elementwise("Sub"),
    "top_k": _top_k,
    "transpose": _transpose,
}
