"""How much memory does a training step take, and a prediction, beside the peers?

Every candidate works in a process of its own, so that peaks do not mix. After its imports, and a network
of a few weights that starts threads and whatever else a library has once, the process loads the network,
makes a batch and repeats the step; printed is by how many MiB it grew at most, weights and batch included,
pages of files (code read in when first used) left out. Loading is over when the peak is taken: what it
needed for a moment does not count. The median of ``--rounds`` processes counts, candidates in turns.
cycnn's forecast, `Model.memory` or `Session.memory`, made by a process that runs nothing, stands beside its
measurement. A prediction is served from a file: a saved model for cycnn, ONNX for the others, and for
PyTorch its own module.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timing
import training

import cycnn
from cycnn import layers

TRAINING_PEERS = ("torch",)
PREDICTION_PEERS = ("torch", "onnxruntime", "openvino", "ncnn")
REPEATS = 3  # of a step: the second is the first to find momentum and gradients in place
MIB = 2**20


def first_network(seed: int = 0) -> cycnn.Sequential:
    """A few weights: what a process runs before it is measured."""
    return cycnn.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", use_bias=False, seed=seed),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, seed=seed),
        ]
    )


def network(name: str) -> cycnn.Model:
    return first_network() if name == first_network.__name__ else getattr(cycnn.zoo, name)(seed=0)


@dataclass(frozen=True)
class Work:
    """What a process does; the files of its network are in ``folder / network``."""

    candidate: str
    network: str
    batch: int
    training: bool
    threads: int
    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / self.network

    @property
    def saved(self) -> Path:
        return self.files / "network.safetensors"

    def call(self) -> Callable[[], object]:
        """The network loaded, a batch made, and the step to repeat."""
        return self._training_step() if self.training else self._prediction()

    def _training_step(self) -> Callable[[], object]:
        model = network(self.network)
        x, classes = images(model, self.batch), model.outputs[0].shape[1]
        batches = [(x, np.random.default_rng(1).integers(0, classes, self.batch))]
        if self.candidate == "cycnn":
            return training.cycnn_step(model, batches)
        import torch

        torch.set_num_threads(self.threads)
        return training.torch_step(torch, model, batches, torch.channels_last)

    def _prediction(self) -> Callable[[], object]:
        model = network(self.network)
        x = images(model, self.batch)
        if self.candidate == "cycnn":
            session = cycnn.Session(self.saved, threads=self.threads)
            return lambda: session.run(x)
        import peers

        files = peers.Network(model, self.files)
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return peers.PEERS[self.candidate](files, x, self.threads)


def images(model: cycnn.Model, batch: int) -> np.ndarray:
    shape = (batch, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).standard_normal(shape, np.float32)


# ---- what a process measures of itself


def resident(part: str) -> int:
    """Bytes of this process: ``RssAnon`` of its own, ``RssFile`` of files, ``VmHWM`` both at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(part + ":"))


def settle() -> None:
    """Hand back what is free, and take the peak from here on."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def grown(work: Work) -> dict[str, float]:
    """MiB that this process grows by until the network is ``loaded``, and at the ``peak``."""
    cycnn.set_num_threads(work.threads)
    replace(work, network=first_network.__name__, batch=2).call()()
    settle()
    before = resident("RssAnon")
    call = work.call()
    settle()
    loaded = resident("RssAnon")
    for _ in range(REPEATS):
        call()
    peak = resident("VmHWM") - resident("RssFile")
    return {"loaded": (loaded - before) / MIB, "peak": (peak - before) / MIB}


# ---- what the first process does with them


def measured(work: Work) -> dict[str, float] | None:
    """`grown` of a new process; None, and a sentence, where that ends early."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(grown, work).result()
        except BrokenProcessPool:
            print(f"{work.candidate} did not survive {work.network}: its column stays empty")
            return None


def foretold(work: Work) -> float:
    """The MiB that cycnn says it will take, before anything has run."""
    model = network(work.network)
    if work.training:
        model.compile(cycnn.optimizers.SGD(training.RATE, momentum=training.MOMENTUM))
        return model.memory(work.batch, threads=work.threads).total / MIB
    session = cycnn.Session(work.saved, threads=work.threads)
    return session.memory((work.batch, *model.inputs[0].shape[1:])).total / MIB


def write_files(work: Work, peers: list[str]) -> None:
    """The network in the forms that are read in other processes."""
    if work.files.exists():
        return
    work.files.mkdir()
    model = network(work.network)
    model.save(work.saved)
    if {"onnxruntime", "openvino", "ncnn"} & {*peers}:
        from peers import Network

        files = Network(model, work.files)
        _ = files.ncnn if "ncnn" in peers else files.onnx


def compare(work: Work, peers: list[str], rounds: int) -> dict:
    """A row: cycnn's forecast, and the growth of each candidate."""
    for name in (first_network.__name__, work.network):
        write_files(replace(work, network=name), [] if work.training else peers)
    row = {
        "network": work.network,
        "step": "training" if work.training else "prediction",
        "batch": work.batch,
        "threads": work.threads,
        "foretold_mib": foretold(work),
    }
    names = ["cycnn", *peers]
    turns = [
        {name: measured(replace(work, candidate=name)) for name in names} for _ in range(rounds)
    ]
    names = [name for name in names if all(turn[name] for turn in turns)]
    for key in ("loaded", "peak"):
        row[f"{key}_mib"] = {
            name: statistics.median(turn[name][key] for turn in turns) for name in names
        }
    others = {name: mib for name, mib in row["peak_mib"].items() if name != "cycnn"}
    if others:
        row["smallest_peer"] = min(others, key=others.get)
        row["ratio"] = others[row["smallest_peer"]] / row["peak_mib"]["cycnn"]
    return row


def rows(args, peers: dict[str, list[str]]) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            base = Work("cycnn", name, 0, True, args.threads, Path(folder))
            if "training" in args.steps:
                batch = args.batch or training.BATCHES[name]
                yield compare(replace(base, batch=batch), peers["training"], args.rounds)
            for batch in args.batches if "prediction" in args.steps else ():
                work = replace(base, batch=batch, training=False)
                yield compare(work, peers["prediction"], args.rounds)


def show(row: dict, names: list[str]) -> None:
    text = f"{row['network']:14s}{row['step']:11s}{row['batch']:5d}"
    said, took = row["foretold_mib"], row["peak_mib"]["cycnn"]
    text += f"{said:10.1f}{took:10.1f}{said / took - 1:+8.1%}"
    for name in names:
        mib = row["peak_mib"].get(name)
        text += f"{'-':>12s}" if mib is None else f"{mib:12.1f}"
    if "ratio" in row:
        text += f"{row['ratio']:7.2f}  {row['smallest_peer']}"
    print(text, flush=True)


def main() -> None:
    parser = timing.arguments(__doc__)
    several = {"nargs": "+", "metavar": "NAME"}
    networks = [*training.BATCHES]
    parser.add_argument("--networks", **several, choices=networks, default=networks)
    parser.add_argument(
        "--peers", nargs="*", choices=PREDICTION_PEERS, default=PREDICTION_PEERS, metavar="NAME"
    )
    steps = ["training", "prediction"]
    parser.add_argument("--steps", **several, choices=steps, default=steps)
    parser.add_argument("--batch", type=int, help="of training, instead of 128 or 16")
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, 16], metavar="N", help="of predictions"
    )
    parser.add_argument("--rounds", type=int, default=3)
    args = timing.parse(parser)
    # PyTorch writes the files that the others read
    names = timing.installed(args.peers) if args.peers and timing.peer("torch") else []
    peers = {"training": [n for n in names if n in TRAINING_PEERS], "prediction": names}
    heads = "".join(f"{name:>12s}" for name in names)
    print(
        f"{'network':14s}{'step':11s}{'batch':>5s}{'MiB: said':>10s}{'cycnn':>10s}{'':8s}{heads}  ratio"
    )
    found = []
    for row in rows(args, peers):
        found.append(row)
        show(row, names)
    for step in args.steps:
        ratios = [row["ratio"] for row in found if row["step"] == step and "ratio" in row]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            print(f"{step}: geometric mean of smallest peer / cycnn {mean:.2f}")
    timing.write(args, found)


if __name__ == "__main__":
    main()
