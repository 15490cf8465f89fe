"""The team: one per process, of constant size, owned by one call at a time.

Parallel regions are opened here and nowhere else, one for a whole program: its members walk the
steps side by side and `meet` between them. A region always has the size of the team, since OpenMP
rebuilds its workers when the size changes, and members beyond the number asked for return at once.

Regions are opened by the main thread for itself and by one host thread for all others, so that the
process has two crews of workers at most. A call that finds the team busy is told so and runs
serially.
"""

cimport openmp
from cython.parallel cimport prange

cdef extern from "team.h" nogil:
    enum:
        CYCNN_MAIN
        CYCNN_HOST
    bint cycnn_try_lock(int*)
    void cycnn_unlock(int*)
    void cycnn_barrier_wait(cycnn_barrier*, int, int)
    void cycnn_steer(int, int, int)
    void cycnn_enter(int, int)
    void cycnn_leave(int)
    bint cycnn_on_main_thread()
    void cycnn_forget_workers()
    bint cycnn_host_run(void (*)(void*) noexcept nogil, void*)
    void cycnn_host_end()
    void cycnn_host_forget()

cdef extern from *:
    """
    /* Without the GIL, too, Cython writes `if (PyGILState_Check()) Py_UNBLOCK_THREADS` around `prange`. It is
     * never held here, and before Python 3.12 the answer is wrong once a sub-interpreter was made
     * (mod_wsgi), and ends the process. */
    #define PyGILState_Check() 0
    """

cdef extern from "omp.h" nogil:
    ctypedef enum omp_pause_resource_t:
        omp_pause_soft
    int omp_pause_resource_all(omp_pause_resource_t)
    int omp_get_proc_bind()
    int omp_get_num_procs()

cdef struct Region:
    Work work
    void* job
    int threads
    int team
    int crew

cdef int team_size = 1
cdef int busy = 0
cdef int processors = omp_get_num_procs()


cdef void take_part(const Region* region, int member) noexcept nogil:
    """What each thread of a region does; where OpenMP has fewer, one of them comes here again."""
    cdef int present = openmp.omp_get_num_threads()
    cdef int members = min(region.threads, present)
    if member < present:
        cycnn_enter(region.crew, member)
    if member < members:
        region.work(region.job, member, members)


cdef void open_region(void* argument) noexcept nogil:
    cdef const Region* region = <const Region*> argument
    cdef int member
    cycnn_steer(region.crew, region.team, omp_get_proc_bind())
    for member in prange(region.team, num_threads=region.team, schedule="static", chunksize=1):
        take_part(region, member)
    cycnn_leave(region.crew)


cdef bint run_together(Work work, void* job, int threads) noexcept nogil:
    """Call ``work(job, member, members)`` from ``threads`` threads at once.

    ``members`` may be smaller than ``threads`` where OpenMP has fewer. Returns False, having done
    nothing, when another call has the team.
    """
    global team_size
    cdef Region region
    cdef bint done = True
    if not cycnn_try_lock(&busy):
        return False
    team_size = max(team_size, threads)
    region.work, region.job, region.threads, region.team = work, job, threads, team_size
    region.crew = CYCNN_MAIN if cycnn_on_main_thread() else CYCNN_HOST
    if region.crew == CYCNN_MAIN:
        open_region(&region)
    else:
        done = cycnn_host_run(open_region, &region)
    cycnn_unlock(&busy)
    return done


cdef void meet(cycnn_barrier* barrier, int members) noexcept nogil:
    """Wait for the other members; spin for some 3 ms first, unless they outnumber the CPUs.

    Sleeping sooner does harm: the kernel may wake the sleeper on the CPU of the one that wakes it.
    """
    cycnn_barrier_wait(barrier, members, 200000 if members <= processors else 50)


def set_team_size(int size):
    """Regions open with this many threads from now on; `cycnn.threads` alone decides it."""
    global team_size
    team_size = max(size, 1)


def get_team_size():
    """The number of threads that regions open with: the largest asked for since it was last set."""
    return team_size


def pool_limit():
    """What OpenMP allows the calling thread: threadpoolctl sets it."""
    return openmp.omp_get_max_threads()


def release_team():
    """Give the worker threads back, so that a child made by fork can open regions of its own."""
    with nogil:
        omp_pause_resource_all(omp_pause_soft)
        cycnn_host_end()


def forget_team():
    """After a fork, in the child: it has no workers and no region is open."""
    cycnn_forget_workers()
    cycnn_host_forget()
    cycnn_unlock(&busy)
