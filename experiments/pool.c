#include "experiments/pool.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { EXEC_FAILED = 127, STEPS = 1000 /* of the progress line */ };
static const double look_every_s = 2; /* into the log of a running job */

typedef struct work { /* one lq_pool_run */
    const lq_pool *pool;
    lq_job **order; /* (n) by falling cost */
    size_t n, next, running, ended, failed;
    char **environment;
    double total, spent; /* cost of all jobs, of those that ended */
    double busy_s;       /* seconds of those that ended, added up */
    bool told;           /* children were asked to stop */
} work;

static bool sets(const char *entry, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

/* With several children each gets one thread; a single one keeps the user's environment. Made before
 * the fork, since between fork and exec nothing may allocate. */
static char **environment_of(const lq_pool *pool, lq_arena *arena)
{
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **list = lq_arena_alloc(arena, (n + 3) * sizeof *list);
    if (!list)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (pool->jobs == 1 ||
            !(sets(environ[i], "OMP_NUM_THREADS") || sets(environ[i], "OPENBLAS_NUM_THREADS")))
            list[kept++] = environ[i];
    if (pool->jobs > 1) {
        list[kept++] = lq_arena_printf(arena, "OMP_NUM_THREADS=1");
        list[kept++] = lq_arena_printf(arena, "OPENBLAS_NUM_THREADS=1");
    }
    list[kept] = NULL;
    return list;
}

/* In the child, after fork: only what is safe there. Does not return. */
static _Noreturn void become(const work *w, const lq_job *job, pid_t parent, int null, int log)
{
    static const char failed[] = "the program cannot be executed\n";
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before prctl could tell us */
        _Exit(EXEC_FAILED);
    if (dup2(null, STDIN_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0 &&
        dup2(log, STDERR_FILENO) >= 0)
        execve(w->pool->program, job->argv, w->environment);
    if (write(log, failed, sizeof failed - 1) < 0)
        _Exit(EXEC_FAILED);
    _Exit(EXEC_FAILED);
}

static lq_status start(work *w, lq_job *job)
{
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int log = open(job->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    const pid_t parent = getpid(), child = null >= 0 && log >= 0 ? fork() : -1;
    if (child == 0)
        become(w, job, parent, null, log);
    lq_status status = LQ_OK;
    if (child < 0)
        status = lq_fail(LQ_E_IO, "%s: cannot start a process with this log: %s", job->log,
                         strerror(errno));
    if (null >= 0)
        close(null);
    if (log >= 0)
        close(log);
    if (child > 0) {
        job->pid = child;
        job->started_s = job->looked_s = lq_clock_wall_s();
        job->told = 0;
        w->running++;
    }
    return status;
}

/* The last line of a log that says something. */
static void last_line(const char *path, char *out, size_t room)
{
    lq_arena arena = {0};
    char *text;
    size_t n;
    out[0] = '\0';
    if (lq_file_read(path, &arena, &text, &n) == LQ_OK) {
        while (n > 0 && strchr("\n\r\t ", text[n - 1]))
            text[--n] = '\0';
        const char *line = strrchr(text, '\n');
        snprintf(out, room, "%s", line ? line + 1 : text);
    }
    lq_arena_close(&arena);
}

static void finish(work *w, lq_job *job, int how)
{
    char line[256];
    job->pid = 0;
    job->done = WIFEXITED(how) && WEXITSTATUS(how) == 0;
    w->running--;
    w->ended++;
    w->spent += job->cost;
    w->busy_s += lq_clock_wall_s() - job->started_s;
    if (job->done)
        return;
    w->failed++;
    last_line(job->log, line, sizeof line);
    snprintf(job->ending, sizeof job->ending, "%s %d: %s",
             WIFSIGNALED(how) ? "killed by signal" : "exit status",
             WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how), line[0] ? line : "no output");
}

static void reap(work *w)
{
    for (size_t i = 0; i < w->next; i++) {
        int how;
        if (w->order[i]->pid > 0 && waitpid(w->order[i]->pid, &how, WNOHANG) == w->order[i]->pid)
            finish(w, w->order[i], how);
    }
}

static void tell_children(work *w)
{
    for (size_t i = 0; i < w->next; i++)
        if (w->order[i]->pid > 0)
            kill(w->order[i]->pid, SIGTERM);
    w->told = true;
}

double lq_job_told(const lq_job *job)
{
    lq_arena arena = {0};
    char *text;
    size_t n, done, total;
    double told = 0;
    if (lq_file_read(job->log, &arena, &text, &n) == LQ_OK)
        for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
            double before = 0;
            line += *line == '\n';
            for (size_t i = 0; i < LQ_JOB_PARTS && job->part[i].what != NULL; i++) {
                const lq_job_part *part = &job->part[i];
                if (lq_progress_read(line, part->what, &done, &total))
                    told = before + part->cost * (double)done / (double)total;
                before += part->cost;
            }
        }
    lq_arena_close(&arena);
    return told;
}

static void look(const work *w, double now)
{
    for (size_t i = 0; i < w->next; i++) {
        lq_job *job = w->order[i];
        if (job->pid <= 0 || now - job->looked_s < look_every_s)
            continue;
        job->told = lq_job_told(job);
        job->looked_s = now;
    }
}

/* Ended jobs count in full; running ones by what their logs tell, and before they do by their time at the
 * pace of the ended ones. */
static void show(const work *w, lq_progress *p)
{
    double spent = w->spent;
    const double now = lq_clock_wall_s(), pace = w->busy_s > 0 ? w->spent / w->busy_s : 0;
    look(w, now);
    for (size_t i = 0; i < w->next; i++) {
        const lq_job *job = w->order[i];
        const double guess = job->told > 0 ? job->told : pace * (now - job->started_s);
        if (job->pid > 0)
            spent += guess < 0.95 * job->cost ? guess : 0.95 * job->cost;
    }
    const double share = w->total > 0 ? spent / w->total : 1;
    char failed[48] = "";
    if (w->failed > 0)
        snprintf(failed, sizeof failed, ", %zu failed", w->failed);
    lq_progress_update(p, (size_t)(STEPS * share), "%zu of %zu runs done, %zu running%s", w->ended,
                       w->n, w->running, failed);
}

static int by_cost(const void *a, const void *b)
{
    const lq_job *x = *(lq_job *const *)a, *y = *(lq_job *const *)b;
    if (x->cost != y->cost)
        return x->cost > y->cost ? -1 : 1;
    return x < y ? -1 : x > y; /* their order in the caller's array */
}

static lq_status drive(work *w)
{
    lq_status status = LQ_OK;
    lq_progress p = lq_progress_start(w->pool->what, STEPS, "step");
    for (;;) {
        const bool over = status != LQ_OK || lq_stop_asked();
        if (over && !w->told)
            tell_children(w);
        while (!over && status == LQ_OK && w->next < w->n && w->running < w->pool->jobs) {
            status = start(w, w->order[w->next]);
            w->next += status == LQ_OK;
        }
        if (w->running == 0 && (over || w->next == w->n))
            break;
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
        reap(w);
        show(w, &p);
    }
    lq_progress_end(&p);
    if (status == LQ_OK && lq_stop_asked() && w->ended - w->failed < w->n)
        status = lq_fail(LQ_E_STOPPED,
                         "%s: stopped with %zu of %zu runs done; the same command "
                         "goes on",
                         w->pool->what, w->ended - w->failed, w->n);
    return status;
}

lq_status lq_pool_run(const lq_pool *pool, lq_job *job, size_t n)
{
    lq_arena arena = {0};
    work w = {.pool = pool, .n = n};
    LQ_ASSERT(pool->jobs >= 1);
    lq_status status = lq_arena_new(&arena, &w.order, n + 1);
    if (status == LQ_OK && !(w.environment = environment_of(pool, &arena)))
        status = LQ_E_MEMORY;
    for (size_t i = 0; status == LQ_OK && i < n; i++) {
        job[i].done = false;
        job[i].pid = 0;
        job[i].ending[0] = '\0';
        w.total += job[i].cost;
        w.order[i] = &job[i];
    }
    if (status == LQ_OK) {
        qsort(w.order, n, sizeof *w.order, by_cost);
        status = drive(&w);
    }
    lq_arena_close(&arena);
    return status;
}
