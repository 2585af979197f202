/* Decoding against the forward pass: the same logits at every position, the same bits in company and
 * alone, on one thread and on two. And the text that llama2.c prints for its smallest model. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/eval/generate.h"
#include "core/model/decode.h"
#include "core/model/llama.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { T = 70, V = 37 }; /* longer than what a prefill reads at once */

static lq_config shape(lq_arch arch)
{
    lq_config c = {.arch = arch, .D = 24, .F = 20, .L = 3, .H = 6, .Hkv = 2, .dh = 8, .V = V};
    c.max_positions = 4 * T;
    c.eps = 1e-5;
    c.rope_theta = 100;
    c.tied = arch == LQ_ARCH_LLAMA;
    c.qk_norm = arch == LQ_ARCH_QWEN3;
    c.qkv_bias = arch == LQ_ARCH_QWEN2;
    return c;
}

typedef struct net {
    lq_arena arena;
    lq_weights w;
    uint32_t token[T];
    float *want; /* (T,V) of the forward */
} net;

static void net_of(net *m, lq_config c)
{
    lq_rng rng = lq_rng_seed(11 + (uint64_t)c.arch);
    lq_lane *lane;
    *m = (net){.w = {.n = 0}};
    check_ok(lq_weights_new(&c, &m->arena, &m->w));
    lq_fill_normal(m->w.flat, m->w.n, &rng);
    for (size_t i = 0; i < m->w.n_tensors; i++) {
        const lq_weight *t = &m->w.tensor[i];
        for (size_t j = 0; j < t->rows * t->cols; j++)
            t->data[j] = t->kind == LQ_WEIGHT_NORM ? 1 + 0.2f * t->data[j] : 0.15f * t->data[j];
    }
    for (size_t i = 0; i < T; i++)
        m->token[i] = (uint32_t)lq_rng_below(&rng, V);
    check_ok(lq_lane_new(&c, 1, T, LQ_KEEP_NOTHING, &m->arena, &lane));
    check_ok(lq_arena_new(&m->arena, &m->want, T * V));
    lq_forward(&m->w, lane, m->token, 1);
    lq_logits(&m->w, lane, 0, T, m->want);
}

static void net_new(net *m, lq_arch arch) { net_of(m, shape(arch)); }

/* The worst deviation over all positions, when `prefill` tokens are read first. */
static double deviation(const net *m, lq_decoder *d, size_t prefill, size_t skipped)
{
    const uint32_t sequence = 1;
    float logits[V];
    double worst = 0;
    lq_decoder_reset(d, sequence);
    lq_decoder_prefill(&m->w, d, sequence, m->token + skipped, prefill - skipped, logits);
    for (size_t t = prefill - 1;; t++) {
        const double off = lq_worst(logits, m->want + t * V, V);
        worst = off <= worst ? worst : off;
        if (t + 1 == T)
            return worst;
        lq_decoder_step(&m->w, d, 1, &sequence, &m->token[t + 1], logits);
    }
}

static void every_position_has_the_logits_of_the_forward(void **state)
{
    (void)state;
    static const lq_arch arch[] = {LQ_ARCH_LLAMA, LQ_ARCH_QWEN2, LQ_ARCH_QWEN3, LQ_ARCH_LLAMA};
    static const size_t prefill[] = {1, 2, 15, 16, 33, 64, 65, 69, 70};
    for (size_t a = 0; a < 4; a++) {
        net m;
        lq_decoder *d;
        lq_config c = shape(arch[a]);
        if (a == 3) { /* all that config.json can ask for */
            c.qkv_bias = c.o_bias = c.mlp_bias = true;
            c.rope = (lq_rope_scaling){.kind = LQ_ROPE_YARN, .factor = 4, .low = 1, .high = 32};
            c.rope.original = 30;
            c.rope.gain = 1.2;
        }
        net_of(&m, c);
        check_ok(lq_decoder_new(&m.w.config, 2, T, &m.arena, &d));
        for (size_t i = 0; i < sizeof prefill / sizeof prefill[0]; i++) {
            const double off = deviation(&m, d, prefill[i], 0);
            if (!(off < 1e-5))
                fail_msg("%s, prefill %zu: off by %g", lq_arch_name(arch[a]), prefill[i], off);
        }
        assert_true(deviation(&m, d, 33, 1) > 1e-3); /* one token less is seen */
        lq_arena_close(&m.arena);
    }
}

/* Logits of every token at once, and of what is read anew after a step back. */
static void reading_gives_the_logits_of_each_token(void **state)
{
    (void)state;
    static const size_t part[] = {1, 15, 16, 64}, back[] = {0, 3, 40};
    net m;
    lq_decoder *d;
    float *logits;
    net_new(&m, LQ_ARCH_QWEN3);
    check_ok(lq_decoder_new(&m.w.config, 1, T, &m.arena, &d));
    check_ok(lq_arena_new(&m.arena, &logits, (size_t)LQ_DECODER_READ * V));
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t j = 0; j < sizeof back / sizeof *back; j++) {
            lq_decoder_reset(d, 0);
            lq_decoder_prefill(&m.w, d, 0, m.token, 65, NULL);
            lq_decoder_rewind(d, 0, back[j]);
            for (size_t at = back[j], n; at < T; at += n) {
                n = T - at < part[i] ? T - at : part[i];
                lq_decoder_read(&m.w, d, 0, m.token + at, n, logits);
                if (!(lq_worst(logits, m.want + at * V, n * V) < 1e-5))
                    fail_msg("parts of %zu after %zu: off at %zu", part[i], back[j], at);
            }
        }
    lq_decoder_rewind(d, 0, 3);
    lq_decoder_read(&m.w, d, 0, m.token + 4, 1, logits); /* another token than the fourth */
    assert_true(lq_worst(logits, m.want + 4 * V, V) > 1e-3);
    lq_arena_close(&m.arena);
}

/* Three sequences, each with another prompt, the second joining late. */
static void company(const net *m, float *logits)
{
    static const uint32_t pair[] = {2, 0}, all[] = {0, 1, 2};
    lq_arena arena = {0};
    lq_decoder *d;
    check_ok(lq_decoder_new(&m->w.config, 3, T, &arena, &d));
    lq_decoder_prefill(&m->w, d, 0, m->token, 20, NULL);
    lq_decoder_prefill(&m->w, d, 2, m->token + 3, 5, NULL);
    const uint32_t two[] = {m->token[8], m->token[20]};
    lq_decoder_step(&m->w, d, 2, pair, two, logits);
    lq_decoder_prefill(&m->w, d, 1, m->token + 30, 1, NULL);
    const uint32_t three[] = {m->token[21], m->token[31], m->token[9]};
    lq_decoder_step(&m->w, d, 3, all, three, logits);
    lq_arena_close(&arena);
}

static void company_and_threads_do_not_show(void **state)
{
    (void)state;
    net m;
    net_new(&m, LQ_ARCH_QWEN3);
    float one[3 * V], two[3 * V], alone[V];
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    company(&m, one);
    omp_set_num_threads(2);
    company(&m, two);
    assert_memory_equal(one, two, sizeof one);
    lq_decoder *d;
    const uint32_t zero = 0;
    check_ok(lq_decoder_new(&m.w.config, 1, 22, &m.arena, &d));
    lq_decoder_prefill(&m.w, d, 0, m.token, 20, NULL);
    lq_decoder_step(&m.w, d, 1, &zero, &m.token[20], alone);
    lq_decoder_step(&m.w, d, 1, &zero, &m.token[21], alone);
    assert_memory_equal(alone, one, sizeof alone);
    omp_set_num_threads(threads);
    lq_arena_close(&m.arena);
}

static void planned_memory_is_what_is_used(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_decoder *d;
    const lq_config c = shape(LQ_ARCH_QWEN3);
    check_ok(lq_decoder_new(&c, 5, 600, &arena, &d));
    const double planned = (double)lq_decoder_bytes(&c, 5, 600), used = (double)arena.peak_bytes;
    assert_true(used >= planned && used <= 1.05 * planned + 4096);
    lq_arena_close(&arena);
}

/* ---- Sampling ---------------------------------------------------------------------------------- */

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { N = 20000 };
    const float logits[] = {0.0f, 1.0f, -1.0f, 2.0f}; /* of 11.4716: 0.087, 0.237, 0.032, 0.644 */
    const lq_sampling all = {.temperature = 1, .top_p = 1}, top = {.temperature = 1, .top_p = 0.8};
    lq_arena arena = {0};
    lq_rng rng = lq_rng_seed(5);
    size_t n[4] = {0}, m[4] = {0};
    for (size_t i = 0; i < N; i++) {
        uint32_t id;
        check_ok(lq_sample(logits, 4, &all, &rng, &arena, &id));
        n[id]++;
        check_ok(lq_sample(logits, 4, &top, &rng, &arena, &id));
        m[id]++;
    }
    double sum = 0;
    for (size_t i = 0; i < 4; i++)
        sum += exp((double)logits[i]);
    for (size_t i = 0; i < 4; i++)
        check_close((double)n[i] / N, exp((double)logits[i]) / sum, 0, 0.015);
    assert_int_equal(m[0] + m[2], 0); /* 0.644 + 0.237 hold 0.8 already */
    check_close((double)m[3] / N, 1 / (1 + exp(-1.0)), 0, 0.015);
    lq_arena_close(&arena);
}

static void sampling_has_its_edges(void **state)
{
    (void)state;
    const float ties[] = {1, 3, 3, 2}, nan[] = {1, NAN, 2}, infinite[] = {INFINITY, 1};
    const lq_sampling greedy = {0}, cold = {.temperature = 1e-6, .top_p = 1};
    const lq_sampling narrow = {.temperature = 5, .top_p = 1e-9};
    lq_arena arena = {0};
    lq_rng rng = lq_rng_seed(6);
    uint32_t id;
    check_ok(lq_sample(ties, 4, &greedy, &rng, &arena, &id));
    assert_int_equal(id, 1); /* the first of equals */
    check_ok(lq_sample(ties, 4, &narrow, &rng, &arena, &id));
    assert_int_equal(id, 1);
    for (size_t i = 0; i < 20; i++) {
        check_ok(lq_sample(ties, 4, &cold, &rng, &arena, &id));
        assert_true(id == 1 || id == 2);
    }
    assert_int_equal(lq_sample(nan, 3, &greedy, &rng, &arena, &id), LQ_E_NUMERIC);
    assert_int_equal(lq_sample(infinite, 2, &cold, &rng, &arena, &id), LQ_E_NUMERIC);
    lq_arena_close(&arena);
}

static void a_buffer_is_the_same_in_any_company(void **state)
{
    (void)state;
    enum { N = 5, LONG = 30 };
    net m;
    net_new(&m, LQ_ARCH_LLAMA);
    uint32_t a[N * LONG], b[N * LONG];
    const uint32_t start[] = {3, 4}, stop[] = {7};
    lq_generate_tokens_how how = {.sampling = {.temperature = 1, .top_p = 0.9},
                                  .T = LONG,
                                  .at_once = 1,
                                  .start = start,
                                  .n_start = 2,
                                  .stop = stop,
                                  .n_stop = 1};
    const lq_rng rng = lq_rng_seed(8);
    check_ok(lq_generate_tokens(&m.w, &how, &rng, N, a));
    how.at_once = 3;
    check_ok(lq_generate_tokens(&m.w, &how, &rng, N, b));
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, a + LONG, LONG * sizeof *a);
    size_t restarts = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t t = 0; t < LONG; t++)
            if (a[i * LONG + t] == 7 && t + 2 < LONG) { /* after an end comes a new start */
                assert_int_equal(a[i * LONG + t + 1], 3);
                assert_int_equal(a[i * LONG + t + 2], 4);
                restarts++;
            }
    assert_true(restarts > 0);
    how.n_start = 0; /* a random first token, and no end */
    how.n_stop = 0;
    how.n_greedy = 4;
    check_ok(lq_generate_tokens(&m.w, &how, &rng, N, a));
    for (size_t i = 0; i < N; i++) { /* the next four are those of the forward */
        lq_decoder *d;
        float logits[V];
        uint32_t id;
        lq_rng unused = rng;
        check_ok(lq_decoder_new(&m.w.config, 1, LONG, &m.arena, &d));
        lq_decoder_prefill(&m.w, d, 0, a + i * LONG, 4, logits);
        check_ok(lq_sample(logits, V, &(lq_sampling){0}, &unused, &m.arena, &id));
        assert_int_equal(id, a[i * LONG + 4]);
    }
    how.T = m.w.config.max_positions + 1;
    assert_int_equal(lq_generate_tokens(&m.w, &how, &rng, N, a), LQ_E_OPTION);
    lq_arena_close(&m.arena);
}

/* ---- llama2.c's stories260K ------------------------------------------------------------------- */

typedef struct stories {
    lq_arena arena;
    lq_weights w;
    char *pieces; /* tok512.bin */
    size_t pieces_bytes;
    const char *want; /* the greedy text, up to end */
    size_t want_bytes;
    char *got;
    size_t n_got;
} stories;

/* llama2.c rotates neighbouring pairs; rows 2i, 2i+1 of a head become i, i + dh/2. */
static const float *take_rotated(float *out, const float *in, size_t heads, size_t dh, size_t D)
{
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < dh; i++)
            memcpy(out + (h * dh + i % 2 * (dh / 2) + i / 2) * D, in + (h * dh + i) * D,
                   D * sizeof *out);
    return in + heads * dh * D;
}

/* The floats of the file: all layers of a tensor together, in the order of llama2.c's run.c. */
static void take_weights(lq_weights *w, const float *at)
{
    static const lq_layer_tensor order[] = {LQ_INPUT_NORM, LQ_Q,    LQ_K,    LQ_V, LQ_O,
                                            LQ_POST_NORM,  LQ_GATE, LQ_DOWN, LQ_UP};
    const lq_config *c = &w->config;
    memcpy(w->embed, at, c->V * c->D * sizeof *at);
    at += c->V * c->D;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        for (size_t j = 0; j < w->n_tensors; j++) {
            const lq_weight *t = &w->tensor[j];
            if (t->layer == SIZE_MAX || t->id != order[i])
                continue;
            if (t->id == LQ_Q || t->id == LQ_K) {
                at = take_rotated(t->data, at, t->rows / c->dh, c->dh, c->D);
                continue;
            }
            memcpy(t->data, at, t->rows * t->cols * sizeof *at);
            at += t->rows * t->cols;
        }
    memcpy(w->final_norm, at, c->D * sizeof *at);
}

static bool stories_open(stories *s)
{
    const char *shared = getenv("LQ_SHARED");
    *s = (stories){.n_got = 0};
    const char *dir = lq_arena_printf(&s->arena, "%s/data/tiny_models/stories260K",
                                      shared != NULL ? shared : "../shared");
    char *file, *text;
    size_t bytes;
    if (!lq_path_is_dir(dir))
        return false;
    check_ok(lq_file_read(lq_arena_printf(&s->arena, "%s/stories260K.bin", dir), &s->arena, &file,
                          &bytes));
    int32_t head[7]; /* dim, hidden, layers, heads, kv heads, vocabulary, positions */
    assert_true(bytes > sizeof head);
    memcpy(head, file, sizeof head);
    lq_config c = {.arch = LQ_ARCH_LLAMA, .tied = true, .eps = 1e-5, .rope_theta = 10000};
    c.D = (size_t)head[0];
    c.F = (size_t)head[1];
    c.L = (size_t)head[2];
    c.H = (size_t)head[3];
    c.Hkv = (size_t)head[4];
    c.dh = c.D / c.H;
    c.V = (size_t)head[5];
    c.max_positions = (size_t)head[6];
    check_ok(lq_weights_new(&c, &s->arena, &s->w));
    assert_true(bytes >= sizeof head + s->w.n * sizeof(float));
    float *aligned;
    check_ok(lq_arena_new(&s->arena, &aligned, s->w.n));
    memcpy(aligned, file + sizeof head, s->w.n * sizeof(float));
    take_weights(&s->w, aligned);
    check_ok(lq_file_read(lq_arena_printf(&s->arena, "%s/tok512.bin", dir), &s->arena, &s->pieces,
                          &s->pieces_bytes));
    check_ok(lq_file_read(lq_arena_printf(&s->arena, "%s/stories260K.md", dir), &s->arena, &text,
                          &bytes));
    s->want = strstr(text, "-t 0.0\n");
    assert_non_null(s->want);
    s->want += strlen("-t 0.0\n");
    const char *end = strstr(s->want, "\n```");
    assert_non_null(end);
    s->want_bytes = (size_t)(end - s->want);
    check_ok(lq_arena_new(&s->arena, &s->got, s->want_bytes + 4096));
    return true;
}

/* tok512.bin: a 32-bit count, then score, length and bytes of each piece. */
static const char *piece(const stories *s, uint32_t id, size_t *n)
{
    size_t at = 4;
    int32_t length = 0;
    for (uint32_t i = 0; i <= id; i++, at += (size_t)length) {
        assert_true(at + 8 <= s->pieces_bytes);
        memcpy(&length, s->pieces + at + 4, sizeof length);
        at += 8;
        assert_true(length >= 0 && (size_t)length <= s->pieces_bytes - at);
    }
    *n = (size_t)length;
    return s->pieces + at - *n;
}

static lq_status append(void *context, uint32_t token)
{
    stories *s = context;
    size_t n;
    const char *text = piece(s, token, &n);
    char byte[2] = "";
    if (n == 6 && memcmp(text, "<0x", 3) == 0) {
        byte[0] = (char)strtol(lq_arena_printf(&s->arena, "%.2s", text + 3), NULL, 16);
        text = byte;
        n = 1;
    } else if (s->n_got == 0 && n > 0 && text[0] == ' ') {
        text++; /* run.c strips the blank after BOS */
        n--;
    }
    if (s->n_got + n > s->want_bytes + 4000)
        return LQ_OK;
    memcpy(s->got + s->n_got, text, n);
    s->n_got += n;
    return LQ_OK;
}

static void stories260k_tells_its_known_story(void **state)
{
    (void)state;
    stories s;
    if (!stories_open(&s))
        skip();
    const uint32_t bos = 1;
    const lq_generate_how how = {.n = 256, .stop = &bos, .n_stop = 1};
    lq_rng rng = lq_rng_seed(1);
    lq_generated result;
    check_ok(lq_generate(&s.w, &bos, 1, &how, &rng, append, &s, &result));
    while (s.n_got > 0 && s.got[s.n_got - 1] == '\n')
        s.n_got--;
    if (s.n_got != s.want_bytes || memcmp(s.got, s.want, s.n_got) != 0)
        fail_msg("got %zu bytes of %zu: %.*s", s.n_got, s.want_bytes, (int)s.n_got, s.got);
    lq_arena_close(&s.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_position_has_the_logits_of_the_forward),
        cmocka_unit_test(reading_gives_the_logits_of_each_token),
        cmocka_unit_test(company_and_threads_do_not_show),
        cmocka_unit_test(planned_memory_is_what_is_used),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(sampling_has_its_edges),
        cmocka_unit_test(a_buffer_is_the_same_in_any_company),
        cmocka_unit_test(stories260k_tells_its_known_story),
    };
    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
