"""The team of threads, as `plan.executor` uses it, and what team.h knows of the machine."""

cdef extern from "team.h" nogil:
    ctypedef struct cycnn_barrier:
        pass
    unsigned cycnn_flush_denormals()
    void cycnn_restore(unsigned)
    Py_ssize_t cycnn_take(Py_ssize_t*, Py_ssize_t)
    double cycnn_now()

# One member's share of a job: ``work(job, member, members)``.
ctypedef void (*Work)(void*, int, int) noexcept nogil

cdef bint run_together(Work work, void* job, int threads) noexcept nogil
cdef void meet(cycnn_barrier* barrier, int members) noexcept nogil
