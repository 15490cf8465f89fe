"""The LeNet-5 of `cycnn.zoo` for PyTorch and for ONNX Runtime, with the same weights.

cycnn keeps convolution kernels HWIO and flattens images in the order height, width, channel; both peers
want channels first, so kernels are transposed and the rows of the first dense layer put in their order.
"""

from __future__ import annotations

import numpy as np

import cycnn

IMAGE = (28, 28, 1)
MAP = (5, 5, 16)  # what is flattened


def channels_first(weights: list[np.ndarray]) -> list[np.ndarray]:
    """The weights of `cycnn.zoo.lenet5` as the peers want them: OIHW, and (units, inputs)."""
    kernel_1, bias_1, kernel_2, bias_2, dense, *rest = weights
    dense = dense.reshape(*MAP, -1).transpose(2, 0, 1, 3).reshape(dense.shape)
    kernels = [k.transpose(3, 2, 0, 1) for k in (kernel_1, kernel_2)]
    weights = [kernels[0], bias_1, kernels[1], bias_2, dense.T, *rest]
    weights[6], weights[8] = weights[6].T, weights[8].T
    return [np.ascontiguousarray(w) for w in weights]


def for_torch(torch, model: cycnn.Model):
    """The same network as a `torch.nn.Module`."""
    nn = torch.nn
    network = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    with torch.no_grad():
        for p, w in zip(network.parameters(), channels_first(model.get_weights()), strict=True):
            p.copy_(torch.from_numpy(w))
    return network


def for_onnx(onnx, model: cycnn.Model) -> bytes:
    """The same network as an ONNX file, for any batch."""
    make = onnx.helper
    names = [f"{kind}{i}" for i in range(5) for kind in ("w", "b")]
    arrays = zip(names, channels_first(model.get_weights()), strict=True)
    constants = [onnx.numpy_helper.from_array(w, name) for name, w in arrays]
    nodes, x = [], "x"

    def add(op: str, *weights: str, **attributes: object) -> None:
        nonlocal x
        y = "logits" if len(nodes) == 11 else f"y{len(nodes)}"
        nodes.append(make.make_node(op, [x, *weights], [y], **attributes))
        x = y

    for i, padding in ((0, 2), (1, 0)):
        add("Conv", f"w{i}", f"b{i}", pads=[padding] * 4)
        add("Relu")
        add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten")
    for i in (2, 3, 4):
        add("Gemm", f"w{i}", f"b{i}", transB=1)
        if i < 4:
            add("Relu")
    float32 = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        nodes,
        "lenet5",
        [make.make_tensor_value_info("x", float32, ["n", 1, 28, 28])],
        [make.make_tensor_value_info("logits", float32, ["n", 10])],
        constants,
    )
    opset = [make.make_opsetid("", 17)]
    return make.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
