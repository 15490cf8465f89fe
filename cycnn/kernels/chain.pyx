"""Two kernels as one, slice by slice: what passes between them stays in the scratch of a thread.

Where all that the first one writes in some of its items is read by the second in some of its items
alone, these are a *slice*, and its result never has to be memory of its own: weights are packed panel by
panel for the product that uses them, say. Both run as they are; they see an address from which their
slice lies where it would in the whole.
"""

from libc.string cimport memset

from cpython.pycapsule cimport PyCapsule_GetPointer

from .step cimport Run, Step, kernel

cdef enum:
    OPERANDS = 16
    LINE = 64           # bytes

THROUGH = OPERANDS      # the operand that passes from the first to the second

cdef struct Attributes:     # followed by those of both kernels
    Step first
    Step second
    Py_ssize_t first_items  # of a slice
    Py_ssize_t second_items
    Py_ssize_t first_at     # where their attributes are
    Py_ssize_t second_at
    Py_ssize_t nbytes       # of what passes, in a slice
    Py_ssize_t scratch_at   # where the scratch of both begins


cdef void run(const Step* step, char** buffers, Py_ssize_t begin, Py_ssize_t end,
              char* scratch) noexcept nogil:
    """An item is a slice."""
    cdef const Attributes* a = <const Attributes*> step.attributes
    cdef Step first = a.first, second = a.second
    cdef char* seen[OPERANDS + 1]
    cdef Py_ssize_t i, k
    first.attributes = <const char*> a + a.first_at
    second.attributes = <const char*> a + a.second_at
    for k in range(OPERANDS):
        seen[k] = buffers[step.operand[k]]
    for i in range(begin, end):
        seen[OPERANDS] = scratch - i * a.nbytes
        first.run(&first, seen, i * a.first_items, (i + 1) * a.first_items, scratch + a.scratch_at)
        second.run(&second, seen, i * a.second_items, (i + 1) * a.second_items,
                   scratch + a.scratch_at)


cdef Step inner(kernel, operands):
    cdef Step step
    memset(&step, 0, sizeof(step))
    step.run = <Run> PyCapsule_GetPointer(kernel[1], "cycnn.Run")
    step.items, step.parallel, step.attributes = kernel[2], False, NULL
    for k, number in enumerate(operands):
        step.operand[<Py_ssize_t> k] = number
    return step


cdef Py_ssize_t lines(Py_ssize_t nbytes):
    return (nbytes + LINE - 1) // LINE * LINE


def chain(first, second, slices, nbytes, first_operands, second_operands):
    """The kernel that does ``second`` after ``first`` in each of ``slices`` equal runs of their items.

    ``nbytes`` pass in each. Operands of both are numbers of those of the chain, or
    `THROUGH`.
    """
    cdef Attributes a
    memset(&a, 0, sizeof(a))
    if first[2] % slices or second[2] % slices:
        raise ValueError(f"{slices} slices do not divide {first[2]} and {second[2]} items")
    a.first, a.second = inner(first, first_operands), inner(second, second_operands)
    a.first_items, a.second_items = first[2] // slices, second[2] // slices
    a.nbytes, a.scratch_at = nbytes, lines(nbytes)
    a.first_at = lines(sizeof(Attributes))
    a.second_at = a.first_at + lines(len(first[4]))
    layout = bytearray(a.second_at + len(second[4]))
    layout[:sizeof(Attributes)] = (<const char*> &a)[:sizeof(Attributes)]
    layout[a.first_at:a.first_at + len(first[4])] = first[4]
    layout[a.second_at:] = second[4]
    scratch = a.scratch_at + max(first[3], second[3])
    packed = bytes(layout)
    return kernel(f"{first[0]}+{second[0]}", run, slices, scratch, <const char*> packed, len(packed))
