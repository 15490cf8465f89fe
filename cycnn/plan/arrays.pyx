"""Arrays for results: aligned, and of memory that was paid for once.

The C library hands large blocks back to the system as soon as they are freed, and the next one of the
same size is paid for in page faults again, as much as a convolution costs. What arrays leave behind
is therefore kept, up to `LIMIT` bytes, for the next array of about that size.
"""

cimport cython
cimport numpy as cnp
from libc.stdlib cimport free
from libc.string cimport memmove

import numpy as np

cnp.import_array()

cdef extern from "team.h" nogil:
    void* cycnn_allocate(size_t)

cdef extern from *:
    """
    #ifdef __SANITIZE_ADDRESS__     /* which is to see what is used after it was freed */
    #define CYCNN_KEPT 0
    #else
    #define CYCNN_KEPT (64 << 20)
    #endif
    """
    enum:
        CYCNN_KEPT  # bytes, at most, of all that is kept

cdef enum:
    LARGE = 131072  # bytes of an array; smaller ones the C library keeps itself
    SLOTS = 16
    DIMS = 64   # as many as an array can have

LIMIT = CYCNN_KEPT

cdef struct Piece:
    void* address
    Py_ssize_t nbytes

# what is kept, the oldest first; only ever touched with the GIL held
cdef Piece[SLOTS] kept
cdef Py_ssize_t pieces = 0, kept_total = 0


cdef Piece remove(Py_ssize_t i) noexcept:
    """Take the i-th out of what is kept."""
    global pieces, kept_total
    cdef Piece piece = kept[i]
    pieces -= 1
    kept_total -= piece.nbytes
    memmove(&kept[i], &kept[i + 1], (pieces - i) * sizeof(Piece))
    return piece


cdef Piece take(Py_ssize_t nbytes) noexcept:
    """The newest that is kept of ``nbytes``, or of up to a quarter more; else new memory, or NULL."""
    cdef Piece piece
    cdef Py_ssize_t i = pieces - 1
    while i >= 0:
        if nbytes <= kept[i].nbytes <= nbytes + nbytes // 4:
            return remove(i)
        i -= 1
    piece.address, piece.nbytes = cycnn_allocate(nbytes), nbytes
    return piece


cdef void leave(Piece piece) noexcept:
    """Keep ``piece``, in place of the oldest where there are too many or too much."""
    global pieces, kept_total
    if piece.nbytes > CYCNN_KEPT:
        free(piece.address)
        return
    while pieces == SLOTS or kept_total + piece.nbytes > CYCNN_KEPT:
        free(remove(0).address)
    kept[pieces] = piece
    pieces += 1
    kept_total += piece.nbytes


@cython.final
cdef class Owner:
    """What an array of such memory is based on: outlives every view of it."""
    cdef Piece piece
    cdef bint passing       # whether the next array is to have its memory

    def __dealloc__(self):
        if self.passing:
            leave(self.piece)
        else:
            free(self.piece.address)


cdef object own(Piece piece, bint passing, int ndim, cnp.npy_intp* shape, int type_number):
    cdef Owner owner = Owner()
    if piece.address == NULL:
        raise MemoryError(f"cannot allocate an array of {piece.nbytes} bytes")
    owner.piece, owner.passing = piece, passing
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(ndim, shape, type_number, piece.address)
    cnp.set_array_base(array, owner)
    return array


cdef Py_ssize_t size_of(int ndim, cnp.npy_intp* shape, int type_number):
    cdef Py_ssize_t nbytes = cnp.PyArray_DescrFromType(type_number).itemsize
    cdef int d
    for d in range(ndim):
        nbytes *= shape[d]
    return nbytes


cdef object new_result(int ndim, cnp.npy_intp* shape, int type_number):
    """An uninitialised C-contiguous array for what a call returns; a large one starts on a cache line."""
    cdef Py_ssize_t nbytes = size_of(ndim, shape, type_number)
    if nbytes < LARGE:
        return cnp.PyArray_EMPTY(ndim, shape, type_number, 0)
    return own(take(nbytes), True, ndim, shape, type_number)


cdef int read_shape(object shape, cnp.npy_intp* sizes) except -1:
    cdef int d
    if len(shape) > DIMS:
        raise ValueError(f"an array has at most {DIMS} axes")
    for d in range(len(shape)):
        sizes[d] = shape[d]
    return len(shape)


def empty_result(shape, dtype=np.float32):
    """Like `numpy.empty`, for what a call returns. Raises `MemoryError`."""
    cdef cnp.npy_intp[DIMS] sizes
    cdef int ndim = read_shape(shape, sizes)
    return new_result(ndim, sizes, np.dtype(dtype).num)


def empty(shape, dtype=np.float32):
    """Like `numpy.empty`, from a cache line on, for what lives long: weights. Raises `MemoryError`."""
    cdef cnp.npy_intp[DIMS] sizes
    cdef int ndim = read_shape(shape, sizes), number = np.dtype(dtype).num
    cdef Piece piece
    piece.nbytes = size_of(ndim, sizes, number)
    piece.address = cycnn_allocate(max(piece.nbytes, <Py_ssize_t> 1))
    return own(piece, False, ndim, sizes, number)


def kept_bytes():
    """How much is kept for results to come."""
    return kept_total
