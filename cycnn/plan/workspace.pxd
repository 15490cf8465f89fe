"""Memory that a call borrows, as `plan.executor` uses it."""


cdef class Block:
    cdef char* address
    cdef Py_ssize_t nbytes
    cdef int reserve(self, Py_ssize_t nbytes) except -1


cdef class WorkspacePool:
    cdef readonly Py_ssize_t limit
    cdef list idle
    cdef Py_ssize_t made, waiting
    cdef object changed
    cdef Block borrow(self)
    cdef int give_back(self, Block block) except -1


cdef WorkspacePool pool
