/* Child processes, so many at a time: the sweep's workers.
 *
 * A child has its own process group (Ctrl-C reaches the parent alone, which passes it on once), dies with
 * the parent however that dies, reads /dev/null and writes to the log of its job. */
#ifndef LQ_EXPERIMENTS_POOL_H
#define LQ_EXPERIMENTS_POOL_H

#include "core/base/arena.h"

#include <sys/types.h>

enum { LQ_JOB_PARTS = 4 };
typedef struct lq_job_part { /* of a job's work */
    const char *what;        /* as its progress lines call it; NULL: no such part */
    double cost;             /* in the unit of the job's */
} lq_job_part;

typedef struct lq_job {
    char **argv;                    /* NULL-terminated, argv[0] included */
    const char *log;                /* file for its output */
    double cost;                    /* expected, > 0, in any unit the jobs share */
    lq_job_part part[LQ_JOB_PARTS]; /* in their order, as far as they are known */
    bool done;                      /* out: ended with status 0 */
    char ending[400]; /* out: "" or how it failed: its status and the last line of its log */
    pid_t pid;        /* the pool's: 0 when not running */
    double started_s, looked_s;
    double told; /* the pool's: of the cost, what the log says is done */
} lq_job;

typedef struct lq_pool {
    const char *program; /* the file to execute */
    const char *what;    /* of the progress line */
    size_t jobs;         /* children at once, >= 1; above 1 each is told to use one thread */
} lq_pool;

/* Runs all jobs, the most expensive first. A job that fails stops no other. LQ_E_STOPPED: the user asked;
 * children were told and have ended. LQ_E_IO: no child could be started; those started have ended. */
lq_status lq_pool_run(const lq_pool *pool, lq_job *job, size_t n);
/* Of the job's cost, what the progress lines of its log say is done: the parts before the last that they
 * name, and its share of that one. 0: they say nothing, or there is no log. */
double lq_job_told(const lq_job *job);

#endif
