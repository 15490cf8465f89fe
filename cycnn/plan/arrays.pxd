"""Arrays for results, as `plan.executor` makes them."""

cimport numpy as cnp


cdef object new_result(int ndim, cnp.npy_intp* shape, int type_number)
