"""Does LeNet-5 learn MNIST, and how fast is a training step beside PyTorch's on the same network?

First cycnn trains five epochs in batches of 64, the last two at lower rates, and is tested after each
(``--no-learning`` leaves this out). Then steps of 128 images are timed: the same initial weights, batches
and optimizer (SGD, momentum 0.9), in turns of some twenty steps; the first losses are compared, so that
both do the same work. PyTorch runs with its images contiguous and channels-last, and its faster form is
what counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lenet
import numpy as np
import timing

import cycnn

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
RATE, MOMENTUM = 0.05, 0.9
RATES, LEARNING_BATCH = (0.05, 0.05, 0.05, 0.01, 0.002), 64  # one rate an epoch
Step = Callable[[int], float]


def compiled(*, seed: int = 0, metrics: tuple[str, ...] = ()) -> cycnn.Model:
    model = cycnn.zoo.lenet5(seed=seed)
    optimizer = cycnn.optimizers.SGD(RATE, momentum=MOMENTUM)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=metrics)
    return model


def learn(train, test, *, seed: int) -> dict:
    """Train, test after every epoch."""
    model = compiled(seed=seed, metrics=("accuracy",))
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


def cycnn_step(batches: list) -> Step:
    model = compiled()
    return lambda i: model.train_on_batch(*batches[i % len(batches)])["loss"]


def torch_step(torch, batches: list, memory_format) -> Step:
    network = lenet.for_torch(torch, compiled()).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=MOMENTUM, fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    batches = [
        (
            torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous(memory_format=memory_format),
            torch.from_numpy(y.astype(np.int64)),
        )
        for x, y in batches
    ]

    def step(i: int) -> float:
        x, y = batches[i % len(batches)]
        optimizer.zero_grad()
        loss = criterion(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def in_turns(steps: dict[str, Step], *, rounds: int, length: int) -> dict[str, timing.Times]:
    """Seconds a step; every turn starts with two steps that are not counted."""
    seconds = {name: [] for name in steps}
    for r in range(rounds):
        for name, step in steps.items():
            for i in range(2):
                step(r * length + i)
            start = time.perf_counter()
            for i in range(length):
                step(r * length + i)
            seconds[name].append((time.perf_counter() - start) / length)
    return {name: timing.Times(tuple(values)) for name, values in seconds.items()}


def check_same_work(steps: dict[str, Step]) -> None:
    """The losses of the first steps agree."""
    losses = {name: [step(i) for i in range(3)] for name, step in steps.items()}
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["cycnn"], rtol=1e-3, err_msg=name)


def compare(train, *, batch: int, rounds: int, threads: int) -> Iterator[dict]:
    """Time a step of every candidate."""
    x, y = train
    batches = [(x[i : i + batch], y[i : i + batch]) for i in range(0, 40 * batch, batch)]
    steps = {"cycnn": cycnn_step(batches)}
    if torch := timing.peer("torch"):
        torch.set_num_threads(threads)
        steps["torch contiguous"] = torch_step(torch, batches, torch.contiguous_format)
        steps["torch channels-last"] = torch_step(torch, batches, torch.channels_last)
    check_same_work(steps)
    times = in_turns(steps, rounds=rounds, length=20)
    peers = {name: t for name, t in times.items() if name != "cycnn"}
    for name, t in times.items():
        yield {
            "name": name,
            "images_per_second": batch / t.median,
            "best_images_per_second": batch / t.best,
            "times_cycnn": times["cycnn"].median / t.median,
        }
    if peers:
        fastest = min(t.median for t in peers.values())
        yield {"name": "cycnn / fastest peer", "ratio": fastest / times["cycnn"].median}


def show(row: dict) -> None:
    if "ratio" in row:
        print(f"{row['name']:20s} {row['ratio']:.2f}")
    else:
        print(
            f"{row['name']:20s} {row['images_per_second']:9,.0f} images/s at the median,"
            f" {row['best_images_per_second']:9,.0f} at best"
        )


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--data", type=Path, default=MNIST, help="folder of the MNIST files")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--no-learning", action="store_true", help="time steps only")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = timing.parse(parser)
    train, test = cycnn.data.load_mnist(args.data)
    rows = []
    cycnn.set_num_threads(args.threads)
    if not args.no_learning:
        row = learn(train, test, seed=args.seed)
        rows.append({"name": "learning", **row})
    for row in compare(train, batch=args.batch, rounds=args.rounds, threads=args.threads):
        rows.append(row)
        show(row)
    timing.write(args, rows)


if __name__ == "__main__":
    main()
