/* The runner of golden cases: what a case sees, and how it hands its results in. */
#ifndef LQ_TESTS_GOLDEN_H
#define LQ_TESTS_GOLDEN_H

#include "core/base/json.h"
#include "core/data/safetensors.h"
#include "core/quant/method.h"

typedef struct golden { /* one file of the set */
    const char *dir, *file, *case_name;
    const lq_json *tensors, *params; /* of its entry in index.json */
    lq_safetensors data;
    lq_arena *arena; /* of this file */
    bool *seen;      /* (count of tensors) an output that was handed in, or left out on purpose */
    size_t n_ok, n_failed, n_not_covered;
} golden;

/* The tensor `name` of the file, converted to float in the arena. LQ_E_MISSING. */
lq_status golden_input(golden *g, const char *name, const lq_tensor **shape, float **values);
/* The same, of exactly this rank. LQ_E_SHAPE. */
lq_status golden_matrix(golden *g, const char *name, size_t rank, const lq_tensor **shape,
                        float **values);
/* The same, of n values. */
lq_status golden_vector(golden *g, const char *name, size_t n, float **values);
lq_status golden_bytes(golden *g, const char *name, size_t n, const uint8_t **bytes);
bool golden_has(const golden *g, const char *name);                     /* in the file */
lq_status golden_param(const golden *g, const char *name, double *out); /* LQ_E_MISSING */

/* Compares n values with the output `name`, prints the line, counts it. LQ_E_MISSING: the index has no
 * such output. With a mask, only where it is not zero. */
lq_status golden_check(golden *g, const char *name, const float *got, size_t n);
lq_status golden_check_where(golden *g, const char *name, const float *got, size_t n,
                             const float *mask);
lq_status golden_check_one(golden *g, const char *name, double got);
lq_status golden_check_f64(golden *g, const char *name, const double *got, size_t n);
/* Names an output that stays uncovered, and why. */
void golden_leave_out(golden *g, const char *name, const char *why);

/* The i-th output whose name begins with `prefix` and ends with `suffix`: its middle in the arena, or
 * NULL after the last. */
const char *golden_output(golden *g, const char *prefix, const char *suffix, size_t i);
/* The same among the inputs. */
const char *golden_input_name(golden *g, const char *prefix, const char *suffix, size_t i);
/* Text in the file's arena: names put together. */
#define golden_name(g, ...) lq_arena_printf((g)->arena, __VA_ARGS__)
float *golden_floats(golden *g, size_t n); /* zeroed */

/* Method lcqat with options {key: value, ...}, theta laid out in the arena. */
lq_status golden_lcqat(golden *g, double q_max, size_t out, size_t in, lq_theta *th);
/* u from proxy weights, and the affine map of the parameters codebook_scale, codebook_zero_point. */
lq_status golden_set_proxy(const golden *g, lq_theta *th, const float *proxy);

lq_status golden_hadamard(golden *g);
lq_status golden_dge(golden *g);
lq_status golden_linear(golden *g);
lq_status golden_linear_quirk(golden *g);
lq_status golden_codebook(golden *g);
lq_status golden_block_ldl(golden *g);
lq_status golden_ldlq(golden *g);
lq_status golden_quantize(golden *g);
lq_status golden_convert(golden *g);
lq_status golden_weights_only(golden *g);
lq_status golden_dense_model(golden *g);
lq_status golden_lcqat_model(golden *g);

#endif
