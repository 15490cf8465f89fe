"""Run a plan: a flat array of kernel calls, walked without the GIL.

A `Program` is immutable and may be called from any number of Python threads at once. Each call
borrows one block of memory (table of buffers, arena, scratch of each thread), and walks the steps:
alone, or as one job of the team (`plan.team`), whose members share the items of every step that is
worth it.
"""

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from cycnn.kernels.step cimport Run, Step

from .arrays cimport new_result
from .team cimport (
    cycnn_barrier, cycnn_flush_denormals, cycnn_now, cycnn_restore, cycnn_take, meet, run_together,
)
from .workspace cimport Block, pool

import numpy as np

cnp.import_array()

cdef extern from *:
    """
    #ifdef __clang__
    #define CYCNN_COMPILER __VERSION__
    #else
    #define CYCNN_COMPILER "gcc " __VERSION__
    #endif
    """
    const char* CYCNN_COMPILER

compiler = CYCNN_COMPILER.decode()  # what built this, for `config.get_config`

cdef enum:
    LINE = 64  # bytes; what one thread writes never shares a cache line with another's
    OPERANDS = 16
    DIMS = 8

# ---- one call, walked ------------------------------------------------------------------------

cdef struct Turn:                   # one execution of a step, with the table of buffers of its images
    const Step* step
    Py_ssize_t number
    Py_ssize_t table

cdef struct Call:
    const Turn* turns
    Py_ssize_t n_turns
    char** tables                   # one below the other, n_buffers long each
    Py_ssize_t n_buffers
    char* scratch
    Py_ssize_t scratch_bytes
    char* taken
    cycnn_barrier barrier
    double* seconds


cdef Py_ssize_t lines(Py_ssize_t nbytes) noexcept nogil:
    """``nbytes`` rounded up to whole cache lines."""
    return (nbytes + LINE - 1) // LINE * LINE


cdef inline char** buffers_of(const Call* call, Py_ssize_t turn) noexcept nogil:
    return call.tables + call.turns[turn].table * call.n_buffers


cdef void walk_alone(Call* call) noexcept nogil:
    cdef unsigned state = cycnn_flush_denormals()
    cdef double started = 0
    cdef Py_ssize_t i
    cdef const Step* step
    for i in range(call.n_turns):
        if call.seconds != NULL:
            started = cycnn_now()
        step = call.turns[i].step
        step.run(step, buffers_of(call, i), 0, step.items, call.scratch)
        if call.seconds != NULL:
            call.seconds[call.turns[i].number] += cycnn_now() - started
    cycnn_restore(state)


cdef void share(const Step* step, char** buffers, char* scratch, char* taken, int member,
                int members) noexcept nogil:
    """One member's part of a step: its own run of items in chunks, then what others have left.

    Runs stay with the member from step to step, and so does what it has in its cache. ``taken``
    holds one counter a member, each on its own cache line.
    """
    cdef Py_ssize_t chunk = max(1, step.items // (16 * members))
    cdef Py_ssize_t begin, first, last
    cdef int turn, owner
    for turn in range(members):
        owner = (member + turn) % members
        first = step.items * owner // members
        last = step.items * (owner + 1) // members
        begin = first + cycnn_take(<Py_ssize_t*> (taken + owner * LINE), chunk)
        while begin < last:
            step.run(step, buffers, begin, min(begin + chunk, last), scratch)
            begin = first + cycnn_take(<Py_ssize_t*> (taken + owner * LINE), chunk)


cdef void walk_together(void* job, int member, int members) noexcept nogil:
    """The member's walk: shared steps with all others, the rest by member 0.

    Counters come in two sets: while one step is shared by the first, the second is cleared.
    """
    cdef Call* call = <Call*> job
    cdef unsigned state = cycnn_flush_denormals()
    cdef char* scratch = call.scratch + member * call.scratch_bytes
    cdef double started = 0
    cdef Py_ssize_t i
    cdef int side = 0
    cdef bint follows
    cdef const Step* step
    for i in range(call.n_turns):
        if member == 0 and call.seconds != NULL:
            started = cycnn_now()
        step = call.turns[i].step
        if step.parallel:
            (<Py_ssize_t*> (call.taken + ((1 - side) * members + member) * LINE))[0] = 0
            share(step, buffers_of(call, i), scratch, call.taken + side * members * LINE,
                  member, members)
            side = 1 - side
        elif member == 0:
            step.run(step, buffers_of(call, i), 0, step.items, scratch)
        follows = i + 1 < call.n_turns and call.turns[i + 1].step.parallel
        if step.parallel or follows:
            meet(&call.barrier, members)
        if member == 0 and call.seconds != NULL:
            call.seconds[call.turns[i].number] += cycnn_now() - started
    cycnn_restore(state)


# ---- programs --------------------------------------------------------------------------------

def runs_of_equals(values):
    """(begin, end, value) of every run of equal values."""
    begin = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[begin]:
            yield begin, end, values[begin]
            begin = end


cdef struct Array:
    Py_ssize_t buffer
    int type_number
    int ndim
    cnp.npy_intp shape[DIMS]


cdef bint fits(const Array* spec, object array) noexcept:
    """Whether ``array`` is C-contiguous, aligned, of native byte order, and as ``spec`` says."""
    cdef cnp.ndarray a
    cdef int d
    if not cnp.PyArray_Check(array):
        return False
    a = array
    if a.ndim != spec.ndim or not cnp.PyArray_ISCARRAY_RO(a):
        return False
    for d in range(spec.ndim):
        if cnp.PyArray_DIM(a, d) != spec.shape[d]:
            return False
    return (cnp.PyArray_TYPE(a) == spec.type_number
            or cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(a), spec.type_number))


cdef int fill_arrays(Array* arrays, list specs, Py_ssize_t n_buffers) except -1:
    cdef cnp.dtype dtype
    for k, (number, shape, dtype) in enumerate(specs):
        if not 0 < number < n_buffers or len(shape) > DIMS:
            raise ValueError(f"no such buffer, or too many axes. Received: {number}, {shape}.")
        arrays[<Py_ssize_t> k].buffer = number
        arrays[<Py_ssize_t> k].type_number = dtype.num
        arrays[<Py_ssize_t> k].ndim = len(shape)
        for d, n in enumerate(shape):
            arrays[<Py_ssize_t> k].shape[<Py_ssize_t> d] = n
    return 0


@cython.final
cdef class Program:
    """The steps of one plan with every address resolved but those of a call's own arrays.

    ``steps``: (capsule, items, attributes, operands, parallel, turns), operands being buffer numbers,
    0 for an absent one; a run of steps of equally many turns is executed that often, each time on
    the next part of the ``passing`` buffers: {buffer number: bytes}. ``fixed``: {buffer number:
    array} for weights, state and constants. ``arena``: {buffer number: byte offset}. ``inputs``,
    ``outputs``: (buffer number, shape, dtype) in the order of a call.
    """
    cdef Step* steps
    cdef Turn* turns
    cdef Py_ssize_t n_turns, n_tables
    cdef Py_ssize_t* passing        # bytes of each buffer that passes by in turns, or 0
    cdef Py_ssize_t* part           # of those that each table points to: number, and of how many
    cdef char** table
    cdef Py_ssize_t* offsets
    cdef Array* arrays
    cdef bint shared
    cdef readonly Py_ssize_t n_steps, n_buffers, n_inputs, n_outputs, arena_bytes, scratch_bytes
    cdef readonly list inputs, outputs
    cdef object keep

    def __cinit__(self, list steps, Py_ssize_t n_buffers, dict fixed, dict arena, list inputs,
                  list outputs, Py_ssize_t arena_bytes, Py_ssize_t scratch_bytes,
                  dict passing):
        self.n_steps, self.n_buffers = len(steps), n_buffers
        self.arena_bytes, self.scratch_bytes = lines(arena_bytes), lines(scratch_bytes)
        self.inputs = [(i, tuple(shape), np.dtype(dtype)) for i, shape, dtype in inputs]
        self.outputs = [(i, tuple(shape), np.dtype(dtype)) for i, shape, dtype in outputs]
        self.n_inputs, self.n_outputs = len(inputs), len(outputs)
        self.keep = ([s[0] for s in steps], [s[2] for s in steps], list(fixed.values()))
        self.steps = <Step*> calloc(max(self.n_steps, 1), sizeof(Step))
        self.table = <char**> calloc(n_buffers, sizeof(char*))
        self.offsets = <Py_ssize_t*> malloc(n_buffers * sizeof(Py_ssize_t))
        self.arrays = <Array*> calloc(self.n_inputs + self.n_outputs + 1, sizeof(Array))
        self.passing = <Py_ssize_t*> calloc(n_buffers, sizeof(Py_ssize_t))
        if not (self.steps and self.table and self.offsets and self.arrays and self.passing):
            raise MemoryError()
        fill_arrays(self.arrays, self.inputs, n_buffers)
        fill_arrays(self.arrays + self.n_inputs, self.outputs, n_buffers)
        for number in range(n_buffers):
            self.offsets[number] = arena.get(number, -1)
            self.passing[number] = passing.get(number, 0)
        for number, array in fixed.items():
            self.table[<Py_ssize_t> number] = <char*> cnp.PyArray_DATA(array)
        for number, (capsule, items, attributes, operands, parallel, _) in enumerate(steps):
            self._fill(&self.steps[<Py_ssize_t> number], capsule, items, attributes, operands,
                       parallel)
        self._schedule([s[5] for s in steps])

    cdef int _fill(self, Step* step, object capsule, Py_ssize_t items, bytes attributes,
                   tuple operands, bint parallel) except -1:
        step.run = <Run> PyCapsule_GetPointer(capsule, "cycnn.Run")
        step.items, step.parallel = items, parallel
        step.attributes = <const char*> attributes
        self.shared = self.shared or parallel
        if len(operands) > OPERANDS:
            raise ValueError(f"a step has at most {OPERANDS} operands")
        for k, number in enumerate(operands):
            if not 0 <= number < self.n_buffers:
                raise ValueError(f"a step names a buffer that does not exist. Received: {number}.")
            step.operand[<Py_ssize_t> k] = number
        return 0

    cdef int _schedule(self, list turns) except -1:
        """Lay out the order of execution, and the tables of buffers that it needs."""
        cdef Py_ssize_t k = 0
        order, parts = [], [(0, 1)]
        for first, last, n in runs_of_equals(turns):
            tables = [0] if n == 1 else range(len(parts), len(parts) + n)
            parts += [] if n == 1 else [(t, n) for t in range(n)]
            order += [(number, table) for table in tables for number in range(first, last)]
        self.n_turns, self.n_tables = len(order), len(parts)
        self.turns = <Turn*> calloc(max(self.n_turns, 1), sizeof(Turn))
        self.part = <Py_ssize_t*> calloc(2 * self.n_tables, sizeof(Py_ssize_t))
        if not (self.turns and self.part):
            raise MemoryError()
        for k, (number, table) in enumerate(order):
            self.turns[k].number, self.turns[k].table = number, table
            self.turns[k].step = &self.steps[self.turns[k].number]
        for k, (number, n) in enumerate(parts):
            self.part[2 * k], self.part[2 * k + 1] = number, n
        return 0

    def __dealloc__(self):
        free(self.steps)
        free(self.turns)
        free(self.part)
        free(self.passing)
        free(self.table)
        free(self.offsets)
        free(self.arrays)

    def empty_outputs(self):
        """New arrays for the outputs of one call."""
        cdef Array* outputs = self.arrays + self.n_inputs
        return [new_result(outputs[k].ndim, outputs[k].shape, outputs[k].type_number)
                for k in range(self.n_outputs)]

    def takes(self, x):
        """Whether ``x`` can be given to `call` as it is."""
        return self.n_inputs == 1 and fits(self.arrays, x)

    def call(self, x, int threads=1):
        """Execute once for a program of one input, which is `takes`-able; the shortest way in.

        Returns a new array, or a list of them where the program has several outputs.
        """
        cdef Array* outputs = self.arrays + self.n_inputs
        if self.n_inputs != 1 or self.n_outputs != 1:
            results = self.empty_outputs()
            self.run([x], results, threads)
            return results
        if not fits(self.arrays, x):
            self._refuse(0, x)
        y = new_result(outputs.ndim, outputs.shape, outputs.type_number)
        cdef Block block = pool.borrow()
        cdef char** buffers
        try:
            buffers = self._lay_out(block, threads)
            buffers[self.arrays.buffer] = <char*> cnp.PyArray_DATA(x)
            buffers[outputs.buffer] = <char*> cnp.PyArray_DATA(y)
            self._walk(block, threads, NULL)
        finally:
            pool.give_back(block)
        return y

    def run(self, list inputs, list outputs, int threads=1):
        """Execute once, from ``inputs`` into ``outputs``: C-contiguous, of the plan's shapes."""
        self._run(inputs, outputs, threads, NULL)

    def profile(self, list inputs, list outputs, int threads=1):
        """Execute once and return the seconds of each step."""
        cdef double[::1] seconds = np.zeros(max(self.n_steps, 1))
        self._run(inputs, outputs, threads, &seconds[0])
        return np.asarray(seconds)[:self.n_steps]

    cdef int _run(self, list inputs, list outputs, int threads, double* seconds) except -1:
        cdef Block block = pool.borrow()
        cdef char** buffers
        try:
            buffers = self._lay_out(block, threads)
            self._bind(buffers, 0, inputs, self.n_inputs)
            self._bind(buffers, self.n_inputs, outputs, self.n_outputs)
            self._walk(block, threads, seconds)
        finally:
            pool.give_back(block)
        return 0

    cdef int _bind(self, char** buffers, Py_ssize_t first, list arrays, Py_ssize_t n) except -1:
        cdef Py_ssize_t k
        if len(arrays) != n:
            raise ValueError(f"the plan takes {n} arrays, received {len(arrays)}")
        for k in range(n):
            if not fits(&self.arrays[first + k], arrays[k]) or (
                    first and not cnp.PyArray_ISWRITEABLE(arrays[k])):
                self._refuse(first + k, arrays[k])
            buffers[self.arrays[first + k].buffer] = <char*> cnp.PyArray_DATA(arrays[k])
        return 0

    def _refuse(self, k, array):
        _, shape, dtype = (self.inputs + self.outputs)[k]
        received = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array)
        raise ValueError(f"the plan takes a C-contiguous {dtype} array of shape {shape}. "
                         f"Received: {received}.")

    def workspace_bytes(self, int threads=1):
        """How much memory a call on that many threads borrows."""
        threads = max(threads, 1)
        return (self._table_bytes() + self.arena_bytes
                + threads * (self.scratch_bytes + 2 * LINE))

    cdef char** _lay_out(self, Block block, int threads) except NULL:
        """Fill the first table of buffers, at the start of ``block``; others, arena, scratch and
        counters follow."""
        cdef Py_ssize_t table_bytes = self._table_bytes()
        block.reserve(self.workspace_bytes(threads))
        cdef char** buffers = <char**> block.address
        cdef char* arena = block.address + table_bytes
        cdef Py_ssize_t i
        memcpy(buffers, self.table, self.n_buffers * sizeof(char*))
        for i in range(self.n_buffers):
            if self.offsets[i] >= 0:
                buffers[i] = arena + self.offsets[i]
        return buffers

    cdef Py_ssize_t _table_bytes(self) noexcept:
        return lines(self.n_tables * self.n_buffers * sizeof(char*))

    cdef void _fill_tables(self, char** tables) noexcept:
        """The tables after the first: where its passing buffers hold the images of a turn."""
        cdef char** table = tables
        cdef Py_ssize_t k, i
        for k in range(1, self.n_tables):
            table += self.n_buffers
            for i in range(self.n_buffers):
                table[i] = tables[i]
                if self.passing[i]:
                    table[i] += self.passing[i] // self.part[2 * k + 1] * self.part[2 * k]

    cdef void _walk(self, Block block, int threads, double* seconds) noexcept:
        cdef Call call
        cdef bint done = False
        memset(&call, 0, sizeof(call))
        call.turns, call.n_turns, call.seconds = self.turns, self.n_turns, seconds
        call.tables, call.n_buffers = <char**> block.address, self.n_buffers
        self._fill_tables(call.tables)
        call.scratch_bytes = self.scratch_bytes
        call.scratch = block.address + self._table_bytes() + self.arena_bytes
        call.taken = call.scratch + max(threads, 1) * self.scratch_bytes
        with nogil:
            if threads > 1 and self.shared:
                memset(call.taken, 0, 2 * LINE * threads)
                done = run_together(walk_together, &call, threads)
            if not done:
                walk_alone(&call)
