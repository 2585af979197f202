/* The sweep's workers: order, environment, failures by their last line; and the lock they share. */
#include "core/base/file.h"
#include "core/base/lock.h"
#include "experiments/pool.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/lcqat_pool_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

static lq_job shell(const char *script, size_t index, double cost, lq_arena *arena)
{
    lq_job job = {.cost = cost, .log = lq_arena_printf(arena, "%s/%zu.log", root, index)};
    job.argv = lq_arena_alloc(arena, 4 * sizeof *job.argv);
    job.argv[0] = lq_arena_printf(arena, "sh");
    job.argv[1] = lq_arena_printf(arena, "-c");
    job.argv[2] = lq_arena_printf(arena, "cd %s; %s", root, script);
    job.argv[3] = NULL;
    return job;
}

static const char *text_of(const char *name, lq_arena *arena)
{
    char *text;
    size_t n;
    if (lq_file_read(lq_arena_printf(arena, "%s/%s", root, name), arena, &text, &n) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return text;
}

static void the_dearest_runs_first_and_failures_are_told(void **state)
{
    (void)state;
    lq_arena a = {0};
    const lq_pool pool = {"/bin/sh", "test", 1};
    lq_job job[] = {
        shell("echo cheap >> order", 0, 1, &a),
        shell("echo dear >> order; echo one; echo the reason >&2; echo; exit 3", 1, 9, &a),
        shell("echo middle >> order; kill -KILL $$", 2, 5, &a),
        shell("echo middle too >> order", 3, 5, &a)};
    assert_int_equal(lq_pool_run(&pool, job, 4), LQ_OK);
    assert_string_equal(text_of("order", &a), "dear\nmiddle\nmiddle too\ncheap\n");
    assert_true(job[0].done && !job[1].done && !job[2].done && job[3].done);
    assert_string_equal(job[0].ending, "");
    assert_string_equal(job[1].ending, "exit status 3: the reason");
    assert_string_equal(job[2].ending, "killed by signal 9: no output");
    lq_arena_close(&a);
}

/* What a run's log tells: its parts in their order, each by its last line; what is no part is passed over. */
static void a_log_tells_how_far_a_job_is(void **state)
{
    (void)state;
    static const struct {
        const char *log;
        double told;
    } list[] = {
        {"", 0},
        {"quantizing: block 1 of 4, 3.0 s left\n", 2.5},
        {"quantizing: block 1 of 4\nquantizing: block 3 of 4\n", 7.5},
        {"quantizing: block 4 of 4\ntraining: step 30 of 120, 9.0 s left, loss 2.3\n", 30},
        {"training: step 120 of 120\nperplexity: window 1 of 2\n", 95},
        {"training: step 60 of 120\nteacher: chunk 1 of 9\nwarning: training: step 9 of 9\n", 50},
        {"training: step 121 of 120\n", 0},
        {"training: step 60 of 0\n", 0},
        {"training: done in 3 s\ntraining: step of 7\ntraining:\ntraining: step 1 of", 0},
    };
    lq_arena a = {0};
    lq_job job = {.cost = 100, .part = {{"quantizing", 10}, {"training", 80}, {"perplexity", 10}}};
    job.log = lq_arena_printf(&a, "%s/told.log", root);
    assert_true(lq_job_told(&job) == 0); /* no log */
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        assert_int_equal(lq_file_write_all(job.log, list[i].log, strlen(list[i].log)), LQ_OK);
        if (lq_job_told(&job) != list[i].told)
            fail_msg("%zu: %g of 100 told, want %g", i, lq_job_told(&job), list[i].told);
    }
    lq_arena_close(&a);
}

static void two_at_once_have_one_thread_each_and_no_input(void **state)
{
    (void)state;
    lq_arena a = {0};
    lq_pool pool = {"/bin/sh", "test", 2};
    /* each waits for the file of the other: one at a time would never end well */
    const char *const script[] = {
        "touch a; n=0; while [ ! -e b ] && [ $n -lt 100 ]; do sleep 0.02; "
        "n=$((n+1)); done; [ -e b ]",
        "touch b; n=0; while [ ! -e a ] && [ $n -lt 100 ]; do sleep 0.02; "
        "n=$((n+1)); done; [ -e a ] && ! read x && "
        "echo $OMP_NUM_THREADS $OPENBLAS_NUM_THREADS > threads"};
    lq_job job[] = {shell(script[0], 0, 1, &a), shell(script[1], 1, 1, &a)};
    setenv("OMP_NUM_THREADS", "7", 1);
    assert_int_equal(lq_pool_run(&pool, job, 2), LQ_OK);
    assert_true(job[0].done && job[1].done);
    assert_string_equal(text_of("threads", &a), "1 1\n");
    pool.jobs = 1; /* a single child keeps what the user said */
    job[0] = shell("echo $OMP_NUM_THREADS > threads", 0, 1, &a);
    assert_int_equal(lq_pool_run(&pool, job, 1), LQ_OK);
    assert_string_equal(text_of("threads", &a), "7\n");
    lq_arena_close(&a);
}

static void a_program_that_is_not_there_is_a_failed_job(void **state)
{
    (void)state;
    lq_arena a = {0};
    const lq_pool pool = {"/nowhere/at/all", "test", 1};
    lq_job job[] = {shell("true", 0, 1, &a)};
    assert_int_equal(lq_pool_run(&pool, job, 1), LQ_OK);
    assert_string_equal(job[0].ending, "exit status 127: the program cannot be executed");
    job[0].log = "/nowhere/at/all.log";
    assert_int_equal(lq_pool_run(&pool, job, 1), LQ_E_IO);
    lq_arena_close(&a);
}

/* A parent killed outright takes its children along. */
static void children_die_with_the_parent(void **state)
{
    (void)state;
    lq_arena a = {0};
    const lq_pool pool = {"/bin/sh", "test", 1};
    lq_job job[] = {shell("echo $$ > pid.part; mv pid.part pid; exec sleep 30", 0, 1, &a)};
    const pid_t parent = fork();
    if (parent == 0) {
        lq_pool_run(&pool, job, 1);
        _Exit(0);
    }
    const char *path = lq_arena_printf(&a, "%s/pid", root);
    const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
    for (int i = 0; i < 200 && !lq_path_exists(path); i++)
        nanosleep(&moment, NULL);
    const pid_t child = (pid_t)strtol(text_of("pid", &a), NULL, 10);
    assert_true(child > 1);
    assert_int_equal(kill(child, 0), 0);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    char state_of[64];
    bool gone = false;
    for (int i = 0; i < 100 && !gone; i++) { /* init reaps it; a zombie counts as dead */
        FILE *stat = fopen(lq_arena_printf(&a, "/proc/%ld/stat", (long)child), "r");
        gone = !stat || (fgets(state_of, sizeof state_of, stat) && strstr(state_of, ") Z"));
        if (stat)
            fclose(stat);
        nanosleep(&moment, NULL);
    }
    assert_true(gone);
    lq_arena_close(&a);
}

static void a_lock_is_waited_for_and_leaves_no_file(void **state)
{
    (void)state;
    lq_arena a = {0};
    lq_lock lock;
    const char *path = lq_arena_printf(&a, "%s/x.lock", root);
    assert_int_equal(lq_file_lock(path, &lock), LQ_OK);
    const pid_t child = fork();
    if (child == 0) {
        lq_lock other;
        alarm(4); /* a lock that never falls is a failure, not a hang */
        bool waited = lq_file_lock(path, &other) == LQ_OK &&
                      lq_path_exists(lq_arena_printf(&a, "%s/released", root));
        lq_file_unlock(&other);
        _Exit(waited ? 0 : 1);
    }
    nanosleep(&(struct timespec){.tv_nsec = 250 * 1000 * 1000}, NULL);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* still waiting */
    lq_file_write_all(lq_arena_printf(&a, "%s/released", root), "", 0);
    lq_file_unlock(&lock);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_false(lq_path_exists(path));
    lq_file_unlock(&lock); /* twice is fine */
    assert_int_equal(lq_file_lock("/nowhere/at/all.lock", &lock), LQ_E_IO);
    lq_file_unlock(&lock);
    lq_arena_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dearest_runs_first_and_failures_are_told),
        cmocka_unit_test(a_log_tells_how_far_a_job_is),
        cmocka_unit_test(two_at_once_have_one_thread_each_and_no_input),
        cmocka_unit_test(a_program_that_is_not_there_is_a_failed_job),
        cmocka_unit_test(children_die_with_the_parent),
        cmocka_unit_test(a_lock_is_waited_for_and_leaves_no_file),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
