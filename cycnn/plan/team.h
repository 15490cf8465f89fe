/* team.h: what the team needs of the machine.
 *
 * Floating-point state, atomics, clock, memory; a barrier for the members of one region; where workers
 * wake up; and the host, the thread that opens regions for callers other than the main thread.
 */
#ifndef CYCNN_TEAM_H
#define CYCNN_TEAM_H
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#  include <linux/futex.h>
#  include <sys/syscall.h>
#endif
#ifdef __SSE2__
#  include <xmmintrin.h>
#endif

/* ---- floating point: denormals read and written as zero; returns the state to restore ---- */

#ifdef __SSE2__
static inline unsigned cycnn_flush_denormals(void)
{
    unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040);
    return old;
}
static inline void cycnn_restore(unsigned old) { _mm_setcsr(old); }
static inline void cycnn_pause(void) { _mm_pause(); }
#else
static inline unsigned cycnn_flush_denormals(void) { return 0; }
static inline void cycnn_restore(unsigned old) { (void)old; }
static inline void cycnn_pause(void) { sched_yield(); }
#endif

/* ---- clock, memory, atomics ---- */

static inline double cycnn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Huge pages hold a large block, but not its end: one that is hardly used would take its whole size. */
static inline void *cycnn_allocate(size_t bytes)
{
    void *p = NULL;
    size_t huge = 2u << 20;
    size_t align = bytes >= 2 * huge ? huge : 64;
    if (posix_memalign(&p, align, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
    if (align == huge) madvise(p, bytes / huge * huge, MADV_HUGEPAGE);
#endif
    return p;
}

static inline Py_ssize_t cycnn_take(Py_ssize_t *next, Py_ssize_t n)
{
    return __atomic_fetch_add(next, n, __ATOMIC_RELAXED);
}
static inline int cycnn_try_lock(int *flag) { return !__atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE); }
static inline void cycnn_unlock(int *flag) { __atomic_store_n(flag, 0, __ATOMIC_RELEASE); }

/* ---- barrier: spins, then sleeps, so that a member without a CPU does not cost the others theirs ---- */

typedef struct { unsigned generation; int arrived, asleep; } cycnn_barrier;

static inline void cycnn_barrier_sleep(cycnn_barrier *b, unsigned generation)
{
#ifdef __linux__
    __atomic_fetch_add(&b->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&b->generation, __ATOMIC_SEQ_CST) == generation)
        syscall(SYS_futex, &b->generation, FUTEX_WAIT_PRIVATE, generation, NULL, NULL, 0);
    __atomic_fetch_sub(&b->asleep, 1, __ATOMIC_SEQ_CST);
#else
    while (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation) sched_yield();
#endif
}

/* Returns once `members` threads have called it; what they wrote before is seen by all after. */
static inline void cycnn_barrier_wait(cycnn_barrier *b, int members, int spins)
{
    unsigned generation = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == members) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->generation, generation + 1, __ATOMIC_SEQ_CST);
#ifdef __linux__
        if (__atomic_load_n(&b->asleep, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &b->generation, FUTEX_WAKE_PRIVATE, members, NULL, NULL, 0);
#endif
        return;
    }
    for (int i = 0; i < spins; i++) {
        if (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) != generation) return;
        cycnn_pause();
    }
    cycnn_barrier_sleep(b, generation);
}

/* ---- steering: wake workers away from the caller's CPU ----
 *
 * A worker that has gone to sleep is woken by its caller, which goes on at once; on virtual machines
 * the kernel often puts the worker on the caller's own CPU, where it waits for a whole time slice
 * (5 to 14 ms measured). So after an idle gap the caller takes its CPU out of the workers' masks, and
 * each worker puts its mask back when it has woken. Two crews: of the main thread, of the host.
 */

enum { CYCNN_MAIN = 0, CYCNN_HOST = 1, CYCNN_STEERED = 256 };

#ifdef __linux__
static int cycnn_worker[2][CYCNN_STEERED]; /* thread ids; 0: none, or it has ended */
static double cycnn_last_region[2];
static cpu_set_t cycnn_mask[2]; /* of the caller; workers get it back */
static int cycnn_steered[2];
static pthread_key_t cycnn_worker_key;
static pthread_once_t cycnn_worker_once = PTHREAD_ONCE_INIT;
static __thread int cycnn_thread_id;

static int cycnn_gettid(void)
{
    if (!cycnn_thread_id) cycnn_thread_id = (int)syscall(SYS_gettid);
    return cycnn_thread_id;
}
static void cycnn_worker_ends(void *slot)
{
    int me = cycnn_gettid();
    __atomic_compare_exchange_n((int *)slot, &me, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static void cycnn_worker_init(void) { pthread_key_create(&cycnn_worker_key, cycnn_worker_ends); }

/* Before a region: `team` is its size, and where OpenMP binds threads to places nothing is done. */
static inline void cycnn_steer(int crew, int team, int bound)
{
    cpu_set_t *mask = &cycnn_mask[crew], others;
    cycnn_steered[crew] = 0;
    if (bound || cycnn_now() - cycnn_last_region[crew] < 1e-3) return;
    if (sched_getaffinity(0, sizeof *mask, mask) || CPU_COUNT(mask) < team) return;
    others = *mask;
    CPU_CLR(sched_getcpu(), &others);
    cycnn_steered[crew] = 1;
    for (int i = 1; i < team && i < CYCNN_STEERED; i++) {
        int worker = __atomic_load_n(&cycnn_worker[crew][i], __ATOMIC_SEQ_CST);
        if (worker) sched_setaffinity(worker, sizeof others, &others);
    }
}
/* First thing in a region. */
static inline void cycnn_enter(int crew, int member)
{
    if (member == 0 || member >= CYCNN_STEERED) return;
    int *slot = &cycnn_worker[crew][member];
    if (cycnn_steered[crew]) sched_setaffinity(0, sizeof cycnn_mask[crew], &cycnn_mask[crew]);
    if (*slot != cycnn_gettid()) {
        pthread_once(&cycnn_worker_once, cycnn_worker_init);
        pthread_setspecific(cycnn_worker_key, slot);
        __atomic_store_n(slot, cycnn_gettid(), __ATOMIC_SEQ_CST);
    }
}
static inline void cycnn_leave(int crew) { cycnn_last_region[crew] = cycnn_now(); }
static inline int cycnn_on_main_thread(void) { return cycnn_gettid() == (int)getpid(); }
static inline void cycnn_forget_workers(void)
{
    cycnn_thread_id = 0;
    for (int i = 0; i < CYCNN_STEERED; i++) cycnn_worker[0][i] = cycnn_worker[1][i] = 0;
}
#else
static inline void cycnn_steer(int crew, int team, int bound) { (void)crew, (void)team, (void)bound; }
static inline void cycnn_enter(int crew, int member) { (void)crew, (void)member; }
static inline void cycnn_leave(int crew) { (void)crew; }
static inline int cycnn_on_main_thread(void) { return 0; }
static inline void cycnn_forget_workers(void) {}
#endif

/* ---- the host: opens regions for every thread but the main one ----
 *
 * OpenMP keeps a crew of workers for each thread that ever opened a region. With the host there are
 * two at most, whatever the number of Python threads. One job at a time: the caller owns the team.
 */

typedef void (*cycnn_job)(void *);

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t posted, done;
    pthread_t thread;
    cycnn_job job;
    void *argument;
    int alive, stop;
} cycnn_host = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};

static void *cycnn_host_serve(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&cycnn_host.mutex);
    while (1) {
        while (!cycnn_host.job && !cycnn_host.stop)
            pthread_cond_wait(&cycnn_host.posted, &cycnn_host.mutex);
        if (!cycnn_host.job) break;
        pthread_mutex_unlock(&cycnn_host.mutex);
        cycnn_host.job(cycnn_host.argument);
        pthread_mutex_lock(&cycnn_host.mutex);
        cycnn_host.job = NULL;
        pthread_cond_signal(&cycnn_host.done);
    }
    cycnn_host.alive = cycnn_host.stop = 0;
    pthread_mutex_unlock(&cycnn_host.mutex);
    return NULL;
}

/* Run `job(argument)` on the host and wait for it; 0 where no thread could be made. */
static inline int cycnn_host_run(cycnn_job job, void *argument)
{
    int alive;
    pthread_mutex_lock(&cycnn_host.mutex);
    if (!cycnn_host.alive)
        cycnn_host.alive = !pthread_create(&cycnn_host.thread, NULL, cycnn_host_serve, NULL);
    alive = cycnn_host.alive;
    if (alive) {
        cycnn_host.job = job;
        cycnn_host.argument = argument;
        pthread_cond_signal(&cycnn_host.posted);
        while (cycnn_host.job) pthread_cond_wait(&cycnn_host.done, &cycnn_host.mutex);
    }
    pthread_mutex_unlock(&cycnn_host.mutex);
    return alive;
}

/* End the host, and with it its workers, after the job it may be doing. */
static inline void cycnn_host_end(void)
{
    pthread_t thread;
    int alive;
    pthread_mutex_lock(&cycnn_host.mutex);
    alive = cycnn_host.alive && !cycnn_host.stop;
    thread = cycnn_host.thread;
    cycnn_host.stop = alive;
    if (alive) pthread_cond_signal(&cycnn_host.posted);
    pthread_mutex_unlock(&cycnn_host.mutex);
    if (alive) pthread_join(thread, NULL);
}

/* In a child made by fork no host exists, and its lock may have been held. */
static inline void cycnn_host_forget(void)
{
    pthread_mutex_init(&cycnn_host.mutex, NULL);
    pthread_cond_init(&cycnn_host.posted, NULL);
    pthread_cond_init(&cycnn_host.done, NULL);
    cycnn_host.job = NULL;
    cycnn_host.alive = cycnn_host.stop = 0;
}
#endif
