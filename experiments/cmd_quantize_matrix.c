/* lcqat quantize-matrix: one matrix, for study. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/data/safetensors.h"
#include "core/quant/ldlq.h"
#include "experiments/command.h"
#include "experiments/methods.h"
#include "experiments/peak.h"

#include <stdio.h>
#include <string.h>

typedef struct job {
    const lq_method *method;
    void *opts;
    size_t out, in, packed_bytes;
    float *w, *effective; /* (out,in) */
    double *gram;         /* (in,in) or NULL */
    lq_theta theta, shipped;
    lq_laps laps; /* stages of init, then packing */
    double init_s, peak;
} job;

static lq_status read_matrix(const char *path, const char *name, lq_arena *arena, float **data,
                             size_t *rows, size_t *cols)
{
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(path, arena, &file));
    const lq_tensor *t = lq_safetensors_find(&file, name);
    lq_status status = LQ_OK;
    if (t == NULL)
        status = lq_fail(LQ_E_MISSING, "%s: no tensor '%s'", path, name);
    else if (t->rank != 2 || t->elements == 0)
        status = lq_fail(LQ_E_SHAPE, "%s: tensor %s is no matrix", path, name);
    else
        status = lq_arena_new(arena, data, t->elements);
    if (status == LQ_OK) {
        *rows = t->shape[0];
        *cols = t->shape[1];
        status = lq_tensor_to_f32(t, *data);
    }
    lq_safetensors_close(&file);
    return status;
}

/* A tensor of any shape, as one list. */
static lq_status read_vector(const char *path, const char *name, lq_arena *arena, float **data,
                             size_t *elements)
{
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(path, arena, &file));
    const lq_tensor *t = lq_safetensors_find(&file, name);
    lq_status status = t == NULL ? lq_fail(LQ_E_MISSING, "%s: no tensor '%s'", path, name)
                                 : lq_arena_new(arena, data, t->elements);
    if (status == LQ_OK) {
        *elements = t->elements;
        status = lq_tensor_to_f32(t, *data);
    }
    lq_safetensors_close(&file);
    return status;
}

/* H += mean' mean, for a covariance stored about its mean. */
static lq_status add_mean(const char *path, const char *name, lq_arena *arena, job *j)
{
    float *mean;
    size_t n;
    if (name == NULL)
        return LQ_OK;
    LQ_TRY(read_vector(path, name, arena, &mean, &n));
    if (n != j->in)
        return lq_fail(LQ_E_SHAPE, "%s: tensor %s has %zu values, the matrix needs %zu", path, name,
                       n, j->in);
    for (size_t i = 0; i < n * n; i++)
        j->gram[i] += (double)mean[i / n] * (double)mean[i % n];
    return LQ_OK;
}

static lq_status read_gram(const lq_args *args, lq_arena *arena, job *j)
{
    const char *path = lq_args_text(args, "hessian", NULL);
    const char *name = lq_args_text(args, "hessian-tensor", NULL);
    float *h;
    size_t rows, cols;
    if (path == NULL && name == NULL)
        return LQ_OK;
    if (path == NULL || name == NULL)
        return lq_fail(LQ_E_OPTION, "--hessian and --hessian-tensor belong together");
    LQ_TRY(read_matrix(path, name, arena, &h, &rows, &cols));
    if (rows != j->in || cols != j->in)
        return lq_fail(LQ_E_SHAPE, "%s: tensor %s is (%zu,%zu), the matrix needs (%zu,%zu)", path,
                       name, rows, cols, j->in, j->in);
    LQ_TRY(lq_arena_new(arena, &j->gram, rows * cols));
    for (size_t i = 0; i < rows * cols; i++)
        j->gram[i] = (double)h[i];
    return add_mean(path, lq_args_text(args, "hessian-mean", NULL), arena, j);
}

/* "su=SU_sign": a slot that init begins from, out of the file of the matrix. */
static lq_status fill_slots(const lq_args *args, const char *path, lq_arena *arena, job *j)
{
    const char *const *wish;
    const size_t n = lq_args_list(args, "slot", &wish);
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(wish[i], '=');
        if (equals == NULL)
            return lq_fail(LQ_E_OPTION, "--slot '%s': write SLOT=TENSOR", wish[i]);
        const char *name = lq_arena_printf(arena, "%.*s", (int)(equals - wish[i]), wish[i]);
        const size_t s = lq_theta_find(&j->theta, name);
        if (s == SIZE_MAX || j->theta.slot[s].kind == LQ_KIND_DISCRETE)
            return lq_fail(LQ_E_OPTION, "--slot '%s': %s has no such slot of floats", wish[i],
                           j->method->name);
        float *data;
        size_t elements;
        LQ_TRY(read_vector(path, equals + 1, arena, &data, &elements));
        if (elements != j->theta.slot[s].rows * j->theta.slot[s].cols)
            return lq_fail(LQ_E_SHAPE, "--slot '%s': %zu values, %zu needed", wish[i], elements,
                           j->theta.slot[s].rows * j->theta.slot[s].cols);
        memcpy(j->theta.data[s], data, elements * sizeof *data);
    }
    return LQ_OK;
}

static lq_status quantize(job *j, size_t seed, lq_arena *arena)
{
    const lq_calib calib = {.gram = j->gram};
    const lq_rng rng = lq_rng_seed(seed);
    j->theta.laps = &j->laps;
    double started = lq_clock_wall_s();
    if (j->method->blockwise != NULL || j->method->init_block != NULL)
        lq_log_warn("%s fits the linears of a block together; a matrix alone gets no more than its "
                    "start",
                    j->method->name);
    LQ_TRY(j->method->init(&j->theta, j->w, &calib, &rng, arena));
    j->init_s = lq_clock_wall_s() - started;
    started = lq_clock_wall_s();
    LQ_TRY(lq_theta_through_bytes(&j->theta, arena, &j->shipped, &j->packed_bytes));
    LQ_TRY(lq_arena_new(arena, &j->effective, j->out * j->in));
    j->method->effective(&j->shipped, j->effective, arena);
    lq_laps_add(&j->laps, "pack", lq_clock_wall_s() - started);
    return LQ_OK;
}

/* The effective weight and every slot of theta, as the packed bytes give them back. */
static lq_status write_result(const job *j, const char *path)
{
    lq_tensor list[LQ_MAX_SLOTS + 1];
    size_t n = 0;
    const lq_theta *th = &j->shipped;
    list[n++] = (lq_tensor){.name = "effective",
                            .dtype = LQ_DTYPE_F32,
                            .rank = 2,
                            .shape = {j->out, j->in},
                            .data = j->effective};
    for (size_t s = 0; s < th->n_slots; s++)
        list[n++] =
            (lq_tensor){.name = th->slot[s].name,
                        .dtype = th->slot[s].kind == LQ_KIND_DISCRETE ? LQ_DTYPE_U8 : LQ_DTYPE_F32,
                        .rank = 2,
                        .shape = {th->slot[s].rows, th->slot[s].cols},
                        .data = th->data[s]};
    for (size_t i = 0; i < n; i++) {
        list[i].elements = list[i].shape[0] * list[i].shape[1];
        list[i].bytes = list[i].elements * lq_dtype_bytes(list[i].dtype);
    }
    const char *metadata[] = {"method", j->method->name};
    return lq_safetensors_write(path, list, n, metadata, 1);
}

static void put(lq_json *json, bool as_json, const char *name, double value)
{
    lq_json_set_number(json, name, value);
    if (!as_json)
        printf("%-16s %.8g\n", name, value);
}

static void print_result(const job *j, bool as_json, lq_arena *arena)
{
    const double m = (double)j->out, n = (double)j->in;
    lq_json *json = lq_json_object();
    put(json, as_json, "proxy_error",
        lq_proxy_error(j->w, j->effective, j->gram, j->out, j->in, arena));
    put(json, as_json, "relative_mse",
        lq_proxy_error(j->w, j->effective, NULL, j->out, j->in, arena));
    put(json, as_json, "bits_per_weight", 8.0 * (double)j->packed_bytes / (m * n));
    put(json, as_json, "quantize_s", j->init_s);
    for (size_t i = 0; i < j->laps.n; i++)
        put(json, as_json, lq_arena_printf(arena, "%s_s", j->laps.lap[i].name), j->laps.lap[i].s);
    if (j->peak > 0) {
        put(json, as_json, "gemm_gflops", j->peak * 1e-9);
        put(json, as_json, "share_of_gemm", 2 * m * n * n * 11 / j->init_s / j->peak);
    }
    if (as_json)
        lq_print_json(json);
    else
        lq_json_free(json);
}

static lq_status method_of(const lq_args *args, lq_arena *arena, job *j)
{
    const char *name = lq_args_text(args, "method", NULL);
    double bits;
    lq_json *options;
    if (name == NULL)
        return lq_fail(LQ_E_OPTION, "quantize-matrix: --method is required");
    LQ_TRY(lq_method_find(name, &j->method));
    LQ_TRY(lq_args_real(args, "bits", 1, 16, strcmp(name, "none") == 0 ? 16 : 2, &bits));
    LQ_TRY(lq_set_options(args, &options));
    lq_json_set_number(options, "bits", bits);
    lq_status status = lq_method_options(j->method, options, "--set", arena, &j->opts);
    lq_json_free(options);
    return status;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    job j = {0};
    size_t seed;
    const char *tensor = lq_args_text(args, "tensor", NULL);
    const char *out = lq_args_text(args, "out", NULL);
    if (tensor == NULL || out == NULL)
        return lq_fail(LQ_E_OPTION, "quantize-matrix: --tensor and --out are required");
    LQ_TRY(lq_args_size(args, "seed", 0, 1ul << 31, 1, &seed));
    LQ_TRY(method_of(args, arena, &j));
    LQ_TRY(read_matrix(lq_args_at(args, 0), tensor, arena, &j.w, &j.out, &j.in));
    LQ_TRY(read_gram(args, arena, &j));
    LQ_TRY(lq_theta_new(j.method, j.opts, j.out, j.in, arena, &j.theta));
    LQ_TRY(fill_slots(args, lq_args_at(args, 0), arena, &j));
    if (lq_args_flag(args, "peak"))
        LQ_TRY(lq_gemm_peak(arena, &j.peak));
    LQ_TRY(quantize(&j, seed, arena));
    LQ_TRY(write_result(&j, out));
    print_result(&j, lq_args_flag(args, "json"), arena);
    return LQ_OK;
}

static const lq_arg_spec spec[] = {
    {"tensor", 0, LQ_ARG_TEXT, "NAME", "the matrix (out,in) in the file"},
    {"hessian", 0, LQ_ARG_TEXT, "H.safetensors", "file with E[x' x] of its input (identity)"},
    {"hessian-tensor", 0, LQ_ARG_TEXT, "NAME", "the matrix (in,in) in that file"},
    {"hessian-mean", 0, LQ_ARG_TEXT, "NAME", "its mean (in), if the matrix is a covariance"},
    {"slot", 0, LQ_ARG_LIST, "SLOT=TENSOR", "begin from this, e.g. su=SIGNS instead of random"},
    {"method", 'm', LQ_ARG_TEXT, "M", "method; `lcqat methods` lists them"},
    {"bits", 'b', LQ_ARG_TEXT, "B", "nominal bits a weight (2)"},
    {"seed", 0, LQ_ARG_TEXT, "S", "seed of random signs (1)"},
    {"set", 0, LQ_ARG_LIST, "KEY=VALUE", "an option of the method"},
    {"peak", 0, LQ_ARG_FLAG, NULL,
     "measure the GEMM first, and what share of it 2 m n^2 11 operations make"},
    {"out", 'o', LQ_ARG_TEXT, "Q.safetensors", "effective weight, codes and parameters"},
    LQ_ARG_JSON,
};
const lq_command lq_command_quantize_matrix = {
    .name = "quantize-matrix",
    .summary = "quantizes one matrix and reports its error, for study",
    .positionals = "W.safetensors --tensor NAME --method M --bits B --out Q.safetensors",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
