"""The memory of calls in flight: blocks in a bounded pool that every program shares."""

import threading

cimport cython
from libc.stdlib cimport free


cdef extern from "team.h" nogil:
    void* cycnn_allocate(size_t)


@cython.final
cdef class Block:
    """Memory that a call borrows: 64-byte aligned, and on huge pages when it is large."""

    def __dealloc__(self):
        free(self.address)

    cdef int reserve(self, Py_ssize_t nbytes) except -1:
        """Make it at least ``nbytes`` large; what it held is lost."""
        if nbytes > self.nbytes:
            free(self.address)
            self.nbytes = 0
            self.address = <char*> cycnn_allocate(nbytes)
            if self.address == NULL:
                raise MemoryError(f"cannot allocate a workspace of {nbytes} bytes")
            self.nbytes = nbytes
        return 0


@cython.final
cdef class WorkspacePool:
    """At most ``limit`` blocks; a call that finds none free waits until one is given back."""

    def __init__(self, Py_ssize_t limit):
        self.limit = limit
        self.idle = []
        self.reset()

    def reset(self):
        """After a fork, in the child: the calls that other threads had in flight do not exist."""
        self.made = len(self.idle)
        self.waiting = 0
        self.changed = threading.Condition()

    cdef Block borrow(self):
        try:
            return self.idle.pop()
        except IndexError:
            return self._wait()

    def _wait(self):
        with self.changed:
            self.waiting += 1
            try:
                while True:
                    if self.made < self.limit:
                        block = Block()
                        self.made += 1
                        return block
                    try:
                        return self.idle.pop()
                    except IndexError:
                        self.changed.wait()
            finally:
                self.waiting -= 1
                if self.idle:  # the notification may have been meant for another
                    self.changed.notify()

    cdef int give_back(self, Block block) except -1:
        self.idle.append(block)
        # a waiter counts itself before it looks for a block, so one of the two sees the other
        if self.waiting:
            with self.changed:
                self.changed.notify()
        return 0


cdef WorkspacePool pool = WorkspacePool(16)


def forget_calls():
    """After a fork, in the child."""
    pool.reset()
