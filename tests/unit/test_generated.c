/* Text that the model writes: the documented scheme, the same bits from the cache, a prefix when fewer are
 * wanted, and files that do not fit refused. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/data/batch.h"
#include "experiments/generated.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T = 12, N = 7 };
static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/lcqat_generated_XXXXXX");
    return mkdtemp(root) != NULL && setenv("LCQAT_CACHE", root, 1) == 0 ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

static lq_recipe recipe_of(int data_from)
{
    lq_recipe r = {0};
    r.train.context = T;
    r.train.data_from = data_from;
    r.train.sample_temperature = r.train.sample_top_p = 1;
    r.train.prompt = 5;
    return r;
}

static void get(const lq_model *m, int from, const lq_data *text, uint64_t seed, size_t n,
                lq_arena *arena, lq_written *out)
{
    const lq_recipe r = recipe_of(from);
    const lq_rng rng = lq_rng_seed(seed);
    check_ok(lq_written_get(m, &r, text, &rng, n, arena, out));
    assert_int_equal(out->n_sequences, n);
    for (size_t i = 0; i < n * (T + 1); i++)
        assert_true(out->token[i] < m->q.w.config.V);
}

static char **cached(lq_arena *arena, size_t *n)
{
    char **names;
    check_ok(lq_path_list(lq_arena_printf(arena, "%s/generated", root), arena, &names, n));
    return names;
}

static void the_first_tokens_are_the_likeliest(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_model m;
    lq_written w;
    lq_lane *lane;
    check_ok(lq_model_open("tiny-llama", &arena, &m));
    const size_t V = m.q.w.config.V;
    float *logits = lq_arena_f32(&arena, V);
    get(&m, LQ_DATA_TEACHER, NULL, 1, N, &arena, &w);
    check_ok(lq_lane_new(&m.q.w.config, 1, T, LQ_KEEP_NOTHING, &arena, &lane));
    for (size_t i = 0; i < N; i++) {
        const uint32_t *token = w.token + i * (T + 1);
        lq_forward(&m.q.w, lane, token, 1);
        for (size_t t = 0; t < 2 + i % 3; t++) { /* token t + 1 follows tokens 0..t */
            lq_logits(&m.q.w, lane, t, 1, logits);
            for (size_t j = 0; j < V; j++) /* but for rounding, and but for an end of text */
                assert_true(token[t] == 0 || token[t + 1] == 0 ||
                            logits[token[t + 1]] >= logits[j] - 1e-3f);
        }
    }
    lq_model_close(&m);
    lq_arena_close(&arena);
}

static void the_cache_gives_the_same_and_fewer_are_a_prefix(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_model m;
    lq_written first, again, fewer, other;
    size_t n, more;
    check_ok(lq_model_open("tiny-llama", &arena, &m));
    get(&m, LQ_DATA_TEACHER, NULL, 2, N, &arena, &first);
    char **names = cached(&arena, &n);
    get(&m, LQ_DATA_TEACHER, NULL, 2, N, &arena, &again);
    cached(&arena, &more);
    assert_int_equal(n, more);
    assert_memory_equal(first.token, again.token, N * (T + 1) * sizeof(uint32_t));
    get(&m, LQ_DATA_TEACHER, NULL, 2, N - 3, &arena, &fewer);
    assert_memory_equal(first.token, fewer.token, (N - 3) * (T + 1) * sizeof(uint32_t));
    assert_string_not_equal(first.digest.hex, fewer.digest.hex);
    get(&m, LQ_DATA_TEACHER, NULL, 3, N, &arena, &other);
    assert_memory_not_equal(first.token, other.token, N * (T + 1) * sizeof(uint32_t));
    /* every file damaged: the last token of all lies outside the vocabulary */
    for (size_t i = 0; i < n; i++) {
        char *bytes;
        size_t size;
        const char *path = lq_arena_printf(&arena, "%s/generated/%s", root, names[i]);
        check_ok(lq_file_read(path, &arena, &bytes, &size));
        memset(bytes + size - 4, 0xff, 4);
        check_ok(lq_file_write_all(path, bytes, size));
    }
    const lq_recipe r = recipe_of(LQ_DATA_TEACHER);
    const lq_rng rng = lq_rng_seed(2);
    assert_int_equal(lq_written_get(&m, &r, NULL, &rng, N, &arena, &again), LQ_E_FORMAT);
    lq_model_close(&m);
    lq_arena_close(&arena);
}

static void continuations_begin_with_text(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_model m;
    lq_written w, colder;
    uint32_t token[200];
    check_ok(lq_model_open("tiny-llama", &arena, &m));
    for (uint32_t i = 0; i < 200; i++)
        token[i] = 1 + i;
    const lq_data text = {.token = token, .n = 200, .name = "numbers"};
    get(&m, LQ_DATA_CONTINUATION, &text, 4, N, &arena, &w);
    bool seen[200] = {false};
    for (size_t i = 0; i < N; i++) { /* windows of the text, each once */
        const uint32_t *at = w.token + i * (T + 1);
        assert_int_equal((at[0] - 1) % T, 0);
        assert_false(seen[at[0]]);
        seen[at[0]] = true;
        for (size_t t = 1; t < 5; t++)
            assert_int_equal(at[t], at[0] + t);
        assert_memory_not_equal(at + 5, token + at[0] + 4, (T - 4) * sizeof *at);
    }
    lq_recipe r = recipe_of(LQ_DATA_CONTINUATION);
    const lq_rng rng = lq_rng_seed(4);
    r.train.sample_temperature = 0.2;
    check_ok(lq_written_get(&m, &r, &text, &rng, N, &arena, &colder));
    assert_string_not_equal(w.digest.hex, colder.digest.hex);
    lq_model_close(&m);
    lq_arena_close(&arena);
}

static void windows_of_sequences_share_nothing(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_batches b;
    uint32_t token[3 * 5], x[4], y[4];
    bool seen[3] = {false};
    const lq_rng rng = lq_rng_seed(1);
    for (uint32_t i = 0; i < 15; i++)
        token[i] = i;
    check_ok(lq_batches_of_sequences(token, 3, 4, &rng, &arena, &b));
    assert_int_equal(b.n_windows, 3);
    for (size_t i = 0; i < 3; i++) {
        lq_batches_get(&b, i, x, y);
        assert_int_equal(x[0] % 5, 0);
        assert_int_equal(y[3], x[0] + 4);
        assert_false(seen[x[0] / 5]);
        seen[x[0] / 5] = true;
    }
    assert_int_equal(lq_batches_of_sequences(token, 0, 4, &rng, &arena, &b), LQ_E_SHAPE);
    lq_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_tokens_are_the_likeliest),
        cmocka_unit_test(the_cache_gives_the_same_and_fewer_are_a_prefix),
        cmocka_unit_test(continuations_begin_with_text),
        cmocka_unit_test(windows_of_sequences_share_nothing),
    };
    return cmocka_run_group_tests_name("generated", tests, make_root, remove_root);
}
