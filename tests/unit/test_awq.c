/* AWQ on random transformers: what the block tells a method, that scales leave the model as it was, and that
 * they help where inputs have large columns. */
#include "tests/check.h"

#include "core/train/quantize.h"
#include "experiments/methods.h"

#include <string.h>

enum { N_SEQ = 10, T = 8, LARGE = 3 }; /* LARGE: a column of the normed inputs that is large */

typedef struct bed {
    lq_arena arena;
    lq_weights full;
    lq_qmodel q;
    uint32_t token[N_SEQ * T];
    lq_calib_data calib;
} bed;

static lq_config shape(lq_arch arch, size_t Hkv)
{
    return (lq_config){.arch = arch,
                       .D = 32,
                       .F = 48,
                       .L = 2,
                       .H = 4,
                       .Hkv = Hkv,
                       .dh = 8,
                       .V = 29,
                       .eps = 1e-5,
                       .rope_theta = 100,
                       .tied = true,
                       .max_positions = 64,
                       .qkv_bias = arch == LQ_ARCH_QWEN2};
}

static void bed_new(bed *b, lq_config c)
{
    memset(b, 0, sizeof *b);
    lq_rng rng = lq_rng_seed(17);
    check_ok(lq_weights_new(&c, &b->arena, &b->full));
    for (size_t i = 0; i < b->full.n_tensors; i++) {
        lq_weight *t = &b->full.tensor[i];
        for (size_t j = 0; j < t->rows * t->cols; j++)
            t->data[j] = t->kind == LQ_WEIGHT_NORM ? 1 + 0.1f * (float)lq_rng_normal(&rng)
                                                   : 0.2f * (float)lq_rng_normal(&rng);
        if (t->kind == LQ_WEIGHT_NORM)
            t->data[LARGE] *= 20;
    }
    for (size_t i = 0; i < N_SEQ * T; i++)
        b->token[i] = (uint32_t)lq_rng_below(&rng, c.V);
    b->calib = (lq_calib_data){b->token, N_SEQ, T};
}

static void quantize(bed *b, const lq_method *method, const char *options)
{
    lq_json *json;
    void *opts;
    const lq_rng rng = lq_rng_seed(1);
    check_ok(lq_json_parse(options, strlen(options), "test", &json));
    check_ok(lq_method_options(method, json, "test", &b->arena, &opts));
    lq_json_free(json);
    check_ok(lq_qmodel_new(&b->full, method, opts, &b->arena, &b->q));
    check_ok(lq_quantize(&b->q, &b->full, &b->calib, &rng));
}

static const lq_method *awq(void)
{
    const lq_method *found;
    check_ok(lq_method_find("awq", &found));
    return found;
}

/* Mean squared error of the stream after the last block, relative to its size. */
static double output_error(bed *b)
{
    lq_passage p;
    float *want, *got;
    double error = 0, size = 0;
    check_ok(lq_passage_new(&b->full.config, &b->calib, &b->arena, &p));
    check_ok(lq_passage_stream(&b->full, &b->calib, &b->arena, &want));
    check_ok(lq_passage_stream(&b->full, &b->calib, &b->arena, &got));
    for (size_t l = 0; l < 2; l++) {
        lq_passage_block(&p, &b->full, l, want, want, NULL);
        lq_passage_block(&p, &b->q.w, l, got, got, NULL);
    }
    for (size_t i = 0; i < N_SEQ * T * 32; i++) {
        error += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i], 2);
    }
    return error / size;
}

/* ---- What a method sees of a block -------------------------------------------------------------- */

static size_t n_blocks_seen;

static double plain_error(const lq_theta *th, const float *d, const double *gram)
{
    double sum = 0;
    for (size_t r = 0; r < th->out; r++)
        for (size_t i = 0; i < th->in; i++)
            for (size_t j = 0; j < th->in; j++)
                sum += (double)d[r * th->in + i] * gram[i * th->in + j] * (double)d[r * th->in + j];
    return sum / (double)th->out;
}

/* The error of one linear at the module's output is that of its gram; nothing changed is no error. */
static lq_status look_around(lq_block *b, const lq_rng *rng, lq_arena *scratch)
{
    lq_rng stream = *rng;
    assert_int_equal(b->n, 7);
    assert_string_equal(b->name[3], "o_proj");
    assert_string_equal(b->name[6], "down_proj");
    assert_true(b->input[0] == b->input[2] && b->input[4] == b->input[5]);
    for (size_t i = 0; i < b->n; i++) {
        const size_t n = b->theta[i]->out * b->theta[i]->in;
        const float *given[LQ_BLOCK_LINEARS] = {NULL};
        float *moved = lq_arena_f32(scratch, n), *d = lq_arena_f32(scratch, n);
        assert_true(b->error(b->context, b->input[i], given) < 1e-12);
        for (size_t j = 0; j < n; j++) {
            d[j] = 0.05f * (float)lq_rng_normal(&stream);
            moved[j] = b->w[i][j] + d[j];
        }
        given[i] = moved;
        const double error = b->error(b->context, b->input[i], given);
        assert_true(error > 1e-6);
        if (i == 3 || i == 6)
            check_close(error, plain_error(b->theta[i], d, b->calib[i].gram), 1e-3, 0);
        for (size_t j = 0; j < b->theta[i]->in; j++)
            assert_true(b->calib[i].mean_abs[j] > 0);
        LQ_TRY(b->theta[i]->method->init(b->theta[i], b->w[i], &b->calib[i], rng, scratch));
    }
    n_blocks_seen++;
    return LQ_OK;
}

static void errors_are_those_at_the_output_of_the_module(void **state)
{
    (void)state;
    bed b;
    lq_method looks = *awq();
    looks.init_block = look_around;
    n_blocks_seen = 0;
    bed_new(&b, shape(LQ_ARCH_LLAMA, 2));
    quantize(&b, &looks, "{\"group\":0}");
    assert_int_equal(n_blocks_seen, 2);
    lq_arena_close(&b.arena);
}

/* ---- Scales ------------------------------------------------------------------------------------- */

/* Were the gains of this norm divided by something that is not 1 everywhere? */
static bool scaled(const bed *b, lq_layer_tensor norm)
{
    double off = 0;
    for (size_t j = 0; j < 32; j++)
        off = fmax(off,
                   fabs((double)b->q.w.layer[0][norm][j] / (double)b->full.layer[0][norm][j] - 1));
    return off > 0.1;
}

/* At 8 bits only the scales are left to go wrong: they went into norms, rows of v and up, and their biases. */
static void scales_leave_the_model_as_it_was(void **state)
{
    (void)state;
    static const struct {
        lq_arch arch;
        size_t Hkv;
        bool biases;
    } list[] = {{LQ_ARCH_LLAMA, 4, false},
                {LQ_ARCH_LLAMA, 2, false},
                {LQ_ARCH_QWEN2, 4, false},
                {LQ_ARCH_LLAMA, 4, true}};
    for (size_t i = 0; i < 4; i++) {
        bed b;
        lq_config c = shape(list[i].arch, list[i].Hkv);
        c.qkv_bias = c.qkv_bias || list[i].biases;
        c.o_bias = c.mlp_bias = list[i].biases;
        bed_new(&b, c);
        quantize(&b, awq(), "{\"bits\":8,\"group\":0,\"clip\":false}");
        assert_true(scaled(&b, LQ_INPUT_NORM) && scaled(&b, LQ_POST_NORM));
        if (output_error(&b) > 1e-3)
            fail_msg("%s, %zu kv heads: %g", lq_arch_name(list[i].arch), list[i].Hkv,
                     output_error(&b));
        lq_arena_close(&b.arena);
    }
}

static void a_lost_scale_would_be_seen(void **state)
{
    (void)state;
    bed b;
    bed_new(&b, shape(LQ_ARCH_LLAMA, 4));
    quantize(&b, awq(), "{\"bits\":8,\"group\":0,\"clip\":false}");
    memcpy(b.q.w.layer[0][LQ_INPUT_NORM], b.full.layer[0][LQ_INPUT_NORM], 32 * sizeof(float));
    assert_true(output_error(&b) > 1e-2);
    lq_arena_close(&b.arena);
}

static void scales_help_where_columns_are_large(void **state)
{
    (void)state;
    static const char *const options[] = {
        "{\"bits\":3,\"group\":0,\"scale\":false,\"clip\":false}",
        "{\"bits\":3,\"group\":0,\"scale\":true,\"clip\":false}",
        "{\"bits\":3,\"group\":0,\"scale\":false,\"clip\":true}",
    };
    double error[3];
    for (size_t i = 0; i < 3; i++) {
        bed b;
        bed_new(&b, shape(LQ_ARCH_LLAMA, 4));
        quantize(&b, awq(), options[i]);
        error[i] = output_error(&b);
        lq_arena_close(&b.arena);
    }
    assert_true(error[1] < 0.8 * error[0]);
    assert_true(error[2] < error[0]);
}

/* Grouped queries: o_proj has no v_proj of its shape, and its scale is not searched; nothing ships. */
static void scales_cost_no_bits(void **state)
{
    (void)state;
    bed b;
    const lq_method *rtn;
    size_t bytes[2];
    bed_new(&b, shape(LQ_ARCH_LLAMA, 2));
    check_ok(lq_method_find("rtn", &rtn));
    for (size_t i = 0; i < 2; i++) {
        lq_theta shipped;
        quantize(&b, i == 0 ? rtn : awq(), "{\"group\":16}");
        check_ok(lq_theta_through_bytes(&b.q.theta[3], &b.arena, &shipped, &bytes[i]));
    }
    assert_int_equal(bytes[0], bytes[1]);
    lq_arena_close(&b.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_those_at_the_output_of_the_module),
        cmocka_unit_test(scales_leave_the_model_as_it_was),
        cmocka_unit_test(a_lost_scale_would_be_seen),
        cmocka_unit_test(scales_help_where_columns_are_large),
        cmocka_unit_test(scales_cost_no_bits),
    };
    return cmocka_run_group_tests_name("awq", tests, NULL, NULL);
}
