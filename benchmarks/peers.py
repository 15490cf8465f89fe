"""The peers, each set up as its makers advise: a network and images in, a call that predicts out.

Images come as (N, C, H, W) and are brought into a peer's own order before anything is timed. All work in
float32. A peer is a function in `PEERS`; one that is not installed raises `ImportError`.
"""

from __future__ import annotations

import importlib.util
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from twin import Twin

import cycnn

Call = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Network:
    """A model in all the forms that peers read; files go to ``folder``."""

    model: cycnn.Model
    folder: Path

    @cached_property
    def twin(self) -> Twin:
        return Twin(self.model)

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        height, width, channels = self.model.inputs[0].shape[1:]
        return channels, height, width

    @cached_property
    def onnx(self) -> Path:
        """An ONNX file, for any batch; one that is there already is taken."""
        path = self.folder / "network.onnx"
        if path.exists():
            return path
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.twin.network,
                (torch.zeros(2, *self.image),),
                path,
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
            )
        return path

    @cached_property
    def ncnn(self) -> Path:
        """ncnn's description of the network, like `onnx`; its weights are beside it, ending in .bin."""
        path = self.folder / "network.ncnn.param"
        if path.exists():
            return path
        program = Path(importlib.util.find_spec("pnnx").origin).with_name("pnnx")
        shape = ",".join(map(str, (1, *self.image)))
        subprocess.run(
            [program, self.onnx.name, f"inputshape=[{shape}]", "fp16=0"],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return path


def session(network: Network, images: np.ndarray, threads: int) -> Call:
    """cycnn itself: for one image latency is its purpose, for a batch throughput."""
    purpose = "latency" if len(images) == 1 else "throughput"
    serving = cycnn.Session(network.model, threads=threads, optimize_for=purpose)
    x = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return lambda: serving.run(x)


def torch_eager(network: Network, images: np.ndarray, threads: int) -> Call:
    """PyTorch as users call it, in its faster order of memory."""
    torch.set_num_threads(threads)
    module, x = _channels_last(network, images)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(x).numpy()

    return call


def torch_compiled(network: Network, images: np.ndarray, threads: int) -> Call:
    """PyTorch compiled for this batch, its weights frozen."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    torch._dynamo.reset()
    torch.set_num_threads(threads)
    module, x = _channels_last(network, images)
    compiled = torch.compile(module, dynamic=False)

    def call() -> np.ndarray:
        with torch.no_grad():
            return compiled(x).numpy()

    return call


def _channels_last(network: Network, images: np.ndarray) -> tuple[torch.nn.Module, torch.Tensor]:
    order = torch.channels_last
    module = Twin(network.model).network.to(memory_format=order)
    return module, torch.from_numpy(images).contiguous(memory_format=order)


def onnx_runtime(network: Network, images: np.ndarray, threads: int) -> Call:
    """ONNX Runtime with all its rewrites."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    serving = onnxruntime.InferenceSession(
        network.onnx, options, providers=["CPUExecutionProvider"]
    )
    return lambda: serving.run(None, {"x": images})[0]


def openvino(network: Network, images: np.ndarray, threads: int) -> Call:
    """OpenVINO compiled for this batch."""
    import openvino

    core = openvino.Core()
    model = core.read_model(network.onnx)
    model.reshape({model.inputs[0]: images.shape})
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    x = openvino.Tensor(images, shared_memory=False)

    def call() -> np.ndarray:
        request.set_input_tensor(x)
        request.infer()
        return request.get_output_tensor(0).data.copy()

    return call


def ncnn(network: Network, images: np.ndarray, threads: int) -> Call:
    """ncnn, which takes one image after the other."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for part in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
        setattr(net.opt, f"use_{part}", False)
    if net.load_param(str(network.ncnn)) or net.load_model(str(network.ncnn.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not load the network")
    (source,), (target,) = net.input_names(), net.output_names()
    mats = [ncnn.Mat(np.ascontiguousarray(image)).clone() for image in images]

    def one(image) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input(source, image)
        return np.array(extractor.extract(target)[1]).reshape(-1)

    return lambda: np.stack([one(image) for image in mats])


PEERS: dict[str, Callable[[Network, np.ndarray, int], Call]] = {
    "torch": torch_eager,
    "compiled": torch_compiled,
    "onnxruntime": onnx_runtime,
    "openvino": openvino,
    "ncnn": ncnn,
}
