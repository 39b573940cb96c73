/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that run a plan together. The caller is one of them and begins at once; the others come as they wake up, take
 * parts of layers that are left, and go to sleep again when the plan has been run.
 */
#define _POSIX_C_SOURCE 200809L /* signals of a thread, beside C11 */

#include "plan.h"

#ifdef PLAN_HERE

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Most layers of a plan that is shared. */
#define MOST_LAYERS 512
/* Looks after which one that waits lets others run, and after which one without work goes to sleep: 20 to 200
 * microseconds, by processor, in which the next network of a frame may begin. */
#define LOOKS_YIELD 2000
#define LOOKS_SLEEP 4000

/* Which parts have been taken, and how many are done. In lines of their own, as each change takes one from the others. */
typedef struct {
    _Alignas(64) atomic_uint taken;
    atomic_int done;
} Progress;

static struct {
    pthread_mutex_t busy; /* one plan at a time */
    pthread_mutex_t door;
    pthread_cond_t call;
    atomic_uint calls; /* plans begun */
    atomic_int inside; /* threads that look at the plan */
    atomic_int open;   /* whether they may */
    int members;
    const Plan *plan;
    int parts[MOST_LAYERS][2];
    Progress progress[MOST_LAYERS][2];
} team = {.busy = PTHREAD_MUTEX_INITIALIZER, .door = PTHREAD_MUTEX_INITIALIZER, .call = PTHREAD_COND_INITIALIZER};

static void rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_once(int looks)
{
    if (looks % LOOKS_YIELD)
        rest();
    else
        sched_yield();
}

static void run_alone(const Plan *plan)
{
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        int parts[2];
        plan_parts(plan, &plan->layers[i], parts);
        for (int part = 0; part < parts[0]; part++)
            plan_run_part(plan, i, 0, part, parts[0], 0);
        for (int part = 0; part < parts[1]; part++)
            plan_run_part(plan, i, 1, part, parts[1], 0);
    }
}

/* Take part until all has been run. */
static void take_part(const Plan *plan, int thread)
{
    for (ptrdiff_t i = 0; i < plan->count; i++)
        for (int stage = 0; stage < 2; stage++) {
            Progress *progress = &team.progress[i][stage];
            const int parts = team.parts[i][stage];
            /* From its own share on, whose maps it has near by; then what others have not begun. */
            for (int k = 0, part = thread * parts / plan->threads; k < parts; k++, part = part + 1 == parts ? 0 : part + 1) {
                const unsigned bit = 1u << part;
                if (atomic_load_explicit(&progress->taken, memory_order_relaxed) & bit ||
                    atomic_fetch_or(&progress->taken, bit) & bit)
                    continue;
                plan_run_part(plan, i, stage, part, parts, thread);
                atomic_fetch_add_explicit(&progress->done, 1, memory_order_release);
            }
            for (int looks = 1; atomic_load_explicit(&progress->done, memory_order_acquire) < parts; looks++)
                wait_once(looks);
        }
}

static void *member(void *argument)
{
    const int thread = (int)(intptr_t)argument;
    unsigned seen = 0;
    int taken = 0;
    for (;;) {
        for (int looks = 0; taken && atomic_load(&team.calls) == seen && looks < LOOKS_SLEEP; looks++)
            rest();
        if (atomic_load(&team.calls) == seen) {
            pthread_mutex_lock(&team.door);
            while (atomic_load(&team.calls) == seen)
                pthread_cond_wait(&team.call, &team.door);
            pthread_mutex_unlock(&team.door);
        }
        seen = atomic_load(&team.calls);
        atomic_fetch_add(&team.inside, 1);
        /* The caller closes the plan before it waits for those inside: one who finds it open was counted in time. */
        taken = atomic_load(&team.open) && thread < team.plan->threads;
        if (taken)
            take_part(team.plan, thread);
        atomic_fetch_sub(&team.inside, 1);
    }
    return NULL;
}

/* In a forked child there are no threads but the caller's. */
static void forget(void)
{
    team.members = 0;
    atomic_store(&team.inside, 0);
    atomic_store(&team.open, 0);
    pthread_mutex_init(&team.busy, NULL);
    pthread_mutex_init(&team.door, NULL);
    pthread_cond_init(&team.call, NULL);
}

static int gather_members(int wanted)
{
    static int watched;
    if (!watched)
        watched = pthread_atfork(NULL, NULL, forget) == 0;
    pthread_attr_t detached;
    sigset_t all, before;
    if (!watched || pthread_attr_init(&detached))
        return team.members;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (team.members < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, &detached, member, (void *)(intptr_t)(team.members + 1)))
            break;
        team.members++;
    }
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return team.members;
}

void plan_run(const Plan *plan)
{
    int others = (plan->threads < PLAN_MOST_THREADS ? plan->threads : PLAN_MOST_THREADS) - 1;
    if (others < 1 || plan->count > MOST_LAYERS || pthread_mutex_trylock(&team.busy)) {
        run_alone(plan);
        return;
    }
    if (gather_members(others) == 0) {
        pthread_mutex_unlock(&team.busy);
        run_alone(plan);
        return;
    }
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        plan_parts(plan, &plan->layers[i], team.parts[i]);
        for (int stage = 0; stage < 2; stage++) {
            atomic_store_explicit(&team.progress[i][stage].taken, 0, memory_order_relaxed);
            atomic_store_explicit(&team.progress[i][stage].done, 0, memory_order_relaxed);
        }
    }
    team.plan = plan;
    atomic_store(&team.open, 1);
    pthread_mutex_lock(&team.door);
    atomic_fetch_add(&team.calls, 1);
    pthread_cond_broadcast(&team.call);
    pthread_mutex_unlock(&team.door);
    take_part(plan, 0);
    atomic_store(&team.open, 0);
    for (int looks = 1; atomic_load(&team.inside); looks++)
        wait_once(looks);
    pthread_mutex_unlock(&team.busy);
}

#else

void plan_run(const Plan *plan)
{
    (void)plan;
}

#endif
