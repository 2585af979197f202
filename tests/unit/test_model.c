/* The transformer: gradients by central differences along random directions, on two layers of odd
 * sizes, with reference kernels and reference products (sums in double); identities; vectors of an
 * independent implementation run in the golden suite. */
#include "tests/check.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/trainer.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { B = 2, T = 7 };

static lq_config shape(lq_arch arch, bool tied)
{
    lq_config c = {.arch = arch, .D = 10, .F = 14, .L = 2, .H = 4, .Hkv = 2, .dh = 6, .V = 13};
    c.eps = 1e-5;
    c.rope_theta = 100;
    c.tied = tied;
    c.qk_norm = arch == LQ_ARCH_QWEN3;
    c.qkv_bias = arch == LQ_ARCH_QWEN2;
    return c;
}

static lq_config biased(lq_config c)
{
    c.qkv_bias = c.o_bias = c.mlp_bias = true;
    return c;
}

static void random_weights(lq_weights *w, lq_rng *rng)
{
    lq_fill_normal(w->flat, w->n, rng);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        for (size_t j = 0; j < t->rows * t->cols; j++)
            t->data[j] = t->kind == LQ_WEIGHT_NORM ? 1 + 0.2f * t->data[j] : 0.3f * t->data[j];
    }
}

static void random_tokens(uint32_t *tokens, uint32_t *targets, size_t V, lq_rng *rng)
{
    for (size_t i = 0; i < B * T; i++) {
        tokens[i] = (uint32_t)lq_rng_below(rng, V);
        targets[i] = (uint32_t)lq_rng_below(rng, V);
    }
    targets[3] = UINT32_MAX; /* one that does not count */
}

typedef struct net {
    lq_arena arena;
    lq_weights w, grad;
    lq_lane *lane;
    uint32_t tokens[B * T], targets[B * T];
} net;

static void net_new(net *m, lq_config c, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    lq_rng rng = lq_rng_seed(seed);
    check_ok(lq_weights_new(&c, &m->arena, &m->w));
    check_ok(lq_weights_new(&c, &m->arena, &m->grad));
    check_ok(lq_lane_new(&c, B, T, LQ_KEEP_ALL, &m->arena, &m->lane));
    random_weights(&m->w, &rng);
    random_tokens(m->tokens, m->targets, c.V, &rng);
}

static double loss_of(net *m)
{
    lq_forward(&m->w, m->lane, m->tokens, B);
    return lq_loss(&m->w, m->lane, m->targets, 0, NULL, NULL) / (B * T - 1);
}

/* dL along a random direction in one tensor, by central differences. */
static double slope(net *m, const lq_weight *t, const float *direction, float *saved)
{
    const float h = 2e-3f;
    const size_t n = t->rows * t->cols;
    double side[2];
    memcpy(saved, t->data, n * sizeof *saved);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < n; i++)
            t->data[i] = saved[i] + (s == 0 ? h : -h) * direction[i];
        side[s] = loss_of(m);
    }
    memcpy(t->data, saved, n * sizeof *saved);
    return (side[0] - side[1]) / (2 * (double)h);
}

static void check_gradients(lq_config c, uint64_t seed)
{
    net m;
    float direction[512], saved[512];
    net_new(&m, c, seed);
    lq_gradient(&m.w, m.lane, m.tokens, m.targets, B, &m.grad);
    lq_rng rng = lq_rng_seed(seed + 1);
    for (size_t i = 0; i < m.w.n_tensors; i++) {
        const lq_weight *t = &m.w.tensor[i];
        const size_t n = t->rows * t->cols;
        double dot = 0, norm = 0;
        assert_true(n <= 512);
        lq_fill_normal(direction, n, &rng);
        for (size_t j = 0; j < n; j++) {
            const double g = (double)m.grad.tensor[i].data[j];
            dot += g * (double)direction[j];
            norm += g * g;
        }
        const double want = slope(&m, t, direction, saved);
        if (!lq_close(dot, want, 2e-3, 2e-3 * sqrt(norm) + 1e-5))
            fail_msg("%s: gradient %.6g, differences %.6g", t->name, dot, want);
        assert_true(norm > 0);
    }
    lq_arena_close(&m.arena);
}

static void gradients_equal_central_differences(void **state)
{
    (void)state;
    lq_kernels_use_reference(1);
    lq_gemm_use_reference(1);
    check_gradients(shape(LQ_ARCH_LLAMA, true), 1);
    check_gradients(shape(LQ_ARCH_LLAMA, false), 2);
    check_gradients(shape(LQ_ARCH_QWEN2, true), 3);
    check_gradients(shape(LQ_ARCH_QWEN3, true), 4);
    check_gradients(biased(shape(LQ_ARCH_LLAMA, true)), 5);
    lq_kernels_use_reference(0);
    lq_gemm_use_reference(0);
}

static void fast_and_reference_gradients_agree(void **state)
{
    (void)state;
    net fast, plain;
    net_new(&fast, shape(LQ_ARCH_QWEN3, true), 5);
    net_new(&plain, shape(LQ_ARCH_QWEN3, true), 5);
    const double a = lq_gradient(&fast.w, fast.lane, fast.tokens, fast.targets, B, &fast.grad);
    lq_kernels_use_reference(1);
    lq_gemm_use_reference(1);
    const double b = lq_gradient(&plain.w, plain.lane, plain.tokens, plain.targets, B, &plain.grad);
    lq_kernels_use_reference(0);
    lq_gemm_use_reference(0);
    check_close(a, b, 1e-6, 0);
    assert_true(lq_worst(fast.grad.flat, plain.grad.flat, fast.grad.n) < 1e-5);
    lq_arena_close(&fast.arena);
    lq_arena_close(&plain.arena);
}

static void later_tokens_do_not_change_earlier_logits(void **state)
{
    (void)state;
    net m;
    float before[T * 13], after[T * 13];
    net_new(&m, shape(LQ_ARCH_LLAMA, true), 6);
    lq_forward(&m.w, m.lane, m.tokens, B);
    lq_logits(&m.w, m.lane, 0, T, before);
    m.tokens[4] = (m.tokens[4] + 1) % 13;
    lq_forward(&m.w, m.lane, m.tokens, B);
    lq_logits(&m.w, m.lane, 0, T, after);
    assert_memory_equal(before, after, 4 * 13 * sizeof(float));
    assert_true(lq_worst(before, after, T * 13) > 1e-4);
    lq_arena_close(&m.arena);
}

static void blocks_in_a_row_equal_the_forward(void **state)
{
    (void)state;
    net m;
    lq_lane *lane;
    const lq_config c = shape(LQ_ARCH_QWEN3, true);
    float x[B * T * 10];
    net_new(&m, c, 8);
    lq_forward(&m.w, m.lane, m.tokens, B);
    check_ok(lq_lane_new(&c, B, T, LQ_KEEP_NOTHING, &m.arena,
                         &lane)); /* layers share activations here */
    lq_embed(&m.w, m.tokens, B * T, x);
    for (size_t l = 0; l < c.L; l++)
        lq_block_forward(&m.w, lane, l, x, B, x);
    assert_memory_equal(x, m.lane->x_final, sizeof x);
    lq_arena_close(&m.arena);
}

static lq_train_config tiny_config(size_t steps)
{
    lq_train_config c = {.batch = 5,
                         .T = T,
                         .micro = 2,
                         .lanes = 2,
                         .steps = steps,
                         .lr = 1e-2,
                         .weight_decay = 0.1,
                         .train_rest = true,
                         .checkpoint_s = 1e9};
    c.schedule = (lq_schedule){LQ_SCHEDULE_WSD, 2, 3};
    c.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1};
    c.fingerprint = "test";
    return c;
}

static void train_tiny(lq_qmodel *q, lq_arena *arena, const lq_train_config *c, lq_on_step on_step,
                       lq_status expect, lq_train_result *result)
{
    const lq_config config = shape(LQ_ARCH_LLAMA, true);
    lq_rng rng = lq_rng_seed(9);
    lq_batches data;
    uint32_t *token;
    memset(q, 0, sizeof *q);
    check_ok(lq_weights_new(&config, arena, &q->w));
    random_weights(&q->w, &rng);
    check_ok(lq_arena_new(arena, &token, 301));
    for (size_t i = 0; i < 301; i++)
        token[i] = (uint32_t)(i * i % 13);
    check_ok(lq_batches_new(token, 301, T, &rng, arena, &data));
    assert_int_equal(lq_train(q, &data, c, arena, on_step, NULL, result), expect);
}

static void training_is_the_same_on_one_thread_and_two(void **state)
{
    (void)state;
    lq_qmodel q[2];
    lq_arena arena[2] = {{0}, {0}};
    lq_train_result r;
    const int threads = omp_get_max_threads();
    const lq_train_config c = tiny_config(9);
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        train_tiny(&q[i], &arena[i], &c, NULL, LQ_OK, &r);
        assert_true(r.loss[8] < r.loss[0]);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(q[0].w.flat, q[1].w.flat, q[0].w.n * sizeof(float));
    lq_arena_close(&arena[0]);
    lq_arena_close(&arena[1]);
}

static lq_status stop_at_six(void *context, size_t step, double loss, double factor)
{
    (void)context, (void)loss, (void)factor;
    return step == 6 ? lq_fail(LQ_E_STOPPED, "enough") : LQ_OK;
}

static void a_resumed_training_ends_in_the_same_bits(void **state)
{
    (void)state;
    lq_qmodel whole, resumed;
    lq_arena a = {0}, b = {0};
    lq_train_result r, r2;
    lq_train_config c = tiny_config(9);
    char path[] = "/tmp/lcqat-test-checkpoint-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    remove(path);
    train_tiny(&whole, &a, &c, NULL, LQ_OK, &r);
    c.checkpoint = path;
    c.checkpoint_s = -1; /* after every step */
    train_tiny(&resumed, &b, &c, stop_at_six, LQ_E_STOPPED, &r2);
    train_tiny(&resumed, &b, &c, NULL, LQ_OK, &r2);
    assert_memory_equal(whole.w.flat, resumed.w.flat, whole.w.n * sizeof(float));
    assert_memory_equal(r.loss, r2.loss, 9 * sizeof(double));
    c.fingerprint = "another run";
    train_tiny(&resumed, &b, &c, NULL, LQ_E_FORMAT, &r2);
    remove(path);
    lq_arena_close(&a);
    lq_arena_close(&b);
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void recomputed_activations_give_the_same_gradient(void **state)
{
    (void)state;
    for (lq_arch arch = LQ_ARCH_LLAMA; arch <= LQ_ARCH_QWEN3; arch++) {
        net kept, again;
        net_new(&kept, shape(arch, true), 12);
        net_new(&again, shape(arch, true), 12);
        check_ok(lq_lane_new(&again.w.config, B, T, LQ_KEEP_INPUTS, &again.arena, &again.lane));
        for (size_t n = B; n > 0; n--) { /* and with fewer sequences than the lane has room for */
            const double a =
                lq_gradient(&kept.w, kept.lane, kept.tokens, kept.targets, n, &kept.grad);
            const double b =
                lq_gradient(&again.w, again.lane, again.tokens, again.targets, n, &again.grad);
            assert_true(a == b);
            assert_memory_equal(kept.grad.flat, again.grad.flat, kept.grad.n * sizeof(float));
        }
        lq_arena_close(&kept.arena);
        lq_arena_close(&again.arena);
    }
}

static void checkpointing_does_not_change_a_training(void **state)
{
    (void)state;
    lq_qmodel q[2];
    lq_arena arena[2] = {{0}, {0}};
    lq_train_result r;
    lq_train_config c = tiny_config(5);
    for (int i = 0; i < 2; i++) {
        c.checkpointing = i == 0 ? LQ_CHECKPOINTING_OFF : LQ_CHECKPOINTING_ON;
        train_tiny(&q[i], &arena[i], &c, NULL, LQ_OK, &r);
    }
    assert_memory_equal(q[0].w.flat, q[1].w.flat, q[0].w.n * sizeof(float));
    const double planned = (double)lq_train_bytes(&q[1], &c), used = (double)arena[1].peak_bytes;
    assert_true(used >= 0.9 * planned && used <= 1.5 * planned + 65536);
    lq_arena_close(&arena[0]);
    lq_arena_close(&arena[1]);
}

static void a_chunk_of_logits_is_a_part_of_all(void **state)
{
    (void)state;
    net whole, parts;
    net_new(&whole, shape(LQ_ARCH_LLAMA, true), 13);
    net_new(&parts, shape(LQ_ARCH_LLAMA, true), 13);
    assert_int_equal(whole.lane->head_rows, B * T);
    parts.lane->head_rows = 3; /* 3 3 3 3 2 */
    const double a = lq_gradient(&whole.w, whole.lane, whole.tokens, whole.targets, B, &whole.grad);
    const double b = lq_gradient(&parts.w, parts.lane, parts.tokens, parts.targets, B, &parts.grad);
    check_close(a, b, 1e-7, 0);
    assert_true(lq_worst(whole.grad.flat, parts.grad.flat, whole.grad.n) < 1e-6);
    lq_arena_close(&whole.arena);
    lq_arena_close(&parts.arena);
}

static void rows_of_logits_depend_on_the_vocabulary(void **state)
{
    (void)state;
    static const size_t vocabulary[] = {1024, 49152, 151936, 262144}, rows[] = {256, 256, 110, 64};
    for (size_t i = 0; i < 4; i++) {
        lq_arena arena = {0};
        lq_lane *lane;
        lq_config c = shape(LQ_ARCH_LLAMA, true);
        c.V = vocabulary[i];
        check_ok(lq_lane_new(&c, 2, 200, LQ_KEEP_NOTHING, &arena, &lane));
        assert_int_equal(lane->head_rows, rows[i]);
        lq_arena_close(&arena);
    }
}

/* SmolLM2-135M as its config.json has it, and an optimizer for the latent weight of every linear: only
 * what lq_train_bytes reads is filled in. */
static void smollm2_plan(lq_qmodel *q, lq_arena *arena)
{
    const lq_config config = {.D = 576, .F = 1536, .L = 30, .H = 9, .Hkv = 3, .dh = 64, .V = 49152};
    const lq_config *c = &config;
    static const lq_method latent = {.name = "latent"};
    *q = (lq_qmodel){.method = &latent, .n_theta = 30 * LQ_N_LINEARS};
    q->w.config = config;
    check_ok(lq_arena_new(arena, &q->theta, q->n_theta));
    check_ok(lq_arena_new(arena, &q->w.tensor, 2 + 30 * LQ_N_LAYER_TENSORS));
    q->w.tensor[q->w.n_tensors++] =
        (lq_weight){.kind = LQ_WEIGHT_EMBED, .rows = c->V, .cols = c->D};
    q->w.tensor[q->w.n_tensors++] = (lq_weight){.kind = LQ_WEIGHT_NORM, .rows = 1, .cols = c->D};
    for (size_t l = 0; l < c->L; l++) {
#define X(tensor_id, tensor_name, tensor_kind, n_rows, n_cols, present) \
    if (present)                                                        \
        q->w.tensor[q->w.n_tensors++] =                                 \
            (lq_weight){.kind = LQ_WEIGHT_##tensor_kind, .rows = (n_rows), .cols = (n_cols)};
        LQ_LAYER_TENSORS(X)
#undef X
    }
    size_t linear = 0;
    for (size_t i = 0; i < q->w.n_tensors; i++) {
        const lq_weight *w = &q->w.tensor[i];
        q->w.n += w->rows * w->cols;
        if (w->kind != LQ_WEIGHT_LINEAR)
            continue;
        lq_theta *th = &q->theta[linear++];
        th->n_slots = 1;
        th->slot[0] = (lq_slot){.name = "latent",
                                .kind = LQ_KIND_CONTINUOUS,
                                .rows = w->rows,
                                .cols = w->cols,
                                .train = true};
    }
    assert_int_equal(linear, q->n_theta);
}

static void smollm2_trains_within_six_gib(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_qmodel q;
    smollm2_plan(&q, &arena);
    assert_int_equal(q.w.n, 134515008); /* parameters, as its card has them */
    lq_train_config c = {.batch = 8, .T = 512, .micro = 4, .lanes = 2, .train_rest = true};
    const double gib = 1024.0 * 1024 * 1024, teacher = 4.0 * (double)q.w.n;
    c.checkpointing = LQ_CHECKPOINTING_OFF;
    const double off = ((double)lq_train_bytes(&q, &c) + teacher) / gib;
    c.checkpointing = LQ_CHECKPOINTING_ON;
    const double on = ((double)lq_train_bytes(&q, &c) + teacher) / gib;
    c.compute = LQ_COMPUTE_BF16;
    const double bf16 = ((double)lq_train_bytes(&q, &c) + teacher) / gib;
    print_message("SmolLM2-135M, 8 x 512, with the full-precision weights: %.2f GiB, "
                  "checkpointing %.2f, and bf16 %.2f\n",
                  off, on, bf16);
    assert_true(on < 6 && bf16 < 6 && off > 6 && bf16 > on);
    c.checkpointing = LQ_CHECKPOINTING_AUTO;
    const double most = (double)lq_clock_memory_bytes() / 2;
    const bool tight = off * gib - teacher > most;
    c.compute = LQ_COMPUTE_F32;
    assert_int_equal(lq_train_keep(&q, &c), tight ? LQ_KEEP_INPUTS : LQ_KEEP_ALL);
    c.T = 1 << 20;
    assert_int_equal(lq_train_keep(&q, &c), LQ_KEEP_INPUTS);
    lq_arena_close(&arena);
}

static void a_fraction_is_a_prefix(void **state)
{
    (void)state;
    uint32_t token[101], x[10], y[10], first[10];
    bool seen[10] = {false};
    lq_arena arena = {0};
    lq_batches data;
    const lq_rng rng = lq_rng_seed(3);
    for (uint32_t i = 0; i < 101; i++)
        token[i] = i;
    check_ok(lq_batches_new(token, 101, 10, &rng, &arena, &data));
    assert_int_equal(data.n_windows, 10);
    for (size_t i = 0; i < 10; i++) { /* an epoch visits every window once */
        lq_batches_get(&data, i, x, y);
        assert_int_equal(x[0] % 10, 0);
        assert_int_equal(y[9], x[9] + 1);
        assert_false(seen[x[0] / 10]);
        seen[x[0] / 10] = true;
        if (i == 0)
            memcpy(first, x, sizeof first);
    }
    lq_batches_get(&data, 25, x, y); /* going on and coming back changes nothing */
    lq_batches_get(&data, 0, x, y);
    assert_memory_equal(x, first, sizeof first);
    assert_int_equal(lq_batches_new(token, 10, 10, &rng, &arena, &data), LQ_E_SHAPE);
    lq_arena_close(&arena);
}

static void schedules_have_the_documented_values(void **state)
{
    (void)state;
    const lq_schedule wsd = {LQ_SCHEDULE_WSD, 4, 3}, cosine = {LQ_SCHEDULE_COSINE, 0, 0};
    check_close(lq_schedule_factor(&wsd, 0, 20), 0.25, 1e-12, 0);
    check_close(lq_schedule_factor(&wsd, 3, 20), 1, 1e-12, 0);
    check_close(lq_schedule_factor(&wsd, 16, 20), 1, 1e-12, 0);
    check_close(lq_schedule_factor(&wsd, 18, 20), 0.5, 1e-12, 0);
    assert_true(lq_schedule_factor(&wsd, 19, 20) > 0);
    check_close(lq_schedule_factor(&cosine, 0, 10), 1, 1e-12, 0);
    check_close(lq_schedule_factor(&cosine, 5, 10), 0.5, 1e-12, 0);
}

static void planned_memory_covers_what_is_used(void **state)
{
    (void)state;
    lq_qmodel q;
    lq_arena arena = {0};
    lq_train_result r;
    const lq_train_config c = tiny_config(3);
    train_tiny(&q, &arena, &c, NULL, LQ_OK, &r);
    const double planned = (double)lq_train_bytes(&q, &c), used = (double)arena.peak_bytes;
    assert_true(used >= 0.9 * planned);
    assert_true(used <= 1.5 * planned + 65536); /* lists, rounding to 64 bytes */
    lq_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_equal_central_differences),
        cmocka_unit_test(fast_and_reference_gradients_agree),
        cmocka_unit_test(later_tokens_do_not_change_earlier_logits),
        cmocka_unit_test(blocks_in_a_row_equal_the_forward),
        cmocka_unit_test(training_is_the_same_on_one_thread_and_two),
        cmocka_unit_test(a_resumed_training_ends_in_the_same_bits),
        cmocka_unit_test(recomputed_activations_give_the_same_gradient),
        cmocka_unit_test(checkpointing_does_not_change_a_training),
        cmocka_unit_test(a_chunk_of_logits_is_a_part_of_all),
        cmocka_unit_test(rows_of_logits_depend_on_the_vocabulary),
        cmocka_unit_test(smollm2_trains_within_six_gib),
        cmocka_unit_test(a_fraction_is_a_prefix),
        cmocka_unit_test(schedules_have_the_documented_values),
        cmocka_unit_test(planned_memory_covers_what_is_used),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
