"""What the executor and every kernel agree on: the step, and how a kernel offers itself.

A kernel is a function of type ``Run``: it does the work items ``begin <= i < end`` of one step, in any
order and on any thread, because no two items write the same memory. ``buffers[step.operand[k]]`` is the
address of its k-th operand (inputs first, then outputs), NULL for an operand that is absent.
``scratch`` belongs to the calling thread, 64-byte aligned, as large as the kernel asked for.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

ctypedef void (*Run)(const Step*, char**, Py_ssize_t, Py_ssize_t, char*) noexcept nogil

cdef struct Step:
    Run run
    Py_ssize_t items
    Py_ssize_t parallel
    const void* attributes
    int operand[16]


cdef inline object kernel(str name, Run run, Py_ssize_t items, Py_ssize_t scratch,
                          const void* attributes, Py_ssize_t size):
    """Offer ``run`` to the planner: ``(name, capsule, items, scratch bytes a thread, attributes)``."""
    return (name, PyCapsule_New(<void*> run, "cycnn.Run", NULL), items, scratch,
            PyBytes_FromStringAndSize(<const char*> attributes, size))
