"""Run a plan: a flat array of kernel calls, walked without the GIL.

A `Program` is immutable and may be called from any number of Python threads at once. Each call borrows
one block of memory (arena, then one scratch area per thread) from a bounded pool, fills a table with the
address of every buffer, and walks the steps. Parallel regions are opened here and nowhere else.
"""

import threading


cimport cython
cimport numpy as cnp
cimport openmp
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from cycnn.kernels.step cimport Run, Step

import numpy as np

cnp.import_array()

cdef extern from *:
    """
    #include <stdlib.h>
    #include <time.h>
    #include <sys/mman.h>
    #if defined(__SSE2__)
    #include <xmmintrin.h>
    /* denormals read and written as zero; returns the state to restore */
    static unsigned cycnn_flush_denormals(void)
    { unsigned old = _mm_getcsr(); _mm_setcsr(old | 0x8040); return old; }
    static void cycnn_restore(unsigned old) { _mm_setcsr(old); }
    #else
    static unsigned cycnn_flush_denormals(void) { return 0; }
    static void cycnn_restore(unsigned old) { (void)old; }
    #endif
    static Py_ssize_t cycnn_take(Py_ssize_t *next, Py_ssize_t n)
    { return __atomic_fetch_add(next, n, __ATOMIC_RELAXED); }
    static int cycnn_try_lock(int *flag) { return !__atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE); }
    static void cycnn_unlock(int *flag) { __atomic_store_n(flag, 0, __ATOMIC_RELEASE); }
    static void *cycnn_allocate(size_t bytes)
    {
        void *p = NULL;
        size_t align = bytes >= (4u << 20) ? (2u << 20) : 64;
        if (posix_memalign(&p, align, (bytes + align - 1) / align * align)) return NULL;
        if (align > 64) madvise(p, (bytes + align - 1) / align * align, MADV_HUGEPAGE);
        return p;
    }
    static double cycnn_now(void)
    { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
    """
    unsigned cycnn_flush_denormals() noexcept nogil
    void cycnn_restore(unsigned) noexcept nogil
    Py_ssize_t cycnn_take(Py_ssize_t*, Py_ssize_t) noexcept nogil
    int cycnn_try_lock(int*) noexcept nogil
    void cycnn_unlock(int*) noexcept nogil
    void* cycnn_allocate(size_t) noexcept nogil
    double cycnn_now() noexcept nogil

cdef extern from "omp.h" nogil:
    ctypedef enum omp_pause_resource_t:
        omp_pause_soft
    int omp_pause_resource_all(omp_pause_resource_t)

# ---- the team: one per process, of constant size -------------------------------------------------

cdef int team_size = 1
cdef int team_busy = 0


def set_team_size(int size):
    """Regions open with this many threads from now on; `cycnn.threads` alone decides it."""
    global team_size
    team_size = size


def pool_limit():
    """What OpenMP allows the calling thread, so that threadpoolctl's limits are obeyed."""
    return openmp.omp_get_max_threads()


def release_team():
    """Give the worker threads back, so that a child made by fork can open regions of its own."""
    omp_pause_resource_all(omp_pause_soft)


def forget_team():
    """After a fork, in the child: no thread of it is inside a region."""
    global team_busy
    team_busy = 0


cdef void member(const Step* step, char** buffers, char* scratch, Py_ssize_t* next_item,
                 Py_ssize_t chunk) noexcept nogil:
    """One thread's share of a step: take chunks of items until none are left."""
    cdef unsigned state = cycnn_flush_denormals()
    cdef Py_ssize_t begin = cycnn_take(next_item, chunk)
    while begin < step.items:
        step.run(step, buffers, begin, min(begin + chunk, step.items), scratch)
        begin = cycnn_take(next_item, chunk)
    cycnn_restore(state)


cdef void run_parallel(const Step* step, char** buffers, char* scratch, Py_ssize_t scratch_bytes,
                       int threads, int team) noexcept nogil:
    """Share the items of ``step`` among ``threads`` of the ``team``; the others return at once."""
    cdef Py_ssize_t next_item = 0
    cdef Py_ssize_t* counter = &next_item
    cdef Py_ssize_t chunk = max(1, step.items // (16 * threads))
    cdef int t
    for t in prange(team, num_threads=team, schedule="static", chunksize=1):
        if t < threads:
            member(step, buffers, scratch + t * scratch_bytes, counter, chunk)


cdef void run_steps(const Step* steps, Py_ssize_t n, char** buffers, char* scratch,
                    Py_ssize_t scratch_bytes, int threads, int team, double* seconds) noexcept nogil:
    """Walk the program. ``seconds``, unless NULL, receives the time of each step."""
    cdef unsigned state = cycnn_flush_denormals()
    cdef double started = 0
    cdef Py_ssize_t i
    for i in range(n):
        if seconds != NULL:
            started = cycnn_now()
        if threads > 1 and steps[i].parallel:
            run_parallel(&steps[i], buffers, scratch, scratch_bytes, threads, team)
        else:
            steps[i].run(&steps[i], buffers, 0, steps[i].items, scratch)
        if seconds != NULL:
            seconds[i] = cycnn_now() - started
    cycnn_restore(state)


# ---- workspaces ----------------------------------------------------------------------------------

@cython.final
cdef class Block:
    """Memory that a call borrows."""
    cdef char* address
    cdef Py_ssize_t nbytes

    def __dealloc__(self):
        free(self.address)

    cdef int reserve(self, Py_ssize_t nbytes) except -1:
        if nbytes > self.nbytes:
            free(self.address)
            self.nbytes = 0
            self.address = <char*> cycnn_allocate(nbytes)
            if self.address == NULL:
                raise MemoryError(f"cannot allocate a workspace of {nbytes} bytes")
            self.nbytes = nbytes
        return 0


class WorkspacePool:
    """At most ``limit`` blocks, shared by every program; a call that finds none free waits."""

    def __init__(self, limit):
        self.limit = limit
        self._free = []
        self._made = 0
        self._changed = threading.Condition()

    def borrow(self):
        try:
            return self._free.pop()
        except IndexError:
            return self._wait()

    def _wait(self):
        with self._changed:
            while True:
                if self._free:
                    return self._free.pop()
                if self._made < self.limit:
                    self._made += 1
                    return Block()
                # give_back notifies only with the lock held, so a short timeout covers the gap
                self._changed.wait(0.001)

    def give_back(self, block):
        self._free.append(block)


pool = WorkspacePool(limit=16)


# ---- programs ------------------------------------------------------------------------------------

@cython.final
cdef class Program:
    """The steps of one plan with every address resolved but those of a call's own arrays.

    ``steps``: (capsule, items, attributes, operands, parallel), operands being buffer numbers, 0 for an
    absent one. ``fixed``: {buffer number: array} for weights, state and constants. ``arena``: {buffer
    number: byte offset}. ``inputs``, ``outputs``: (buffer number, shape, dtype) in the order of a call.
    """
    cdef Step* steps
    cdef char** table
    cdef Py_ssize_t* offsets
    cdef readonly Py_ssize_t n_steps, n_buffers, arena_bytes, scratch_bytes
    cdef readonly list inputs, outputs
    cdef object keep
    cdef list output_shapes

    def __cinit__(self, list steps, Py_ssize_t n_buffers, dict fixed, dict arena, list inputs,
                  list outputs, Py_ssize_t arena_bytes, Py_ssize_t scratch_bytes):
        self.n_steps, self.n_buffers = len(steps), n_buffers
        self.arena_bytes, self.scratch_bytes = arena_bytes, (scratch_bytes + 63) // 64 * 64
        self.inputs = [(i, tuple(shape), np.dtype(dtype)) for i, shape, dtype in inputs]
        self.outputs = [(i, tuple(shape), np.dtype(dtype)) for i, shape, dtype in outputs]
        self.keep = ([s[0] for s in steps], [s[2] for s in steps], list(fixed.values()))
        self.steps = <Step*> calloc(max(self.n_steps, 1), sizeof(Step))
        self.table = <char**> calloc(n_buffers, sizeof(char*))
        self.offsets = <Py_ssize_t*> malloc(n_buffers * sizeof(Py_ssize_t))
        if not (self.steps and self.table and self.offsets):
            raise MemoryError()
        for number in range(n_buffers):
            self.offsets[number] = arena.get(number, -1)
        for number, array in fixed.items():
            self.table[<Py_ssize_t> number] = <char*> cnp.PyArray_DATA(array)
        for number, (capsule, items, attributes, operands, parallel) in enumerate(steps):
            self._fill(&self.steps[<Py_ssize_t> number], capsule, items, attributes, operands,
                       parallel)

    cdef int _fill(self, Step* step, object capsule, Py_ssize_t items, bytes attributes,
                   tuple operands, bint parallel) except -1:
        step.run = <Run> PyCapsule_GetPointer(capsule, "cycnn.Run")
        step.items, step.parallel = items, parallel
        step.attributes = <const char*> attributes
        if len(operands) > 16:
            raise ValueError("a step has at most 16 operands")
        for k, number in enumerate(operands):
            step.operand[<Py_ssize_t> k] = number
        return 0

    def __dealloc__(self):
        free(self.steps)
        free(self.table)
        free(self.offsets)

    def empty_outputs(self):
        """New arrays for the outputs of one call."""
        return [np.empty(shape, dtype) for _, shape, dtype in self.outputs]

    def run(self, list inputs, list outputs, int threads=1):
        """Execute once, from ``inputs`` into ``outputs``: C-contiguous arrays of the plan's shapes."""
        self._run(inputs, outputs, threads, NULL)

    def profile(self, list inputs, list outputs, int threads=1):
        """Execute once and return the seconds of each step."""
        cdef double[::1] seconds = np.zeros(max(self.n_steps, 1))
        self._run(inputs, outputs, threads, &seconds[0])
        return np.asarray(seconds)[:self.n_steps]

    cdef int _run(self, list inputs, list outputs, int threads, double* seconds) except -1:
        cdef Block block = pool.borrow()
        cdef int team = max(team_size, 1)
        cdef bint alone = True
        threads = min(threads, team)
        if threads > 1:
            alone = not cycnn_try_lock(&team_busy)
            threads = 1 if alone else threads
        try:
            self._walk(block, inputs, outputs, threads, team, seconds)
        finally:
            if not alone:
                cycnn_unlock(&team_busy)
            pool.give_back(block)
        return 0

    cdef int _walk(self, Block block, list inputs, list outputs, int threads, int team,
                   double* seconds) except -1:
        cdef Py_ssize_t table_bytes = (self.n_buffers * sizeof(char*) + 63) // 64 * 64
        block.reserve(table_bytes + self.arena_bytes + threads * self.scratch_bytes + 64)
        cdef char** buffers = <char**> block.address
        cdef char* arena = block.address + table_bytes
        cdef Py_ssize_t i
        memcpy(buffers, self.table, self.n_buffers * sizeof(char*))
        for i in range(self.n_buffers):
            if self.offsets[i] >= 0:
                buffers[i] = arena + self.offsets[i]
        self._bind(buffers, self.inputs, inputs)
        self._bind(buffers, self.outputs, outputs)
        with nogil:
            run_steps(self.steps, self.n_steps, buffers, arena + self.arena_bytes,
                      self.scratch_bytes, threads, team, seconds)
        return 0

    cdef int _bind(self, char** buffers, list specs, list arrays) except -1:
        if len(specs) != len(arrays):
            raise ValueError(f"the plan takes {len(specs)} arrays, received {len(arrays)}")
        for (number, shape, dtype), array in zip(specs, arrays):
            if not (cnp.PyArray_Check(array) and cnp.PyArray_ISCARRAY_RO(array)
                    and array.shape == shape and array.dtype == dtype):
                raise ValueError(f"the plan takes a C-contiguous {dtype} array of shape {shape}")
            buffers[<Py_ssize_t> number] = <char*> cnp.PyArray_DATA(array)
        return 0
