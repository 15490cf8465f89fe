"""Train a network on a data set, and save it.

DATA is "digits" (bundled), a folder of MNIST-style IDX files, a folder of CIFAR binaries, or a folder or
.zip with one folder of pictures for each class, perhaps below folders train and test.
MODEL is lenet5, or FILE.py:function, which is called with the input's shape (height, width, channels)
and the number of classes (and seed=, where it takes that) and returns a model.
"""

from __future__ import annotations

import argparse

from ..model import Model
from ..training.optimizers import SGD
from . import values
from .datasets import DataSet, load_dataset
from .networks import make_network

__all__ = ["add_arguments", "run"]

PIXEL_SCALING = (1 / 255, 0.0)  # the readers of cycnn.data give pixels from 0 to 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cycnn train`` takes."""
    add = parser.add_argument
    add("--data", required=True, help="what to train on")
    add("--model", default="lenet5", help="the network (default lenet5)")
    add("--epochs", type=values.count, default=5, help="passes over the data (default 5)")
    add("--batch-size", type=values.count, default=64, help="images a step (default 64)")
    add("--lr", type=values.positive, default=0.02, help="learning rate (default 0.02)")
    add("--momentum", type=values.positive, default=0.9, help="momentum of SGD (default 0.9)")
    add("--weight-decay", type=values.positive, default=0.0, help="weight decay (default 0)")
    add("--seed", type=values.seed, default=0, help="of weights, order and dropout (default 0)")
    add("--threads", type=values.count, help="threads to use")
    add(
        "--validation",
        type=values.share,
        metavar="SHARE",
        help="share of the data held back (default 0.1, with a test set 0)",
    )
    add("--size", type=values.size, metavar="H,W", help="resize pictures to this")
    add("--channels", type=int, choices=(1, 3), default=3, help="of pictures: 1 grey, 3 RGB")
    add("--output", default="model.safetensors", help="file to save (default model.safetensors)")


def run(arguments: argparse.Namespace) -> None:
    """Load, train, test and save."""
    dataset = load_dataset(arguments.data, size=arguments.size, channels=arguments.channels)
    classes = len(dataset.class_names)
    print(f"{len(dataset.train[1]):,} images of {dataset.input_shape}, {classes} classes")
    model = make_network(arguments.model, dataset.input_shape, classes, seed=arguments.seed)
    model.class_names, model.input_scaling = list(dataset.class_names), PIXEL_SCALING
    model.summary()
    optimizer = SGD(arguments.lr, momentum=arguments.momentum, weight_decay=arguments.weight_decay)
    model.compile(optimizer, metrics=["accuracy"])
    try:
        _fit(model, dataset, arguments)
    except KeyboardInterrupt:
        model.save(arguments.output)
        print(f"Stopped; the weights so far are in {arguments.output}.")
        raise
    if dataset.test is not None:
        result = model.evaluate(*dataset.test, threads=arguments.threads)
        print(f"test: loss {result['loss']:.4f}, accuracy {result['accuracy']:.2%}")
    model.save(arguments.output)
    print(f"Saved {arguments.output}; cycnn predict {arguments.output} IMAGE... serves it.")


def _fit(model: Model, dataset: DataSet, arguments: argparse.Namespace) -> None:
    share = arguments.validation
    if share is None:
        share = 0.1 if dataset.test is None else 0.0
    if share:
        dataset = dataset.shuffled(arguments.seed)  # the share is taken from the end
    model.fit(
        *dataset.train,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_split=share,
        seed=arguments.seed,
        threads=arguments.threads,
    )
