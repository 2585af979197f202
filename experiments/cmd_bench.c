/* lcqat bench: each figure as a ratio to what this machine can do, measured in the same process. */
#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/gemm_bf16.h"
#include "core/math/kernels.h"
#include "core/model/decode.h"
#include "core/train/trainer.h"
#include "experiments/catalog.h"
#include "experiments/command.h"
#include "experiments/methods.h"
#include "experiments/peak.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

typedef struct bench {
    lq_arena *arena;
    double peak; /* FLOP/s of the GEMM on all threads */
    lq_json *out;
    bool json;
} bench;

static void report(bench *b, const char *name, double value, const char *unit, double ratio,
                   const char *to)
{
    lq_json *entry = lq_json_object();
    lq_json_set_number(entry, "value", value);
    lq_json_set_string(entry, "unit", unit);
    lq_json_set_number(entry, "ratio", ratio);
    lq_json_set_string(entry, "ratio_to", to);
    lq_json_set(b->out, name, entry);
    if (!b->json)
        printf("%-28s %12.4g %-10s %7.3f of %s\n", name, value, unit, ratio, to);
}

static lq_status gemm_peak(bench *b)
{
    LQ_TRY(lq_gemm_peak(b->arena, &b->peak));
    report(b, "gemm f32 1024", b->peak * 1e-9, "GFLOP/s", 1, "itself");
    return LQ_OK;
}

typedef struct steps { /* optimizer steps on random tokens, in two lanes */
    size_t batch, T, micro, n;
    lq_compute compute;
} steps;

/* The first step touches memory and prepares products: time begins at its end. */
typedef struct stopwatch {
    double begin, end;
} stopwatch;

static lq_status after_step(void *context, size_t step, double loss, double factor)
{
    stopwatch *w = context;
    (void)loss, (void)factor;
    w->end = lq_clock_wall_s();
    if (step == 1)
        w->begin = w->end;
    return LQ_OK;
}

/* s: seconds a step of `how->n` after the first; planned: bytes, lq_train_bytes. */
static lq_status time_steps(bench *b, const steps *how, lq_qmodel *q, double *s, size_t *planned)
{
    lq_batches data;
    lq_train_result result;
    uint32_t *token;
    const size_t n = 64 * 1024;
    lq_rng rng = lq_rng_seed(1);
    const lq_mark mark = lq_arena_mark(b->arena);
    LQ_TRY(lq_arena_new(b->arena, &token, n));
    for (size_t i = 0; i < n; i++)
        token[i] = (uint32_t)lq_rng_below(&rng, q->w.config.V);
    LQ_TRY(lq_batches_new(token, n, how->T, &rng, b->arena, &data));
    lq_train_config c = {.batch = how->batch,
                         .T = how->T,
                         .micro = how->micro,
                         .lanes = 2,
                         .steps = how->n + 1,
                         .lr = 1e-3,
                         .train_rest = true,
                         .compute = how->compute,
                         .checkpoint_s = 1e9};
    c.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1};
    stopwatch watch = {0, 0};
    LQ_TRY(lq_train(q, &data, &c, b->arena, after_step, &watch, &result));
    *s = (watch.end - watch.begin) / (double)how->n;
    *planned = lq_train_bytes(q, &c);
    lq_arena_release(b->arena, mark);
    return LQ_OK;
}

static lq_status random_model(bench *b, const lq_config *config, lq_qmodel *out)
{
    const lq_rng rng = lq_rng_seed(1);
    *out = (lq_qmodel){.method = NULL};
    LQ_TRY(lq_weights_new(config, b->arena, &out->w));
    lq_weights_init(&out->w, &rng);
    return LQ_OK;
}

/* A step of tiny-qwen3's shape on 2048 tokens: every matrix product of the forward and backward counted once,
 * attention causally. */
static lq_status training_step(bench *b)
{
    const steps how = {.batch = 16, .T = 128, .micro = 2, .n = 12, .compute = LQ_COMPUTE_F32};
    lq_json *json;
    lq_qmodel q;
    lq_config config;
    double s;
    size_t planned;
    const char *path = lq_repository_path("datasets/teachers/tiny-qwen3.json", b->arena);
    if (path == NULL)
        return lq_fail(LQ_E_MISSING, "datasets/teachers/tiny-qwen3.json: not found");
    LQ_TRY(lq_json_read(path, &json));
    lq_status status = lq_config_of_json(lq_json_get(json, "model"), path, &config);
    lq_json_free(json);
    LQ_TRY(status);
    LQ_TRY(random_model(b, &config, &q));
    LQ_TRY(time_steps(b, &how, &q, &s, &planned));
    const double tokens = (double)(how.batch * how.T);
    const double flops = 3 * lq_forward_flops(&config, how.T) * tokens;
    report(b, "training step tiny-qwen3", s * 1e3, "ms", flops / s / b->peak, "gemm f32 1024");
    report(b, "training tokens per second", tokens / s, "token/s", flops / s / b->peak,
           "gemm f32 1024");
    report(b, "training memory planned", (double)planned * 1e-6, "MB",
           (double)planned / (double)lq_clock_peak_bytes(), "peak resident of this process");
    return LQ_OK;
}

/* Normal weights and inputs whose neighbours are correlated. */
static lq_status make_matrix(size_t m, size_t n, lq_arena *arena, float **w, double **gram)
{
    lq_rng rng = lq_rng_seed(2);
    LQ_TRY(lq_arena_new(arena, w, m * n));
    LQ_TRY(lq_arena_new(arena, gram, n * n));
    for (size_t i = 0; i < m * n; i++)
        (*w)[i] = (float)lq_rng_normal(&rng);
    for (size_t i = 0; i < n; i++) {
        double power = 1.05;
        for (size_t j = i; j < n; j++, power = j == i + 1 ? 0.9 : 0.9 * power)
            (*gram)[i * n + j] = (*gram)[j * n + i] = power;
    }
    return LQ_OK;
}

/* The start with ten sweeps, everything included: 2 m n^2 11 operations are counted. */
static lq_status start_of(bench *b, const char *name, const char *preset, size_t m, size_t n)
{
    const lq_method *method;
    void *opts;
    float *w;
    double *gram;
    lq_theta th;
    lq_mark mark = lq_arena_mark(b->arena);
    lq_json *spec = lq_json_object();
    lq_json_set_string(spec, "preset", preset);
    lq_status status = lq_method_find("unisvq", &method);
    if (status == LQ_OK)
        status = lq_method_options(method, spec, "bench", b->arena, &opts);
    lq_json_free(spec);
    LQ_TRY(status);
    LQ_TRY(make_matrix(m, n, b->arena, &w, &gram));
    LQ_TRY(lq_theta_new(method, opts, m, n, b->arena, &th));
    const lq_calib calib = {.gram = gram, .n_tokens = 1};
    const lq_rng rng = lq_rng_seed(3);
    const double started = lq_clock_wall_s();
    LQ_TRY(method->init(&th, w, &calib, &rng, b->arena));
    const double s = lq_clock_wall_s() - started;
    report(b, name, s * 1e3, "ms", 2.0 * (double)(m * n) * (double)n * 11.0 / s / b->peak,
           "gemm f32 1024");
    lq_arena_release(b->arena, mark);
    return LQ_OK;
}

static lq_status ldlq(bench *b)
{
    LQ_TRY(start_of(b, "unisvq ours 512x512", "ours", 512, 512));
    LQ_TRY(start_of(b, "unisvq ours 1536x576", "ours", 1536, 576));
    LQ_TRY(start_of(b, "unisvq paper 1536x576", "paper", 1536, 576));
    LQ_TRY(start_of(b, "unisvq release 1536x576", "release", 1536, 576));
    return start_of(b, "unisvq ours 2048x2048", "ours", 2048, 2048);
}

typedef struct kernel_case {
    const lq_kernel_table *table;
    float *x, *y, *z;
} kernel_case;
enum { KN = 1 << 16 };

static void run_hadamard(void *context)
{
    const kernel_case *c = context;
    c->table->hadamard(c->x, KN / 128, 128, 128);
}

static void run_dge(void *context)
{
    const kernel_case *c = context;
    c->table->dge_bwd(c->x, c->y, c->z, KN, 3, 5, 3, 1e-9f);
}

static void run_swiglu(void *context)
{
    const kernel_case *c = context;
    c->table->swiglu_bwd(c->x, c->x + KN / 2, c->y, c->z, c->z + KN / 2, KN / 2);
}

static lq_status kernels(bench *b)
{
    static const struct {
        const char *name;
        void (*run)(void *);
    } list[] = {{"kernel hadamard", run_hadamard},
                {"kernel dge_bwd", run_dge},
                {"kernel swiglu_bwd", run_swiglu}};
    const char *name;
    kernel_case fast = {.table = lq_kernels()}, plain = {.table = lq_kernels_variant(0, &name)};
    LQ_TRY(lq_arena_new(b->arena, &fast.x, KN));
    LQ_TRY(lq_arena_new(b->arena, &fast.y, KN));
    LQ_TRY(lq_arena_new(b->arena, &fast.z, KN));
    for (size_t i = 0; i < KN; i++)
        fast.x[i] = fast.y[i] = fast.z[i] = (float)(i % 31) * 0.1f;
    plain.x = fast.x;
    plain.y = fast.y;
    plain.z = fast.z;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const double f = lq_median_s(list[i].run, &fast), p = lq_median_s(list[i].run, &plain);
        report(b, list[i].name, (double)KN / f * 1e-9, "Gvalue/s", p / f,
               "the reference kernel's speed");
    }
    return LQ_OK;
}

/* ---- Decoding: a model of SmolLM2-135M's shape with a fifth of its layers ------------------------- */

enum { MOST_ROWS = 16, POSITIONS = 64 };
typedef struct decoding {
    const lq_weights *w;
    lq_decoder *d;
    size_t rows;
    uint32_t sequence[MOST_ROWS], token[MOST_ROWS];
    float *logits;
} decoding;

static void decode_one(void *context)
{
    decoding *c = context;
    if (c->d->length[0] == POSITIONS)
        for (size_t b = 0; b < c->rows; b++)
            lq_decoder_reset(c->d, b);
    lq_decoder_step(c->w, c->d, c->rows, c->sequence, c->token, c->logits);
}

static lq_status decode(bench *b)
{
    lq_config c = {.D = 576, .F = 1536, .L = 6, .H = 9, .Hkv = 3, .dh = 64, .V = 49152};
    lq_weights w;
    double memory;
    c.eps = 1e-5;
    c.rope_theta = 1e5;
    c.tied = true;
    LQ_TRY(lq_memory_peak(b->arena, &memory));
    report(b, "memory read", memory * 1e-9, "GB/s", 1, "itself");
    const lq_mark mark = lq_arena_mark(b->arena);
    LQ_TRY(lq_weights_new(&c, b->arena, &w));
    for (size_t i = 0; i < w.n; i++)
        w.flat[i] = (float)(i % 17) * 0.01f - 0.08f;
    for (size_t rows = 1; rows <= MOST_ROWS; rows *= 16) {
        decoding run = {.w = &w, .rows = rows};
        for (size_t i = 0; i < rows; i++)
            run.sequence[i] = run.token[i] = (uint32_t)i;
        LQ_TRY(lq_decoder_new(&c, rows, POSITIONS, b->arena, &run.d));
        LQ_TRY(lq_arena_new(b->arena, &run.logits, rows * c.V));
        const double s = lq_median_s(decode_one, &run);
        if (rows == 1) /* every weight is read once a token */
            report(b, "decode 1 sequence", 1 / s, "token/s",
                   (double)w.n * sizeof(float) / s / memory, "memory read");
        else
            report(b, "decode 16 sequences", (double)rows / s, "token/s",
                   (double)rows * lq_forward_flops(&c, 1) / s / b->peak, "gemm f32 1024");
    }
    lq_arena_release(b->arena, mark);
    return LQ_OK;
}

/* ---- bfloat16: a product a thread, as lanes have it ----------------------------------------------- */

enum { ORDER = 1024 };
typedef struct lanes {
    size_t n;
    lq_bf16 **products; /* (n); NULL: in float */
    const float *a, *b;
    float *c; /* (n,ORDER,ORDER) */
} lanes;

static void multiply_in_lanes(void *context)
{
    const lanes *l = context;
#pragma omp parallel for schedule(static, 1)
    for (size_t i = 0; i < l->n; i++) {
        float *c = l->c + i * ORDER * ORDER;
        if (l->products != NULL)
            lq_bf16_gemm(l->products[i], LQ_GEMM_NT, ORDER, ORDER, ORDER, l->a, ORDER, l->b, ORDER,
                         0, c, ORDER);
        else
            lq_gemm_nt(ORDER, ORDER, ORDER, 1, l->a, ORDER, l->b, ORDER, 0, c, ORDER);
    }
}

static lq_status measure_bf16(bench *b, lanes *l)
{
    float *a, *c;
    LQ_TRY(lq_arena_new(b->arena, &a, ORDER * ORDER));
    LQ_TRY(lq_arena_new(b->arena, &c, l->n * ORDER * ORDER));
    for (size_t i = 0; i < ORDER * ORDER; i++)
        a[i] = (float)(i % 7) * 0.1f;
    l->a = l->b = a;
    l->c = c;
    const double flops = 2.0 * ORDER * ORDER * (double)ORDER * (double)l->n;
    for (size_t i = 0; i < l->n; i++)
        LQ_TRY(lq_bf16_open(ORDER * ORDER, &l->products[i]));
    const double fast = lq_median_s(multiply_in_lanes, l);
    lanes plain = *l;
    plain.products = NULL;
    const double slow = lq_median_s(multiply_in_lanes, &plain);
    report(b, "gemm f32 1024 in lanes", flops / slow * 1e-9, "GFLOP/s", flops / slow / b->peak,
           "gemm f32 1024");
    report(b, "gemm bf16 1024 in lanes", flops / fast * 1e-9, "GFLOP/s", slow / fast,
           "gemm f32 1024 in lanes");
    return LQ_OK;
}

static lq_status tell_why_not(bench *b, const char *name)
{
    lq_json_set_string(b->out, name, lq_status_note());
    if (!b->json)
        printf("%-28s %s\n", name, lq_status_note());
    return LQ_OK;
}

static lq_status bf16(bench *b)
{
    if (lq_bf16_check() != LQ_OK)
        return tell_why_not(b, "gemm bf16 1024 in lanes");
    const lq_mark mark = lq_arena_mark(b->arena);
    lanes l = {.n = (size_t)omp_get_max_threads()};
    LQ_TRY(lq_arena_new(b->arena, &l.products, l.n));
    const lq_status status = measure_bf16(b, &l);
    for (size_t i = 0; i < l.n; i++)
        lq_bf16_close(l.products[i]);
    lq_arena_release(b->arena, mark);
    return status;
}

/* A step of SmolLM2-135M's shape, on 4 sequences of 512 tokens, in float and in bfloat16. */
static lq_status bf16_training(bench *b)
{
    static const char name[] = "training step 135M bf16";
    const lq_config config = {.arch = LQ_ARCH_LLAMA,
                              .D = 576,
                              .F = 1536,
                              .L = 30,
                              .H = 9,
                              .Hkv = 3,
                              .dh = 64,
                              .V = 49152,
                              .max_positions = 8192,
                              .eps = 1e-5,
                              .rope_theta = 1e5,
                              .tied = true};
    steps how = {.batch = 4, .T = 512, .micro = 1, .n = 2, .compute = LQ_COMPUTE_F32};
    const lq_mark mark = lq_arena_mark(b->arena);
    lq_qmodel q;
    double slow, fast;
    size_t planned;
    if (lq_bf16_check() != LQ_OK)
        return tell_why_not(b, name);
    LQ_TRY(random_model(b, &config, &q));
    LQ_TRY(time_steps(b, &how, &q, &slow, &planned));
    how.compute = LQ_COMPUTE_BF16;
    LQ_TRY(time_steps(b, &how, &q, &fast, &planned));
    report(b, name, fast * 1e3, "ms", slow / fast, "the same in f32");
    lq_arena_release(b->arena, mark);
    return LQ_OK;
}

static const struct {
    const char *name;
    lq_status (*run)(bench *);
} suite[] = {
    {"gemm", NULL},     {"bf16", bf16}, {"train", training_step}, {"train-bf16", bf16_training},
    {"decode", decode}, {"ptq", ldlq},  {"kernels", kernels}};
enum { N_SUITE = sizeof suite / sizeof suite[0] };

static lq_status run(const lq_args *args, lq_arena *arena)
{
    bench b = {.arena = arena, .json = lq_args_flag(args, "json")};
    for (size_t i = 0; i < lq_args_count(args); i++) {
        size_t j = 0;
        while (j < N_SUITE && strcmp(suite[j].name, lq_args_at(args, i)) != 0)
            j++;
        if (j == N_SUITE)
            return lq_fail(
                LQ_E_OPTION,
                "bench: '%s' is none of gemm, bf16, train, train-bf16, decode, ptq, kernels",
                lq_args_at(args, i));
    }
    b.out = lq_json_object();
    lq_json_set_number(b.out, "threads", omp_get_max_threads());
    lq_json_set_string(b.out, "kernels", lq_kernels_isa());
    lq_json_set_string(b.out, "blas", lq_blas_name());
    if (!b.json)
        printf("%d threads, kernels %s, %s\n", omp_get_max_threads(), lq_kernels_isa(),
               lq_blas_name());
    lq_status status = gemm_peak(&b); /* every ratio needs it */
    for (size_t i = 1; status == LQ_OK && i < N_SUITE; i++) {
        bool wanted = lq_args_count(args) == 0;
        for (size_t k = 0; k < lq_args_count(args); k++)
            wanted = wanted || strcmp(suite[i].name, lq_args_at(args, k)) == 0;
        if (wanted)
            status = suite[i].run(&b);
    }
    if (status == LQ_OK && b.json)
        lq_print_json(b.out);
    else
        lq_json_free(b.out);
    return status;
}

static const lq_arg_spec spec[] = {LQ_ARG_JSON};
const lq_command lq_command_bench = {
    .name = "bench",
    .summary = "measures speed: GEMM peak, bfloat16, training step, decoding, PTQ, kernels",
    .positionals = "[gemm|bf16|train|train-bf16|decode|ptq|kernels]...",
    .lowest = 0,
    .highest = N_SUITE,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
