"""Every op refuses what it cannot compute, with a sentence that names the argument and its value."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import runner
from case import case
from cases import CASES
from convolutions import window
from cycnn import errors
from cycnn.errors import ArgumentError, CycnnError, DTypeError, ShapeError, UnsupportedOp
from cycnn.graph.ir import Graph
from cycnn.ops import base
from cycnn.ops.activation import Activation, ActivationBackward
from cycnn.ops.base import Op, Spec
from cycnn.ops.conv import Conv2D, Conv2DBackwardData
from cycnn.ops.dense import Dense, DenseBackwardData
from cycnn.ops.dropout import Dropout, DropPath
from cycnn.ops.loss import Softmax, SoftmaxBackward, SoftmaxCrossEntropy
from cycnn.ops.merge import Concatenate, Multiply, PixelDot, SliceChannels
from cycnn.ops.norm import (
    BatchNorm,
    BatchNormBackward,
    BatchNormInference,
    FoldBatchNorm,
    MovingAverage,
)
from cycnn.ops.optimizer import SGDUpdate
from cycnn.ops.padding import Crop2D, ZeroPad2D
from cycnn.ops.pointwise import AccumulateGradient, Add, Assign, Scale
from cycnn.ops.pool import (
    AveragePool2D,
    AveragePool2DBackward,
    GlobalAveragePool2D,
    GlobalAveragePool2DBackward,
    GlobalMaxPool2D,
    GlobalMaxPool2DBackward,
    MaxPool2D,
    MaxPool2DBackward,
)
from cycnn.ops.shape import Flatten, Reshape
from cycnn.ops.weight_gradient import BiasGradient, Conv2DBackwardWeight, DenseBackwardWeight

W, D, I = (3, 3, 4, 8), (2, 5, 5, 8), (2, 7, 7, 4)  # noqa: E741
three = window(3)


def of(dtype, *shape):
    return Spec(shape, dtype)


REFUSED = [
    # convolution
    (Conv2D(three), [(7, 7, 4), W], r"`Conv2D` takes x of rank 4 \(N, H, W, C\).*\(7, 7, 4\)"),
    (Conv2D(three), [I, (3, 3, 4)], r"`Conv2D` takes w of rank 4 .* Received shape \(3, 3, 4\)"),
    (Conv2D(three), [I, (5, 5, 4, 8)], r"window of \(3, 3\). Received: .* window of \(5, 5\)"),
    (Conv2D(three), [I, (3, 3, 3, 8)], "channels=4, groups=1"),
    (Conv2D(three, groups=3), [(2, 7, 7, 6), (3, 3, 2, 8)], "`groups` must divide .* filters=8"),
    (Conv2D(three, groups=0), [I, W], "`groups` must divide .*Received: groups=0"),
    (Conv2D(three), [I, W, (7,)], r"takes b of shape \(8,\). Received: b of shape \(7,\)"),
    (Conv2D(three), [I, W, None, I], r"takes a residual of shape .*Received: \(2, 7, 7, 4\)"),
    (Conv2D(three), [(2, 2, 7, 4), W], "extent 3 does not fit into an input of 2"),
    (Conv2D(window(3, 2, strict=True)), [(1, 8, 8, 4), W], "does not tile .*W=8, K=3, P=0.*S=2"),
    (Conv2DBackwardData(three, 1, I), [D[1:], W], "`Conv2DBackwardData` takes dy of rank 4"),
    (Conv2DBackwardData(three, 1, I), [(2, 5, 4, 8), W], r"dy of shape \(2, 5, 5, 8\) for x"),
    (Conv2DBackwardData(three, 1, I), [D, W, None, D], r"takes a residual of shape"),
    (Conv2DBackwardData(three, 1, I), [D, (3, 3, 5, 8)], "channels=4, groups=1"),
    (Conv2DBackwardData(three, 1, I), [D, (3, 2, 4, 8)], r"Received: w of shape \(3, 2, 4, 8\)"),
    (Conv2DBackwardWeight(three, 1, W), [I[1:], D], "takes x of rank 4"),
    (Conv2DBackwardWeight(three, 1, W), [I, D[1:]], "takes dy of rank 4"),
    (Conv2DBackwardWeight(three, 1, W), [(2, 7, 7, 5), D], r"4 channels .*x.shape=\(2, 7, 7, 5\)"),
    (Conv2DBackwardWeight(three, 1, W), [I, (2, 5, 6, 8)], r"dy of shape \(2, 5, 5, 8\)"),
    (
        Conv2DBackwardWeight(three, 1, W),
        [I, D, W],
        "takes no `into`",
    ),
    (
        Conv2DBackwardWeight(three, 1, W, True),
        [I, D],
        r"accumulate=True takes `into`.*Received: \[\]",
    ),
    (Conv2DBackwardWeight(three, 1, W, True), [I, D, (8,)], r"Received: \[\(8,\)\]"),
    # dense
    (Dense(), [(2, 3, 4), (4, 5)], "`Dense` takes x of rank 2"),
    (Dense(), [(2, 4), (4,)], "`Dense` takes w of rank 2"),
    (Dense(), [(2, 3), (4, 5)], r"as many features as `w` has rows.*x of shape \(2, 3\)"),
    (Dense(), [(2, 4), (4, 5), (4,)], r"takes b of shape \(5,\). Received: b of shape \(4,\)"),
    (DenseBackwardData(), [(2, 4), (4, 5)], "as many features as `w` has columns"),
    (DenseBackwardData(), [(4,), (5, 4)], "takes dy of rank 2"),
    (DenseBackwardData(), [(2, 4), (4,)], "takes w of rank 2"),
    (DenseBackwardWeight(), [(2, 4), (3, 5)], r"equally many rows.*x.shape=\(2, 4\)"),
    (DenseBackwardWeight(), [(4,), (2, 5)], "takes x of rank 2"),
    (DenseBackwardWeight(), [(2, 4), (5,)], "takes dy of rank 2"),
    (DenseBackwardWeight(True), [(2, 4), (2, 5), (5, 4)], r"Received: \[\(5, 4\)\]"),
    (BiasGradient(True), [(2, 4), (5,)], r"Received: \[\(5,\)\]"),
    # pooling
    (MaxPool2D(three), [(7, 7, 4)], "`MaxPool2D` takes x of rank 4"),
    (MaxPool2D(three), [(1, 2, 7, 4)], "extent 3 does not fit into an input of 2"),
    (
        MaxPool2D(window(2, 2, 2)),
        [I],
        "padding smaller than its window.* less than 2 on spatial axis 0",
    ),
    (MaxPool2D(window(2, 1, 1, 2)), [(1, 1, 1, 4)], "without any real pixel on spatial axis 0"),
    (MaxPool2DBackward(three), [I, (2, 5, 4, 4)], r"dy of shape \(2, 5, 5, 4\).*\(2, 5, 4, 4\)"),
    (AveragePool2D(three), [(7, 7, 4)], "`AveragePool2D` takes x of rank 4"),
    (AveragePool2D(window(2, 2, (0, 3))), [I], "less than 2 on spatial axis 1"),
    (AveragePool2DBackward(three, I, False), [I], r"dy of shape \(2, 5, 5, 4\)"),
    (GlobalAveragePool2D(), [(7, 7, 4)], "takes x of rank 4"),
    (GlobalMaxPool2D(), [(2, 0, 7, 4)], r"at least one pixel. Received shape \(2, 0, 7, 4\)"),
    (GlobalAveragePool2DBackward(I), [(2, 5)], r"dy of shape \(2, 4\). Received shape \(2, 5\)"),
    (GlobalMaxPool2DBackward(), [I, (3, 4)], r"dy of shape \(2, 4\). Received shape \(3, 4\)"),
    # batch normalization
    (BatchNorm(), [(4,), None, None], r"x of shape \(N, ..., C\).*Received: \(4,\)"),
    (BatchNorm(), [(2, None), None, None], r"with known C >= 1. Received: \(2, None\)"),
    (BatchNorm(), [(2, 0), (0,), (0,)], r"with known C >= 1. Received: \(2, 0\)"),
    (BatchNorm(), [I, (5,), None], r"gamma of shape \(4,\).*Received: gamma of shape \(5,\)"),
    (BatchNorm(), [I, None, (4, 1)], r"beta of shape \(4,\).*Received: beta of shape \(4, 1\)"),
    (BatchNorm(), [(1, 1, 1, 4), None, None], r"two values or more.*\(1, 1, 1, 4\)"),
    (BatchNorm(), [(0, 3, 3, 4), None, None], r"two values or more.*\(0, 3, 3, 4\)"),
    (BatchNormBackward(), [I, D, None, None, (4,), (4,)], r"dy of shape \(2, 7, 7, 4\)"),
    (BatchNormBackward(), [I, I, None, None, (3,), (4,)], r"Received: mean of shape \(3,\)"),
    (BatchNormBackward(), [I, I, None, None, (4,), (3,)], r"Received: invstd of shape \(3,\)"),
    (BatchNormInference(), [I, None, None, (3,), (4,)], r"Received: mean of shape \(3,\)"),
    (BatchNormInference(), [I, None, None, (4,), (3,)], r"Received: variance of shape \(3,\)"),
    (FoldBatchNorm(), [(4,), None, None, None, (4,), (4,)], r"takes w of shape .*\(4,\)"),
    (FoldBatchNorm(), [W, (4,), None, None, (8,), (8,)], r"b of shape \(8,\) for w of shape"),
    (MovingAverage(0.9), [(3,), (4,)], r"x and y of one shape. Received: \(3,\) and \(4,\)"),
    # the others
    (Assign(), [(2,), (3,)], "takes x and into of the same shape"),
    (Add(), [(2, 3), (3, 2)], r"same shape. Received shapes \(2, 3\) and \(3, 2\)"),
    (Add(), [(2, 3), (3,)], r"Received shapes \(2, 3\) and \(3,\)"),
    (
        ActivationBackward("relu"),
        [(2, 3), (2, 4)],
        "`ActivationBackward` takes z and dy of the same",
    ),
    (
        Multiply(),
        [I, (2, 7, 7, 5)],
        r"`Multiply` takes a and b of the same.*may have .*\(N, 1, 1, C\)",
    ),
    (Multiply(), [I, (1, 1, 1, 4)], r"Received shapes \(2, 7, 7, 4\) and \(1, 1, 1, 4\)"),
    (Multiply(), [(2, 4), (4,)], r"Received shapes \(2, 4\) and \(4,\)"),
    (PixelDot(), [(2, 7, 4)] * 2, "`PixelDot` takes a of rank 4"),
    (PixelDot(), [I, D], "`PixelDot` takes a and b of the same shape"),
    (
        Concatenate(),
        [I, D],
        r"agree in all others. Received shapes: \(2, 7, 7, 4\), \(2, 5, 5, 8\)",
    ),
    (Concatenate(), [I, (2, 7, 4)], "tensors of one rank, 2 or more"),
    (
        Concatenate(),
        [(4,), (4,)],
        r"tensors of one rank, 2 or more. Received shapes: \(4,\), \(4,\)",
    ),
    (Concatenate(), [], "tensors of one rank, 2 or more"),
    (SliceChannels(1, 5), [I], r"5 channels or more. Received shape \(2, 7, 7, 4\)"),
    (SliceChannels(0, 1), [(4,)], "`SliceChannels` takes x of 1 channels or more"),
    (ZeroPad2D(((1, 0), (0, 1))), [I[1:]], "`ZeroPad2D` takes x of rank 4"),
    (
        ZeroPad2D(((1, 0), (0, 1))),
        [(2, 0, 7, 4)],
        "at least 1 pixel on spatial axis 0. Received: 0",
    ),
    (Crop2D(((1, 0), (0, 1))), [I[1:]], "`Crop2D` takes x of rank 4"),
    (
        Crop2D(((3, 4), (0, 1))),
        [I],
        r"`Crop2D` leaves at least one pixel. .*\(\(3, 4\), \(0, 1\)\)",
    ),
    (AccumulateGradient(), [(2,), (3,)], "takes d and into of the same shape"),
    (Scale(), [(2,), (2,)], r"takes s of shape \(1,\). Received shape \(2,\)"),
    (Flatten(), [()], "`Flatten` takes x with a batch dim"),
    (Reshape((2, 3)), [(4, 5)], r"samples of 6 elements. Received shape \(4, 5\)"),
    (Softmax(), [()], "rank 1 or more"),
    (SoftmaxBackward(), [(2, 3), (3, 2)], "y and dy of the same shape"),
    (SoftmaxCrossEntropy(), [(4,), of("int32", 4), (1,)], r"logits of rank 2 \(N, K\)"),
    (SoftmaxCrossEntropy(), [(4, 3), of("int32", 3), (1,)], "one label for each row"),
    (SoftmaxCrossEntropy(), [(4, 3), of("int32", 4, 1), (1,)], "one label for each row"),
    (SoftmaxCrossEntropy(), [(4, 3), of("int32", 4), (2,)], r"scale of shape \(1,\)"),
    (SGDUpdate(), [(4,), (5,), None, (1,)], r"one size and rank 1.*\(4,\), \(5,\)"),
    (SGDUpdate(), [(2, 2), (2, 2), None, (1,)], "one size and rank 1"),
    (SGDUpdate(0.9), [(4,), (4,), (3,), (1,)], "one size and rank 1"),
    (SGDUpdate(0.9), [(4,), (4,), None, (1,)], r"v where there is momentum.*momentum=0.9"),
    (SGDUpdate(), [(4,), (4,), (4,), (1,)], "v where there is momentum"),
    (SGDUpdate(), [(4,), (4,), None, (4,)], r"lr of shape \(1,\)"),
    (Dropout(0.5), [(4,), of("uint64", 3)], r"seed of shape \(2,\)"),
    (DropPath(0.5), [(4,), of("uint64", 3)], r"`DropPath` takes seed of shape \(2,\)"),
    (DropPath(0.5), [(), of("uint64", 2)], "`DropPath` takes x with a batch dim"),
]
WRONG_ARGUMENTS = [
    (Conv2D(three, activation="tanh"), [I, W], "`activation` must be .*activation='tanh'"),
    (Conv2D(three, algorithm="fft"), [I, W], "`algorithm` must be one of .*algorithm='fft'"),
    *(
        (
            Conv2D(w, groups, None, algorithm),
            [I, W],
            rf"`algorithm`='{algorithm}' takes a window of \(3, 3\) .* dilation of 1\. .*{received}",
        )
        for algorithm in ("winograd2", "winograd4")
        for w, groups, received in [
            (window(5), 1, r"window of \(5, 5\)"),
            (window(3, (1, 2)), 1, r"strides=\(1, 2\)"),
            (window(3, 3), 1, r"strides=\(3, 3\)"),
            (window(3, 2, 0, 2), 1, r"dilation=\(2, 2\)"),
            (three, 2, "groups=2"),
        ]
    ),
    (
        Conv2DBackwardData(window(3, 2), 1, (2, 5, 5, 3), "winograd4"),
        [(2, 2, 2, 4), W],
        r"strides of \(1, 1\)\. .*`Conv2DBackwardData` with a window of \(3, 3\), strides=\(2, 2\)",
    ),
    (
        Conv2DBackwardWeight(window(3, 2), 1, (3, 3, 3, 4), algorithm="winograd2"),
        [I, (2, 2, 2, 4)],
        r"strides of \(1, 1\)\. .*`Conv2DBackwardWeight` with a window .* strides=\(2, 2\)",
    ),
    (Activation("tanh"), [(2, 3)], "`activation` must be .* 'hard_swish'. .*activation='tanh'"),
    (ActivationBackward("tanh"), [(2, 3)] * 2, "`activation` must be .*activation='tanh'"),
    (SliceChannels(2, 2), [I], "`begin` must be .* less than `end`. Received: begin=2, end=2"),
    (SliceChannels(-1, 2), [I], "`begin` must be at least 0 .*begin=-1"),
    (DropPath(1.0), [(4,), of("uint64", 2)], "`rate` must be at least 0 .*rate=1.0"),
    (Dense("tanh"), [(2, 4), (4, 5)], "`activation` must be .*activation='tanh'"),
    (BatchNorm(0.0), [I, None, None], "`epsilon` must be above 0. Received: epsilon=0.0"),
    (BatchNorm(1e-3, "tanh"), [I, None, None], "`activation` must be .*activation='tanh'"),
    (BatchNormBackward("tanh"), [I, I, None, None, (4,), (4,)], "`activation` must be"),
    (FoldBatchNorm(0.0), [W, None, None, None, (8,), (8,)], "`epsilon` must be above 0"),
    (BatchNormInference(-1.0), [I, None, None, (4,), (4,)], "`epsilon` must be above 0"),
    (BatchNormInference(1e-3, "tanh"), [I, None, None, (4,), (4,)], "`activation` must be"),
    (Dropout(1.0), [(4,), of("uint64", 2)], "`rate` must be at least 0 .*rate=1.0"),
    (Dropout(-0.1), [(4,), of("uint64", 2)], "`rate` must be at least 0"),
    (Dropout(0.5, -1), [(4,), of("uint64", 2)], "`stream` must be .*stream=-1"),
]
WRONG_DTYPES = [
    (Dropout(0.5), [(4,), (2,)], "seed of uint64. Received: float32"),
    (SoftmaxCrossEntropy(), [(4, 3), (4,), (1,)], "labels of int32. Received: float32"),
]


def spec(shape):
    return Spec(shape) if isinstance(shape, tuple) else shape


def refuse(op, shapes, text, error):
    graph = Graph()
    specs = [spec(s) for s in shapes]
    inputs = [None if s is None else graph.input(s.shape, s.dtype) for s in specs]
    with pytest.raises(CycnnError, match=text) as caught:
        graph.add(op, *inputs)
    assert caught.type is error
    assert not graph.nodes


def named(table):
    return pytest.mark.parametrize(
        ("op", "shapes", "text"), table, ids=[str(case(op)) + " " + text for op, _, text in table]
    )


@named(REFUSED)
def test_shapes_that_do_not_fit(op, shapes, text):
    refuse(op, shapes, text, ShapeError)


@named(WRONG_ARGUMENTS)
def test_arguments_that_are_not_allowed(op, shapes, text):
    refuse(op, shapes, text, ArgumentError)


@named(WRONG_DTYPES)
def test_dtypes_that_are_not_allowed(op, shapes, text):
    refuse(op, shapes, text, DTypeError)


@pytest.mark.parametrize("name", sorted({c.op.name for c in CASES}))
def test_every_op_refuses_a_shape(name):
    """But those that take any."""
    assert name in {op.name for op, _, _ in REFUSED} | {"Activation"}


def test_an_op_says_what_it_cannot_do():
    class Odd(Op):
        def infer(self, x):
            return x

    graph = Graph()
    x = graph.input((3,))
    graph.outputs = [graph.add(Odd(), x)]
    with pytest.raises(UnsupportedOp, match="Odd has no gradient"):
        Odd().gradient(graph, graph.nodes[0], (x,))
    with pytest.raises(UnsupportedOp, match="Odd has no kernel"):
        runner.lower(graph, runner.KERNELS[runner.TIERS[0]])
    with pytest.raises(NotImplementedError):
        Op().infer()
    with pytest.raises(NotImplementedError):
        Op().evaluate()


def test_only_the_loss_of_cross_entropy_is_differentiated():
    graph = Graph()
    x, labels, scale = graph.input((4, 3)), graph.input((4,), "int32"), graph.input((1,))
    graph.add(SoftmaxCrossEntropy(), x, labels, scale)
    (node,) = graph.nodes
    for dys in ((None, x), (node.outputs[0], x)):
        with pytest.raises(UnsupportedOp, match="gradient of `SoftmaxCrossEntropy` is that of its"):
            node.op.gradient(graph, node, dys)


def test_only_the_first_output_of_batch_normalization_is_differentiated():
    graph = Graph()
    outputs = graph.add(BatchNorm(), graph.input((4, 3)), None, None)
    for dys in ((None, outputs[1], None, None), (outputs[0], None, outputs[1], None)):
        with pytest.raises(UnsupportedOp, match="gradient of `BatchNorm` is that of y alone"):
            graph.nodes[0].op.gradient(graph, graph.nodes[0], dys)


def test_unknown_dims_are_left_open():
    """Inference accepts dims that are not known yet."""
    for c in CASES:
        if c.op.name in {"Conv2D", "MaxPool2D", "AveragePool2D"}:
            specs = [None if x is None else Spec(x.shape, str(x.dtype)) for x in c.arrays()]
            x = Spec((None, None, None, specs[0].shape[3]))
            outputs = c.op.infer(x, *specs[1:])
            assert outputs.shape[:3] == (None, None, None)


def test_every_error_is_one_of_ours():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), CycnnError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DTypeError, TypeError)


@pytest.mark.parametrize("path", sorted(Path(base.__file__).parents[1].rglob("*.py")), ids=str)
def test_messages_are_written_out(path):
    """An error that is raised on purpose carries one sentence, not a tuple of them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            if name in errors.__all__:
                assert len(node.exc.args) == 1, ast.unparse(node)


def test_hierarchy_is_drawn():
    drawn = inspect.getdoc(errors)
    assert all(name in drawn for name in errors.__all__)
