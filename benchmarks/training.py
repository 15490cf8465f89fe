"""Does LeNet-5 learn MNIST, and how fast is a training step beside PyTorch's?

First cycnn trains LeNet-5 for five epochs in batches of 64, the last two at lower rates, and is tested after
each (``--no-learning`` leaves this out). Then steps of six networks are timed, with the same initial weights,
random images and optimizer (SGD, momentum 0.9), in turns; the first losses are compared where no random
mask makes them differ, so that all do the same work. PyTorch runs with its images contiguous and
channels-last, and compiled (channels-last; network and loss, their gradient by AOTAutograd); its fastest
form is what counts. Compiling takes minutes: ``--peers`` leaves it out. Once as users get it, once with
``--tuned-allocator``.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timing

import cycnn

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
BATCHES = {
    "lenet5": 128,
    "resnet20": 128,
    "resnet18": 16,
    "resnet50": 16,
    "vgg11": 16,
    "mobilenet_v2": 16,
}
RATE, MOMENTUM = 1e-3, 0.9
RATES, LEARNING_BATCH = (0.05, 0.05, 0.05, 0.01, 0.002), 64  # one rate an epoch
# PyTorch's: the order of memory, and whether it is compiled
FORMS = {
    "contiguous": ("contiguous_format", False),
    "channels-last": ("channels_last", False),
    "compiled": ("channels_last", True),
}
Step = Callable[[], float]


def learn(train, test, *, seed: int) -> dict:
    """Train, test after every epoch."""
    model = cycnn.zoo.lenet5(seed=seed)
    model.compile(cycnn.optimizers.SGD(RATES[0], momentum=MOMENTUM), metrics=("accuracy",))
    accuracy, seconds = [], 0.0
    for epoch, rate in enumerate(RATES):
        model.optimizer.learning_rate = rate
        options = {"batch_size": LEARNING_BATCH, "seed": seed * len(RATES) + epoch, "verbose": 0}
        history = model.fit(*train, epochs=1, validation_data=test, **options)
        accuracy += history.history["val_accuracy"]
        seconds += history.seconds
        print(f"epoch {epoch + 1}: test accuracy {accuracy[-1]:.2%}", flush=True)
    rate = len(train[0]) * len(RATES) / seconds
    print(f"test accuracy {accuracy[-1]:.2%} after {len(RATES)} epochs, {seconds:.1f} s")
    return {"test_accuracy": accuracy, "images_per_second": rate, "seconds": seconds}


def cycnn_step(model: cycnn.Model, batches: list) -> Step:
    model.compile(cycnn.optimizers.SGD(RATE, momentum=MOMENTUM))
    turn = itertools.cycle(batches)
    return lambda: model.train_on_batch(*next(turn))["loss"]


def torch_step(
    torch, model: cycnn.Model, batches: list, memory_format, *, compiled: bool = False
) -> Step:
    from twin import Twin

    network = Twin(model).network.train().to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=MOMENTUM, fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    turn = itertools.cycle(
        (
            torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous(memory_format=memory_format),
            torch.from_numpy(y.astype(np.int64)),
        )
        for x, y in batches
    )

    def loss_of(x, y):
        return criterion(network(x), y)

    if compiled:
        torch._dynamo.reset()
        loss_of = torch.compile(loss_of, dynamic=False)

    def step() -> float:
        x, y = next(turn)
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def candidates(name: str, batch: int, threads: int, peers: Sequence[str]) -> dict[str, Step]:
    """A step of cycnn, and of PyTorch in both orders of memory, and compiled."""
    model = getattr(cycnn.zoo, name)(seed=0)
    rng = np.random.default_rng(0)
    classes, shape = model.outputs[0].shape[1], model.inputs[0].shape[1:]
    batches = [
        (rng.standard_normal((batch, *shape), np.float32), rng.integers(0, classes, batch))
        for _ in range(3)
    ]
    steps = {}
    if peers:
        import torch

        torch.set_num_threads(threads)
        for peer in peers:
            order, compiled = FORMS[peer]
            order = getattr(torch, order)
            steps[peer] = torch_step(torch, model, batches, order, compiled=compiled)
    steps = {"cycnn": cycnn_step(model, batches), **steps}
    check_same_work(steps, masked=any(hasattr(layer, "rate") for layer in model.layers))
    return steps


def check_same_work(steps: dict[str, Step], *, masked: bool) -> None:
    """The losses of the first two steps agree, as far as deep networks let rounding errors be, unless
    random masks make them differ."""
    losses = {name: [step() for _ in range(2)] for name, step in steps.items()}
    for name, values in losses.items():
        assert np.isfinite(values).all(), f"{name}: {values}"
        if not masked:
            np.testing.assert_allclose(values, losses["cycnn"], rtol=2e-3, err_msg=name)


def compare(name: str, batch: int, peers: Sequence[str], *, rounds: int, threads: int) -> dict:
    """Time a step of every candidate."""
    steps = candidates(name, batch, threads, peers)
    times = timing.interleave(steps, rounds=rounds, at_least=0.2, threads=threads)
    row = {
        "network": name,
        "batch": batch,
        "threads": threads,
        "images_per_second": {key: batch / t.median for key, t in times.items()},
        "best_images_per_second": {key: batch / t.best for key, t in times.items()},
    }
    peers = [t.median for key, t in times.items() if key != "cycnn"]
    return row | ({"ratio": min(peers) / times["cycnn"].median} if peers else {})


def show(row: dict) -> None:
    rates = "".join(f"   {key} {rate:9,.1f}" for key, rate in row["images_per_second"].items())
    ratio = f"   cycnn / fastest peer {row['ratio']:.2f}" if "ratio" in row else ""
    print(f"{row['network']:13s} batch {row['batch']:3d}, images/s:{rates}{ratio}", flush=True)


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--data", type=Path, default=MNIST, help="folder of the MNIST files")
    parser.add_argument(
        "--networks", nargs="+", choices=BATCHES, default=[*BATCHES], metavar="NAME"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=FORMS, default=[*FORMS], metavar="FORM", help="of PyTorch"
    )
    parser.add_argument("--batch", type=int, help="instead of 128 or 16, as the network is")
    parser.add_argument("--no-learning", action="store_true", help="time steps only")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    args = timing.parse(parser)
    peers = args.peers if args.peers and timing.peer("torch") else []
    rows = []
    cycnn.set_num_threads(args.threads)
    if not args.no_learning:
        row = learn(*cycnn.data.load_mnist(args.data), seed=args.seed)
        rows.append({"name": "learning", **row})
    for name in args.networks:
        batch = args.batch or BATCHES[name]
        rows.append(compare(name, batch, peers, rounds=args.rounds, threads=args.threads))
        show(rows[-1])
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        print(f"geometric mean of cycnn / fastest peer {mean:.2f}")
    timing.write(args, rows)


if __name__ == "__main__":
    main()
