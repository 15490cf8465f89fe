"""From a concrete graph to a flat program on one block of memory, and its executor."""
