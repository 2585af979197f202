/* status, arena, rng, clock, log. */
#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/base/status.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* True when `act` ends in abort(); its words to stderr are thrown away. */
static bool aborts(void (*act)(void))
{
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _Exit(3);
        act();
        _Exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT;
}

static void do_nothing(void) {}
static void break_a_promise(void) { LQ_ASSERT(1 + 1 == 3); }
static void unknown_code(void) { (void)lq_status_name((lq_status)99); }
static void scratch_overflow(void)
{
    lq_arena arena = {0};
    (void)lq_arena_f32(&arena, SIZE_MAX / 2);
}
static void scratch_out_of_memory(void)
{
    lq_arena arena = {0};
    lq_arena_fail_after(0);
    (void)lq_arena_f64(&arena, 8);
}
static void below_zero(void)
{
    lq_rng rng = lq_rng_seed(1);
    (void)lq_rng_below(&rng, 0);
}

static void assert_kept_in_every_build(void **state)
{
    (void)state;
    assert_false(aborts(do_nothing));
    assert_true(aborts(break_a_promise));
    assert_true(aborts(unknown_code));
    assert_true(aborts(scratch_overflow));
    assert_true(aborts(scratch_out_of_memory));
    assert_true(aborts(below_zero));
}

static void status_list_gives_names_and_exits(void **state)
{
    (void)state;
    assert_string_equal(lq_status_name(LQ_OK), "LQ_OK");
    assert_string_equal(lq_status_name(LQ_E_IO), "LQ_E_IO");
    assert_string_equal(lq_status_meaning(LQ_E_MEMORY), "out of memory");
    assert_int_equal(lq_status_exit(LQ_OK), 0);
    assert_int_equal(lq_status_exit(LQ_E_OPTION), 2);
    assert_int_equal(lq_status_exit(LQ_E_STOPPED), 1);
}

static lq_status pass_on(lq_status status)
{
    LQ_TRY(status);
    return lq_fail(LQ_E_SHAPE, "went on");
}

static void note_is_one_short_line(void **state)
{
    (void)state;
    assert_int_equal(lq_fail(LQ_E_IO, "%s: line\nother\ttab %d", "a\033[2Jb", 7), LQ_E_IO);
    assert_string_equal(lq_status_note(), "a?[2Jb: line other tab 7");
    assert_int_equal(lq_fail(LQ_E_IO, "again: %s", lq_status_note()), LQ_E_IO);
    assert_string_equal(lq_status_note(), "again: a?[2Jb: line other tab 7");

    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)lq_fail(LQ_E_IO, "%s", text);
    assert_int_equal(strlen(lq_status_note()), 1023);

    (void)lq_fail(LQ_E_IO, "first");
    assert_int_equal(pass_on(LQ_E_FORMAT), LQ_E_FORMAT);
    assert_string_equal(lq_status_note(), "first");
    assert_int_equal(pass_on(LQ_OK), LQ_E_SHAPE);
}

static void arena_memory_is_aligned_and_zeroed(void **state)
{
    (void)state;
    lq_arena arena = {0};
    for (size_t n = 0; n < 300; n += 7) {
        unsigned char *scratch = lq_arena_alloc(&arena, n), *zeroed;
        assert_non_null(scratch);
        assert_int_equal((uintptr_t)scratch % 64, 0);
        memset(scratch, 0xa5, n);
        assert_int_equal(lq_arena_new(&arena, &zeroed, n), LQ_OK);
        assert_int_equal((uintptr_t)zeroed % 64, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(zeroed[i], 0);
        memset(zeroed, 0x5a, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(scratch[i], 0xa5);
    }
    lq_arena_close(&arena);
    assert_null(arena.first);
    assert_non_null(lq_arena_alloc(&arena, 1)); /* usable again */
    lq_arena_close(&arena);
}

static void arena_release_gives_the_same_memory_again(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_mark empty = lq_arena_mark(&arena);
    float *keep = lq_arena_f32(&arena, 10);
    keep[9] = 3.0f;
    lq_mark mark = lq_arena_mark(&arena);
    char *small = lq_arena_alloc(&arena, 100);
    char *large = lq_arena_alloc(&arena, 1 << 20); /* a block of its own */
    char *last = lq_arena_alloc(&arena, 100);
    size_t peak = arena.peak_bytes;
    assert_true(peak >= (1 << 20) + 200);
    for (int round = 0; round < 3; round++) {
        lq_arena_release(&arena, mark);
        lq_arena_fail_after(0); /* nothing may be allocated: the blocks were kept */
        assert_ptr_equal(lq_arena_alloc(&arena, 100), small);
        assert_ptr_equal(lq_arena_alloc(&arena, 1 << 20), large);
        assert_ptr_equal(lq_arena_alloc(&arena, 100), last);
    }
    lq_arena_fail_after(SIZE_MAX);
    assert_int_equal(arena.peak_bytes, peak);
    assert_true(keep[9] == 3.0f);
    lq_arena_release(&arena, empty);
    assert_ptr_equal(lq_arena_f32(&arena, 10), keep);
    lq_arena_close(&arena);
}

#if defined(LQ_DEBUG) && !defined(__SANITIZE_ADDRESS__)
static void arena_debug_fills_released_memory_with_nan(void **state)
{
    (void)state;
    lq_arena arena = {0};
    (void)lq_arena_alloc(&arena, 1);
    lq_mark mark = lq_arena_mark(&arena);
    volatile float *gone = lq_arena_f32(&arena, 4);
    gone[2] = 1.0f;
    lq_arena_release(&arena, mark);
    assert_true(isnan(gone[2]));
    lq_arena_close(&arena);
}
#endif

static void arena_out_of_memory_is_a_status(void **state)
{
    (void)state;
    lq_arena arena = {0};
    double *p = NULL;
    lq_arena_fail_after(0);
    assert_int_equal(lq_arena_new(&arena, &p, 4), LQ_E_MEMORY);
    assert_null(p);
    assert_int_equal(lq_arena_new(&arena, &p, 4), LQ_OK); /* one failure, then none */
    p[3] = 1.5;
    lq_arena_fail_after(1);
    assert_non_null(lq_arena_alloc(&arena, 1 << 20));
    assert_null(lq_arena_alloc(&arena, 1 << 22));
    assert_non_null(strstr(lq_status_note(), "out of memory"));
    assert_non_null(lq_arena_alloc(&arena, 1 << 22));
    assert_true(p[3] == 1.5);
    lq_arena_fail_after(SIZE_MAX);

    assert_int_equal(lq_arena_new(&arena, &p, SIZE_MAX / 4), LQ_E_MEMORY); /* the product wraps */
    assert_int_equal(lq_arena_new(&arena, &p, SIZE_MAX / 8), LQ_E_MEMORY);
    assert_null(lq_arena_alloc(&arena, SIZE_MAX - 10)); /* rounding up would wrap */
    lq_arena_close(&arena);
}

static void arena_printf_takes_any_length(void **state)
{
    (void)state;
    lq_arena arena = {0};
    assert_string_equal(lq_arena_printf(&arena, "layer.%d.%s", 3, "q_proj"), "layer.3.q_proj");
    assert_int_equal(strlen(lq_arena_printf(&arena, "%90000d", 1)), 90000);
    lq_arena_close(&arena);
}

/* The first is Random123's known answer for philox2x64-10, counter 0, key 0; the others pin seeds and
 * splits, which every stored result depends on. */
static void rng_vectors_are_pinned(void **state)
{
    (void)state;
    lq_rng zero = {0, 0}, root = lq_rng_seed(1);
    assert_true(lq_rng_u64(&zero) == 0xca00a0459843d731u);
    assert_true(root.key == 0xabb3037735c08bcdu && root.counter == 0);
    assert_true(lq_rng_u64(&root) == 0x2568178747c4e33au);
    assert_true(lq_rng_u64(&root) == 0xad43d30c86e05cabu);
    lq_rng child = lq_rng_split(&root, "signs", 7);
    assert_true(child.key == 0x74b6eb8019ffc455u && child.counter == 0);
    assert_true(lq_rng_u64(&child) == 0x2ebd5ef6b43b6102u);
    assert_true(lq_rng_uniform(&child) == 0x1.1f7e36aca6d68p-1);
    assert_true(fabs(lq_rng_normal(&child) - 1.1625499375406183) < 1e-14);
}

static void rng_split_ignores_what_was_drawn(void **state)
{
    (void)state;
    lq_rng parent = lq_rng_seed(5), moved = parent;
    for (int i = 0; i < 100; i++)
        (void)lq_rng_u64(&moved);
    assert_true(lq_rng_split(&parent, "a", 0).key == lq_rng_split(&moved, "a", 0).key);
    assert_true(lq_rng_split(&parent, "a", 0).key != lq_rng_split(&parent, "a", 1).key);
    assert_true(lq_rng_split(&parent, "a", 0).key != lq_rng_split(&parent, "b", 0).key);
    assert_true(lq_rng_split(&parent, "", 0).key != parent.key);
    assert_true(lq_rng_seed(0).key != lq_rng_seed(1).key);
}

/* Chi-square of counts against equal ones; dof + 5 sqrt(2 dof) is passed once in a million runs. */
static bool counts_are_even(const size_t *count, size_t n_bins, size_t n)
{
    double expected = (double)n / (double)n_bins, chi2 = 0.0, dof = (double)n_bins - 1.0;
    for (size_t i = 0; i < n_bins; i++)
        chi2 += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    return chi2 <= dof + 5.0 * sqrt(2.0 * dof);
}

static void rng_uniform_fills_the_interval(void **state)
{
    (void)state;
    enum { BINS = 64, N = 200000 };
    size_t count[BINS] = {0}, small[7] = {0};
    lq_rng rng = lq_rng_seed(11);
    for (size_t i = 0; i < N; i++) {
        double u = lq_rng_uniform(&rng);
        assert_true(u >= 0.0 && u < 1.0);
        count[(size_t)(u * BINS)]++;
        uint64_t k = lq_rng_below(&rng, 7);
        assert_true(k < 7);
        small[k]++;
    }
    assert_true(counts_are_even(count, BINS, N));
    assert_true(counts_are_even(small, 7, N));
    count[0] += 500; /* the checker refuses what is slightly uneven */
    assert_false(counts_are_even(count, BINS, N + 500));

    /* 2^64 draws onto 3 * 2^62 values: without rejection every third value comes up twice as often. */
    size_t third[3] = {0};
    for (size_t i = 0; i < 30000; i++)
        third[lq_rng_below(&rng, (uint64_t)3 << 62) % 3]++;
    assert_true(counts_are_even(third, 3, 30000));
    assert_int_equal(lq_rng_below(&rng, 1), 0);
}

/* Mean, variance, skewness and kurtosis of n values within five standard errors of N(0,1)'s. */
static bool moments_are_normal(const double *x, size_t n)
{
    double m[5] = {0};
    for (size_t i = 0; i < n; i++)
        for (int k = 1; k <= 4; k++)
            m[k] += pow(x[i], k) / (double)n;
    double e = 5.0 / sqrt((double)n);
    return fabs(m[1]) <= e && fabs(m[2] - 1.0) <= e * sqrt(2.0) && fabs(m[3]) <= e * sqrt(15.0) &&
           fabs(m[4] - 3.0) <= e * sqrt(96.0);
}

static void rng_normal_has_the_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    static double x[N], flat[N];
    lq_rng rng = lq_rng_seed(3);
    for (size_t i = 0; i < N; i++) {
        x[i] = lq_rng_normal(&rng);
        flat[i] = sqrt(12.0) * (lq_rng_uniform(&rng) - 0.5); /* right mean and variance */
    }
    assert_true(moments_are_normal(x, N));
    assert_false(moments_are_normal(flat, N));
    x[17] = (double)NAN;
    assert_false(moments_are_normal(x, N));
    rng = (lq_rng){1, 0};
    (void)lq_rng_normal(&rng);
    assert_int_equal(rng.counter, 2); /* two draws each: a stream can be resumed by its counter */
}

static void rng_streams_are_uncorrelated(void **state)
{
    (void)state;
    enum { N = 50000 };
    lq_rng root = lq_rng_seed(1), a = lq_rng_split(&root, "signs", 0),
           b = lq_rng_split(&root, "signs", 1);
    double with_sister = 0.0, with_parent = 0.0, with_itself = 0.0;
    for (size_t i = 0; i < N; i++) {
        double x = (double)lq_rng_sign(&a);
        assert_true(fabs(x) == 1.0);
        with_sister += x * (double)lq_rng_sign(&b);
        with_parent += x * (double)lq_rng_sign(&root);
        with_itself += x * x;
    }
    double bound = 5.0 * sqrt((double)N);
    assert_true(fabs(with_sister) <= bound);
    assert_true(fabs(with_parent) <= bound);
    assert_false(fabs(with_itself) <= bound);
}

static void rng_permutation_is_one_and_fair(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(2);
    uint32_t p[1000];
    bool seen[1000] = {0};
    lq_rng_permutation(&rng, p, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_true(p[i] < 1000 && !seen[p[i]]);
        seen[p[i]] = true;
    }
    size_t count[6] = {0};
    for (size_t i = 0; i < 12000; i++) {
        lq_rng_permutation(&rng, p, 3);
        count[p[0] * 2 + (p[1] > p[2])]++;
    }
    assert_true(counts_are_even(count, 6, 12000));
    lq_rng_permutation(&rng, p, 0);
    lq_rng_permutation(&rng, p, 1);
    assert_int_equal(p[0], 0);
}

static void clock_runs_and_memory_is_seen(void **state)
{
    (void)state;
    double wall = lq_clock_wall_s(), cpu = lq_clock_cpu_s();
    volatile double sum = 0.0;
    for (int i = 0; i < 1000000; i++)
        sum = sum + 1.0;
    assert_true(lq_clock_wall_s() > wall);
    assert_true(lq_clock_cpu_s() > cpu);
    size_t before = lq_clock_peak_bytes(), more = before + (16 << 20);
    assert_true(before > 100000);
    char *large = malloc(more);
    assert_non_null(large);
    memset(large, 1, more);
    assert_true(lq_clock_peak_bytes() >= before + (15 << 20));
    free(large);
    char utc[32];
    lq_clock_utc(utc);
    assert_int_equal(strlen(utc), 20);
    assert_true(utc[4] == '-' && utc[10] == 'T' && utc[19] == 'Z');
}

static void signal_twice(void)
{
    lq_stop_on_signals();
    raise(SIGINT);
    if (!lq_stop_asked())
        abort();
    raise(SIGTERM);
}

static void first_signal_asks_second_kills(void **state)
{
    (void)state;
    assert_false(lq_stop_asked());
    pid_t child = fork();
    if (child == 0) {
        signal_twice();
        _Exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGTERM);
}

static void durations_are_readable(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0.0, "0.0 s"},         {4.21, "4.2 s"},          {59.94, "59.9 s"},
                 {59.96, "1 min 00 s"},  {200.0, "3 min 20 s"},    {3599.7, "1 h 00 min"},
                 {3900.0, "1 h 05 min"}, {90000.0, "25 h 00 min"}, {-1.0, "an unknown time"}};
    char text[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lq_log_duration(cases[i].seconds, text);
        assert_string_equal(text, cases[i].text);
    }
    lq_log_duration((double)NAN, text);
    assert_string_equal(text, "an unknown time");
}

/* What `act` writes to a stderr that is a pipe, and so no terminal. */
static void catch_stderr(void (*act)(void), char *text, size_t room)
{
    int ends[2], keep = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    dup2(ends[1], STDERR_FILENO);
    act();
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(ends[1]);
    close(keep);
    ssize_t n = read(ends[0], text, room - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
}

static void work_for(double seconds)
{
    lq_progress p = lq_progress_resume("training", 20, 120, "step");
    p.started_s -= seconds;
    p.shown_s -= seconds;
    for (size_t step = 20; step <= 120; step += 50)
        lq_progress_update(&p, step, "loss %.1f", 2.5);
    lq_progress_end(&p);
}
static void work_briefly(void) { work_for(1.0); }
static void work_long(void) { work_for(50.0); }
static void work_long_at_70(void)
{
    lq_progress p = lq_progress_resume("training", 20, 120, "step");
    p.started_s -= 50.0;
    p.shown_s -= 50.0;
    lq_progress_update(&p, 70, "%s", "");
}
static void work_quietly(void)
{
    lq_log_quiet(true);
    work_long();
    lq_log_info("not shown");
    lq_log_warn("shown");
    lq_log_quiet(false);
}

static void progress_is_plain_and_rare_without_terminal(void **state)
{
    (void)state;
    char text[512];
    catch_stderr(work_briefly, text, sizeof text);
    assert_string_equal(text, "");
    catch_stderr(work_long, text, sizeof text);
    assert_string_equal(text, "training: step 20 of 120, loss 2.5\ntraining: done in 50.0 s\n");
    catch_stderr(work_long_at_70, text, sizeof text);
    assert_string_equal(text, "training: step 70 of 120, 50.0 s left\n");
    catch_stderr(work_quietly, text, sizeof text);
    assert_string_equal(text, "warning: shown\n");
}

/* What update writes is what read takes; anything else is refused. */
static void progress_is_read_back(void **state)
{
    (void)state;
    char text[512];
    size_t done = 0, total = 0;
    catch_stderr(work_long, text, sizeof text);
    assert_true(lq_progress_read(text, "training", &done, &total));
    assert_true(done == 20 && total == 120);
    catch_stderr(work_long_at_70, text, sizeof text);
    assert_true(lq_progress_read(text, "training", &done, &total));
    assert_true(done == 70 && total == 120);
    assert_false(lq_progress_read(text, "train", &done, &total));
    static const char *const wrong[] = {
        "",
        "training",
        "training: done in 50.0 s",
        "training: step 7 of",
        "training: step -1 of 9",
        "training: step 7 of 0",
        "training: step 8 of 7",
        "training: step\n1 of 7",
        "a training: step 1 of 7",
        "training: step 99999999999999999999999 of 7",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (lq_progress_read(wrong[i], "training", &done, &total))
            fail_msg("'%s' was read", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assert_kept_in_every_build),
        cmocka_unit_test(status_list_gives_names_and_exits),
        cmocka_unit_test(note_is_one_short_line),
        cmocka_unit_test(arena_memory_is_aligned_and_zeroed),
        cmocka_unit_test(arena_release_gives_the_same_memory_again),
#if defined(LQ_DEBUG) && !defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(arena_debug_fills_released_memory_with_nan),
#endif
        cmocka_unit_test(arena_out_of_memory_is_a_status),
        cmocka_unit_test(arena_printf_takes_any_length),
        cmocka_unit_test(rng_vectors_are_pinned),
        cmocka_unit_test(rng_split_ignores_what_was_drawn),
        cmocka_unit_test(rng_uniform_fills_the_interval),
        cmocka_unit_test(rng_normal_has_the_moments),
        cmocka_unit_test(rng_streams_are_uncorrelated),
        cmocka_unit_test(rng_permutation_is_one_and_fair),
        cmocka_unit_test(clock_runs_and_memory_is_seen),
        cmocka_unit_test(first_signal_asks_second_kills),
        cmocka_unit_test(durations_are_readable),
        cmocka_unit_test(progress_is_plain_and_rare_without_terminal),
        cmocka_unit_test(progress_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
