"""The command ``cycnn``: one module for each of its verbs.

    demo.py       train a small network on the bundled digits, look at it, serve it
    train.py      train a network on a data set
    predict.py    name what is in pictures
    info.py       what this installation is, and what a model file holds
    bench.py      time one network or layer on 1 to n threads

    datasets.py   what --data may name       networks.py   what --model may name

A mistake ends a command with one sentence on stderr and exit code 2, Ctrl-C with 130.
"""

from .command import main

__all__ = ["main"]
