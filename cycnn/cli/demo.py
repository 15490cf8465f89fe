"""Train a small network on the bundled digits, look inside, save it, serve it.

The 5,620 digits of 8x8 pixels come with cycnn (Alpaydin and Kaynak, CC BY 4.0). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from .. import data, layers, plot, threads
from ..errors import MissingExtra
from ..graph.build import in_call_order
from ..model import Model, Sequential
from ..session import Session
from ..training.metrics import accuracy, confusion_matrix
from ..training.optimizers import SGD
from . import values

__all__ = ["add_arguments", "digits_network", "run"]

Split = tuple[np.ndarray, np.ndarray]

BATCH, RATE, MOMENTUM, DECAY = 32, 0.02, 0.9, 5e-4
PIXEL_SCALING = (1 / 255, 0.0)  # of pictures; the network learns pixels from 0 to 1
SHOWN = 3  # the test digit whose activation maps are drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cycnn demo`` takes."""
    add = parser.add_argument
    add("--epochs", type=values.count, default=30, help="passes over the data (default 30)")
    add("--seed", type=values.seed, default=0, help="of weights, order and dropout (default 0)")
    add("--threads", type=values.count, help="threads to use")
    add("--output", default="demo", metavar="DIR", help="folder for the results (default demo)")
    add("--json", metavar="FILE", help="write the figures as JSON")


def digits_network(seed: int | None = None) -> Sequential:
    """Two convolutions, a pooling and two dense layers for 8x8 digits; the output is logits."""
    seeds = [None] * 4 if seed is None else [4 * seed + i for i in range(4)]
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    return Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", seed=seeds[0], **relu),
            layers.Conv2D(64, 3, padding="same", seed=seeds[1], **relu),
            layers.MaxPooling2D(2),
            layers.Dropout(0.4),
            layers.Flatten(),
            layers.Dense(128, seed=seeds[2], **relu),
            layers.Dropout(0.5),
            layers.Dense(10, seed=seeds[3]),
        ]
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, test, draw, save, reload, predict again."""
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    train, test = data.load_digits()
    number = threads.resolve(arguments.threads)
    print(f"{len(train[1]):,} digits to train on, {len(test[1]):,} to test; threads: {number}\n")
    model = digits_network(arguments.seed)
    model.class_names, model.input_scaling = [str(i) for i in range(10)], PIXEL_SCALING
    model.summary()
    losses, figures = _train(model, train, test, arguments)
    figures["test_accuracy"] = model.evaluate(*test, threads=arguments.threads)["accuracy"]
    guessed = model.predict(test[0], threads=arguments.threads).argmax(axis=1)
    confusion = confusion_matrix(test[1], guessed, classes=10)
    print(
        f"\nTest accuracy {figures['test_accuracy']:.2%}. Rows: true digit, columns: predicted.\n"
    )
    print(_table(confusion))
    path = folder / "digits.safetensors"
    model.save(path)
    drawn = _draw(folder / "digits.png", model, losses, test[0][SHOWN], confusion)
    digit = _write_digit(folder / "digit.pgm", test[0][SHOWN])
    figures["session_accuracy"] = _serve(path, test, arguments.threads)
    print(_next_steps(path, drawn, digit, test[1][SHOWN]))
    if arguments.json:
        values.write_json(arguments.json, figures)


def _train(
    model: Model, train: Split, test: Split, arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Fit, the last fifth of the epochs with a tenth of the step; losses by epoch, and the speed."""
    optimizer = SGD(RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    model.compile(optimizer, metrics=["accuracy"])
    last = arguments.epochs // 5
    losses: dict[str, list[float]] = {"training": [], "test": []}
    learning, started = 0.0, time.perf_counter()
    for part, (epochs, rate) in enumerate([(arguments.epochs - last, RATE), (last, RATE / 10)]):
        if epochs:
            print(f"\nlearning rate {rate:g}", flush=True)
        optimizer.learning_rate = rate
        history = model.fit(
            *train,
            batch_size=BATCH,
            epochs=epochs,
            validation_data=test,
            seed=2 * arguments.seed + part,
            threads=arguments.threads,
        )
        losses["training"] += history.history.get("loss", [])
        losses["test"] += history.history.get("val_loss", [])
        learning += history.seconds
    seconds = time.perf_counter() - started
    speed = arguments.epochs * len(train[1]) / max(learning, 1e-9)
    return losses, {"seconds": seconds, "images_per_second": speed}


def _table(confusion: np.ndarray) -> str:
    """Counts in rows, with a dot for zero, and at the end each class's share that is right."""
    lines = ["     " + "".join(f"{i:>5}" for i in range(len(confusion)))]
    for digit, row in enumerate(confusion):
        cells = "".join(f"{n or '.':>5}" for n in row)
        lines.append(f"{digit:>5}{cells}  {row[digit] / max(row.sum(), 1):>7.1%}")
    return "\n".join(lines)


def _draw(path: Path, model: Model, losses, image: np.ndarray, confusion: np.ndarray) -> str:
    """Save the picture; gives the sentence that says where it is or why there is none."""
    first = next(t for t in in_call_order(model.outputs) if t.layer is model.layers[0])
    maps = Model(model.inputs, first).predict(image[None])[0]
    try:
        plot.save_report(
            path,
            title="cycnn demo: 8x8 digits",
            filters=model.layers[0].kernel.value,
            image=image,
            activations=maps,
            losses=losses,
            confusion=confusion,
            class_names=model.class_names,
        )
    except MissingExtra as error:
        return f"No picture was drawn. {error}"
    return f"{path} shows filters, activation maps, losses and the confusion matrix."


def _write_digit(path: Path, image: np.ndarray) -> Path:
    """One digit as a picture file (PGM, the plainest there is), for ``cycnn predict``."""
    height, width = image.shape[:2]
    pixels = np.round(image * 255).astype(np.uint8)
    path.write_bytes(f"P5 {width} {height} 255\n".encode() + pixels.tobytes())
    return path


def _serve(path: Path, test: Split, number: int | None) -> float:
    """The accuracy of the saved model, loaded into a session."""
    session = Session(path, number, optimize_for="throughput")
    started = time.perf_counter()
    logits = session.run(test[0])
    passed = time.perf_counter() - started
    result = accuracy(test[1], logits)
    print(
        f"\nSaved to {path}, loaded again and served by a session: accuracy {result:.2%}, "
        f"{len(logits) / passed:,.0f} images/s."
    )
    return result


def _next_steps(path: Path, drawn: str, digit: Path, label: int) -> str:
    return (
        f"{drawn}\n\nGo on with\n"
        f"  cycnn predict {path} {digit}        (a {label})\n"
        f"  cycnn info {path}\n"
        f"  cycnn train --data digits --model FILE.py:function   a network of your own\n"
        f"  cycnn train --data FOLDER                            LeNet-5 on MNIST's files\n"
        f'  cycnn.Session("{path}").run(x)        in Python'
    )
