/* Block-wise fine-tuning: the backward of one block by central differences; what may move, what must
 * not; the validation loss as it is defined. */
#include "tests/check.h"

#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/quantize.h"
#include "experiments/methods.h"

#include <omp.h>
#include <string.h>

enum { B = 2, T = 7, N_SEQ = 24, LAYER = 1 };

static lq_config shape(lq_arch arch)
{
    lq_config c = {.arch = arch, .D = 16, .F = 24, .L = 2, .H = 4, .Hkv = 2, .dh = 8, .V = 21};
    c.eps = 1e-5;
    c.rope_theta = 100;
    c.tied = true;
    c.max_positions = 64;
    c.qk_norm = arch == LQ_ARCH_QWEN3;
    c.qkv_bias = arch == LQ_ARCH_QWEN2;
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

/* ---- The backward of a block -------------------------------------------------------------------- */

typedef struct net {
    lq_arena arena;
    lq_weights w, grad;
    lq_lane *lane;
    float x[B * T * 16], r[B * T * 16], dx[B * T * 16];
} net;

static void net_new(net *m, lq_arch arch, uint64_t seed)
{
    const lq_config c = shape(arch);
    memset(m, 0, sizeof *m);
    lq_rng rng = lq_rng_seed(seed);
    check_ok(lq_weights_new(&c, &m->arena, &m->w));
    check_ok(lq_weights_new(&c, &m->arena, &m->grad));
    check_ok(lq_lane_new(&c, B, T, LQ_KEEP_ALL, &m->arena, &m->lane));
    random_weights(&m->w, &rng);
    lq_fill_normal(m->x, B * T * 16, &rng);
    lq_fill_normal(m->r, B * T * 16, &rng);
}

/* <r, block(x)> */
static double probe(net *m)
{
    float y[B * T * 16];
    double sum = 0;
    lq_block_forward(&m->w, m->lane, LAYER, m->x, B, y);
    for (size_t i = 0; i < B * T * 16; i++)
        sum += (double)m->r[i] * (double)y[i];
    return sum;
}

/* Does the gradient g of x (n) agree with central differences along a random direction? */
static bool agrees(net *m, float *x, const float *g, size_t n, lq_rng *rng)
{
    const float h = 2e-3f;
    float along[512], saved[512];
    double dot = 0, norm = 0, side[2];
    assert_true(n <= 512);
    lq_fill_normal(along, n, rng);
    memcpy(saved, x, n * sizeof *saved);
    for (size_t i = 0; i < n; i++) {
        dot += (double)g[i] * (double)along[i];
        norm += (double)g[i] * (double)g[i];
    }
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < n; i++)
            x[i] = saved[i] + (s == 0 ? h : -h) * along[i];
        side[s] = probe(m);
    }
    memcpy(x, saved, n * sizeof *saved);
    const double want = (side[0] - side[1]) / (2 * (double)h);
    return norm > 0 && lq_close(dot, want, 2e-3, 2e-3 * sqrt(norm) + 1e-5);
}

static void block_gradients_equal_central_differences(void **state)
{
    (void)state;
    static const lq_arch archs[] = {LQ_ARCH_LLAMA, LQ_ARCH_QWEN2, LQ_ARCH_QWEN3};
    lq_kernels_use_reference(1);
    lq_gemm_use_reference(1);
    for (size_t a = 0; a < 3; a++) {
        net m;
        lq_rng rng = lq_rng_seed(40 + a);
        net_new(&m, archs[a], a + 1);
        probe(&m);
        lq_block_backward(&m.w, m.lane, LAYER, m.r, B, m.dx, m.grad.layer[LAYER]);
        for (size_t i = 0; i < m.w.n_tensors; i++) {
            lq_weight *t = &m.w.tensor[i];
            const size_t n = t->rows * t->cols;
            if (t->layer == LAYER && !agrees(&m, t->data, m.grad.tensor[i].data, n, &rng))
                fail_msg("%s %s", lq_arch_name(archs[a]), t->name);
            for (size_t j = 0; t->layer != LAYER && j < n; j++)
                assert_true(m.grad.tensor[i].data[j] == 0);
        }
        assert_true(agrees(&m, m.x, m.dx, B * T * 16, &rng));
        m.dx[5] *= 1.5f; /* the checker refuses a wrong gradient and a NaN */
        assert_false(agrees(&m, m.x, m.dx, B * T * 16, &rng));
        m.dx[5] = NAN;
        assert_false(agrees(&m, m.x, m.dx, B * T * 16, &rng));
        lq_arena_close(&m.arena);
    }
    lq_kernels_use_reference(0);
    lq_gemm_use_reference(0);
}

static void gradients_add_up_and_dy_may_be_dx(void **state)
{
    (void)state;
    net m;
    net_new(&m, LQ_ARCH_QWEN3, 9);
    probe(&m);
    lq_block_backward(&m.w, m.lane, LAYER, m.r, B, m.dx, m.grad.layer[LAYER]);
    const float once = m.grad.layer[LAYER][LQ_POST_NORM][3];
    memcpy(m.x, m.r, sizeof m.x);
    lq_block_backward(&m.w, m.lane, LAYER, m.x, B, m.x, m.grad.layer[LAYER]);
    assert_memory_equal(m.x, m.dx, sizeof m.x);
    check_close(m.grad.layer[LAYER][LQ_POST_NORM][3], 2 * (double)once, 1e-6, 0);
    lq_block_backward(&m.w, m.lane, LAYER, m.r, B, NULL, m.grad.layer[LAYER]);
    lq_arena_close(&m.arena);
}

/* ---- Tuning ------------------------------------------------------------------------------------- */

typedef struct bed { /* a quantized model, and what enters and should leave block LAYER */
    lq_arena arena;
    lq_weights full;
    lq_qmodel q;
    uint32_t token[N_SEQ * T];
    lq_calib_data calib;
    float *input, *target, *own; /* own: what the full-precision block makes of the input */
} bed;

static const lq_blockwise_config usual = {.epochs = 4,
                                          .slots = "scales",
                                          .norms = true,
                                          .lr_scales = 2e-3,
                                          .lr_latent = 1e-3,
                                          .lr_norms = 5e-4,
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .batch = 5,
                                          .validation = 0.25,
                                          .patience = 3,
                                          .micro = 2,
                                          .lanes = 2};
enum { HELD = 6, TRAINED = N_SEQ - HELD };

static void bed_new(bed *b, const char *method_name)
{
    const lq_config c = shape(LQ_ARCH_QWEN3);
    const lq_method *method;
    void *opts;
    memset(b, 0, sizeof *b);
    lq_rng rng = lq_rng_seed(31);
    check_ok(lq_weights_new(&c, &b->arena, &b->full));
    random_weights(&b->full, &rng);
    for (size_t i = 0; i < N_SEQ * T; i++)
        b->token[i] = (uint32_t)lq_rng_below(&rng, c.V);
    b->calib = (lq_calib_data){b->token, N_SEQ, T};
    check_ok(lq_method_find(method_name, &method));
    check_ok(lq_method_options(method, NULL, "test", &b->arena, &opts));
    check_ok(lq_qmodel_new(&b->full, method, opts, &b->arena, &b->q));
    check_ok(lq_quantize(&b->q, &b->full, &b->calib, &rng));
    lq_passage p;
    check_ok(lq_passage_new(&c, &b->calib, &b->arena, &p));
    check_ok(lq_passage_stream(&b->full, &b->calib, &b->arena, &b->input));
    check_ok(lq_passage_stream(&b->full, &b->calib, &b->arena, &b->target));
    for (size_t l = 0; l < LAYER; l++)
        lq_passage_block(&p, &b->full, l, b->input, b->input, NULL);
    lq_passage_block(&p, &b->full, LAYER, b->input, b->target, NULL);
    b->own = b->target;
}

static lq_status tune(bed *b, const lq_blockwise_config *c, lq_blockwise_result *result)
{
    const lq_blockwise_data data = {b->input, b->target, b->own, N_SEQ, T};
    const lq_rng rng = lq_rng_seed(1);
    return lq_blockwise_tune(&b->q, LAYER, &data, c, &rng, (lq_blockwise_progress){0}, result);
}

/* The definition: mean squared error over the last HELD sequences, by plain loops. */
static double plain_mse(bed *b)
{
    lq_lane *lane;
    const size_t entries = T * 16;
    float y[T * 16];
    double sum = 0;
    check_ok(lq_lane_new(&b->full.config, 1, T, LQ_KEEP_NOTHING, &b->arena, &lane));
    for (size_t s = TRAINED; s < N_SEQ; s++) {
        lq_block_forward(&b->q.w, lane, LAYER, b->input + s * entries, 1, y);
        for (size_t i = 0; i < entries; i++)
            sum += pow((double)y[i] - (double)b->target[s * entries + i], 2);
    }
    return sum / (double)(HELD * entries);
}

/* A copy of everything that tuning might touch. */
typedef struct copy {
    float *w;
    void *slot[LQ_N_LINEARS * 2][LQ_MAX_SLOTS];
} copy;

static size_t slot_bytes(const lq_slot *s)
{
    return s->rows * s->cols * (s->kind == LQ_KIND_DISCRETE ? 1 : sizeof(float));
}

static copy copy_of(bed *b)
{
    copy k = {.w = lq_arena_f32(&b->arena, b->q.w.n)};
    memcpy(k.w, b->q.w.flat, b->q.w.n * sizeof(float));
    for (size_t i = 0; i < b->q.n_theta; i++)
        for (size_t s = 0; s < b->q.theta[i].n_slots; s++) {
            const size_t bytes = slot_bytes(&b->q.theta[i].slot[s]);
            k.slot[i][s] = lq_arena_alloc(&b->arena, bytes);
            memcpy(k.slot[i][s], b->q.theta[i].data[s], bytes);
        }
    return k;
}

/* Did any slot of this name change, in this layer or in another one? */
static bool moved(const bed *b, const copy *k, const char *slot, bool in_layer)
{
    bool any = false;
    for (size_t i = 0; i < b->q.n_theta; i++)
        for (size_t s = 0; s < b->q.theta[i].n_slots; s++)
            if (strcmp(b->q.theta[i].slot[s].name, slot) == 0 &&
                (i / LQ_N_LINEARS == LAYER) == in_layer)
                any = any || memcmp(k->slot[i][s], b->q.theta[i].data[s],
                                    slot_bytes(&b->q.theta[i].slot[s])) != 0;
    return any;
}

static bool kind_moved(const bed *b, const copy *k, lq_weight_kind kind, bool in_layer)
{
    bool any = false;
    for (size_t i = 0; i < b->q.w.n_tensors; i++) {
        const lq_weight *t = &b->q.w.tensor[i];
        if (t->kind == kind && (t->layer == LAYER) == in_layer)
            any = any || memcmp(k->w + t->offset, t->data, t->rows * t->cols * sizeof(float)) != 0;
    }
    return any;
}

static void tuning_lowers_the_error_on_held_out_sequences(void **state)
{
    (void)state;
    static const char *const methods[] = {"lcqat", "paretoq"};
    for (size_t i = 0; i < 2; i++) {
        bed b;
        lq_blockwise_result r;
        bed_new(&b, methods[i]);
        const copy start = copy_of(&b);
        const double before = plain_mse(&b);
        check_ok(tune(&b, &usual, &r));
        check_close(r.mse_before, before, 1e-5, 0);
        check_close(r.mse_after, plain_mse(&b), 1e-5, 0);
        assert_true(r.mse_after < 0.98 * r.mse_before);
        assert_true(r.best_epoch >= 1 && r.best_epoch <= r.epochs && r.epochs <= 4);
        assert_true(kind_moved(&b, &start, LQ_WEIGHT_NORM, true));
        assert_false(kind_moved(&b, &start, LQ_WEIGHT_NORM, false));
        assert_false(kind_moved(&b, &start, LQ_WEIGHT_LINEAR, false));
        assert_false(kind_moved(&b, &start, LQ_WEIGHT_EMBED, false));
        lq_arena_close(&b.arena);
    }
}

static void only_the_listed_slots_move(void **state)
{
    (void)state;
    static const struct {
        const char *slots;
        bool su, affine, u;
    } list[] = {{"scales", true, true, false},
                {"su", true, false, false},
                {"affine,su", true, true, false},
                {"all", true, true, true}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        bed b;
        lq_blockwise_result r;
        lq_blockwise_config c = usual;
        c.slots = list[i].slots;
        c.norms = false;
        bed_new(&b, "lcqat");
        const copy start = copy_of(&b);
        check_ok(tune(&b, &c, &r));
        assert_true(r.best_epoch > 0);
        assert_int_equal(moved(&b, &start, "su", true), list[i].su);
        assert_int_equal(moved(&b, &start, "affine", true), list[i].affine);
        assert_int_equal(moved(&b, &start, "u", true), list[i].u);
        assert_false(moved(&b, &start, "su", false));
        assert_false(kind_moved(&b, &start, LQ_WEIGHT_NORM, true));
        lq_arena_close(&b.arena);
    }
}

static void impossible_requests_are_refused_by_name(void **state)
{
    (void)state;
    bed b;
    lq_blockwise_result r;
    lq_blockwise_config c = usual;
    bed_new(&b, "lcqat");
    c.slots = "su,svv";
    assert_int_equal(tune(&b, &c, &r), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "u su sv affine"));
    assert_int_equal(lq_blockwise_check(&c, &b.q), LQ_E_OPTION);
    c = usual;
    const lq_blockwise_data one = {b.input, b.target, b.own, 1, T};
    const lq_rng rng = lq_rng_seed(1);
    assert_int_equal(lq_blockwise_tune(&b.q, LAYER, &one, &c, &rng, (lq_blockwise_progress){0}, &r),
                     LQ_E_SHAPE);
    b.target[N_SEQ * T * 16 - 1] = NAN; /* held out */
    assert_int_equal(tune(&b, &c, &r), LQ_E_NUMERIC);
    lq_arena_close(&b.arena);
    bed_new(&b, "rtn"); /* trains nothing: norms may move all the same */
    check_ok(lq_blockwise_check(&usual, &b.q));
    c.norms = false;
    assert_int_equal(lq_blockwise_check(&c, &b.q), LQ_E_OPTION);
    lq_arena_close(&b.arena);
}

static void a_rate_of_zero_changes_nothing(void **state)
{
    (void)state;
    bed b;
    lq_blockwise_result r;
    lq_blockwise_config c = usual;
    c.slots = "all";
    c.lr_scales = c.lr_latent = c.lr_norms = 0;
    bed_new(&b, "lcqat");
    const copy start = copy_of(&b);
    check_ok(tune(&b, &c, &r));
    assert_memory_equal(start.w, b.q.w.flat, b.q.w.n * sizeof(float));
    assert_false(moved(&b, &start, "u", true) || moved(&b, &start, "su", true));
    assert_true(r.mse_after == r.mse_before && r.best_epoch == 0);
    assert_int_equal(r.epochs, c.patience);
    lq_arena_close(&b.arena);
}

/* Steps far too large: the start is the best state, and it comes back bit for bit. */
static void it_never_ends_worse_than_it_began(void **state)
{
    (void)state;
    static const double rates[] = {3, 1e30};
    for (size_t i = 0; i < 2; i++) {
        bed b;
        lq_blockwise_result r;
        lq_blockwise_config c = usual;
        c.lr_scales = c.lr_norms = rates[i]; /* the second one overflows */
        bed_new(&b, "lcqat");
        const copy start = copy_of(&b);
        check_ok(tune(&b, &c, &r));
        assert_true(r.mse_after == r.mse_before && r.best_epoch == 0);
        assert_memory_equal(start.w, b.q.w.flat, b.q.w.n * sizeof(float));
        assert_false(moved(&b, &start, "su", true));
        lq_arena_close(&b.arena);
    }
}

static void dropped_norms_return_and_the_slots_stay(void **state)
{
    (void)state;
    bed b;
    lq_blockwise_result r;
    lq_blockwise_config c = usual;
    c.drop_norms = true;
    bed_new(&b, "lcqat");
    const copy start = copy_of(&b);
    check_ok(tune(&b, &c, &r));
    assert_false(kind_moved(&b, &start, LQ_WEIGHT_NORM, true));
    assert_true(moved(&b, &start, "sv", true));
    check_close(r.mse_after, plain_mse(&b), 1e-5, 0);
    lq_arena_close(&b.arena);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    bed b[2];
    lq_blockwise_result r[2];
    const int threads = omp_get_max_threads();
    lq_blockwise_config c = usual;
    c.epochs = 2;
    for (int i = 0; i < 2; i++) {
        bed_new(&b[i], "lcqat");
        omp_set_num_threads(i + 1);
        check_ok(tune(&b[i], &c, &r[i]));
        omp_set_num_threads(threads);
    }
    assert_memory_equal(b[0].q.w.flat, b[1].q.w.flat, b[0].q.w.n * sizeof(float));
    assert_memory_equal(&r[0], &r[1], sizeof r[0]);
    assert_true(r[0].best_epoch > 0);
    lq_arena_close(&b[0].arena);
    lq_arena_close(&b[1].arena);
}

/* ---- Within quantization ------------------------------------------------------------------------ */

typedef struct seen {
    size_t n;
    double before[2], after[2];
} seen;

static void note_block(void *context, size_t layer, const lq_blockwise_result *r)
{
    seen *s = context;
    assert_int_equal(layer, s->n);
    s->before[layer] = r->mse_before;
    s->after[layer] = r->mse_after;
    s->n++;
}

static void quantize_tuned(bed *b, lq_blockwise_feed feed, seen *s)
{
    const lq_rng rng = lq_rng_seed(2);
    lq_blockwise_config c = usual;
    c.feed = feed;
    *s = (seen){0};
    memcpy(b->q.w.flat, b->full.flat, b->q.w.n * sizeof(float)); /* norms, too */
    const lq_quantize_how how = {.blockwise = &c, .on_block = note_block, .context = s};
    check_ok(lq_quantize_with(&b->q, &b->full, &b->calib, &rng, &how));
    assert_int_equal(s->n, 2);
}

static void blocks_are_tuned_as_they_are_quantized(void **state)
{
    (void)state;
    static const char *const methods[] = {"lcqat", "gptq", "rtn"}; /* prefixes: full, quant, none */
    for (size_t i = 0; i < 3; i++) {
        bed b;
        seen full, quant;
        bed_new(&b, methods[i]);
        quantize_tuned(&b, LQ_FEED_FULL, &full);
        check_close(full.after[1], plain_mse(&b), 1e-5,
                    0); /* the bed's input is full precision's */
        quantize_tuned(&b, LQ_FEED_QUANT, &quant);
        for (size_t l = 0; l < 2; l++) {
            assert_true(full.after[l] < full.before[l]);
            assert_true(quant.after[l] < quant.before[l]);
        }
        assert_true(full.before[0] == quant.before[0]); /* nothing lies before the first block */
        assert_true(quant.before[1] > full.before[1]);  /* the second one starts behind it */
        lq_arena_close(&b.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_gradients_equal_central_differences),
        cmocka_unit_test(gradients_add_up_and_dy_may_be_dx),
        cmocka_unit_test(tuning_lowers_the_error_on_held_out_sequences),
        cmocka_unit_test(only_the_listed_slots_move),
        cmocka_unit_test(impossible_requests_are_refused_by_name),
        cmocka_unit_test(a_rate_of_zero_changes_nothing),
        cmocka_unit_test(it_never_ends_worse_than_it_began),
        cmocka_unit_test(dropped_norms_return_and_the_slots_stay),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(blocks_are_tuned_as_they_are_quantized),
    };
    return cmocka_run_group_tests_name("blockwise", tests, NULL, NULL);
}
