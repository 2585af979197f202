/* Cases d to g: codebook, block LDL, LDLQ, and the rounding of a whole matrix. */
#include "tests/golden/golden.h"

#include "core/math/kernels.h"
#include "core/quant/hadamard.h"
#include "core/quant/lcqat.h"
#include "core/quant/rotation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D = 4 }; /* weights of a released codeword */

static double *widen(golden *g, const float *x, size_t n)
{
    double *wide = lq_arena_f64(g->arena, n);
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)x[i];
    return wide;
}

static lq_status square(golden *g, const char *name, size_t *n, double **H)
{
    const lq_tensor *shape;
    float *values;
    LQ_TRY(golden_matrix(g, name, 2, &shape, &values));
    *n = shape->shape[0];
    if (shape->shape[1] != *n)
        return lq_fail(LQ_E_SHAPE, "%s: '%s' is not square", g->file, name);
    *H = widen(g, values, *n * *n);
    return LQ_OK;
}

/* ---- d: codebook ------------------------------------------------------------------------------- */

/* Numbers of the words that the search finds for v (n,d). */
static lq_status check_search(golden *g, const char *name, const float *v, size_t n,
                              const float *word, const float *norm, size_t words, const float *mask)
{
    const lq_word_table table = {.words = words, .d = D, .word = word, .norm = norm};
    const lq_rounder rounder = lq_rounder_table(&table);
    float *value = golden_floats(g, n * D), *found = golden_floats(g, n);
    uint16_t *code;
    LQ_TRY(lq_arena_new(g->arena, &code, n));
    lq_round_vectors(&rounder, v, n, D, value, code);
    for (size_t i = 0; i < n; i++)
        found[i] = (float)code[i];
    return golden_check_where(g, name, found, n, mask);
}

/* The stored grid is the ground truth of both searches; norms as stored, then exact. */
static lq_status check_searches(golden *g, const char *prefix, const float *v, size_t n,
                                size_t words, const float *mask)
{
    float *word, *norm, *exact = golden_floats(g, words);
    LQ_TRY(golden_vector(g, golden_name(g, "%sgrid_official", prefix), words * D, &word));
    LQ_TRY(golden_vector(g, golden_name(g, "%sgrid_norm_official", prefix), words, &norm));
    lq_exact_norms(word, words, D, exact);
    LQ_TRY(
        check_search(g, golden_name(g, "%sindex_official", prefix), v, n, word, norm, words, mask));
    return check_search(g, golden_name(g, "%sindex_exactnorm", prefix), v, n, word, exact, words,
                        mask);
}

static lq_status levels_param(golden *g, size_t *levels)
{
    double bits;
    LQ_TRY(golden_param(g, "bits", &bits));
    *levels = lq_levels_of_bits(bits);
    if (*levels < 3 || *levels > 8)
        return lq_fail(LQ_E_UNAVAILABLE, "%s: codebooks of %g bits are not known", g->file, bits);
    return LQ_OK;
}

lq_status golden_codebook(golden *g)
{
    size_t levels;
    float *G, *v, *safe;
    const lq_tensor *shape;
    lq_word_list official, exact, plain;
    LQ_TRY(levels_param(g, &levels));
    LQ_TRY(golden_vector(g, "G", D * D, &G));
    LQ_TRY(lq_word_list_new(levels, D, G, true, g->arena, &official));
    LQ_TRY(lq_word_list_new(levels, D, G, false, g->arena, &exact));
    LQ_TRY(lq_word_list_new(levels, D, NULL, true, g->arena, &plain));
    const size_t words = official.words;
    LQ_TRY(golden_check(g, "grid_official", official.word, words * D));
    LQ_TRY(golden_check(g, "grid_norm_official", official.norm, words));
    LQ_TRY(golden_check(g, "grid_exact", exact.word, words * D));
    LQ_TRY(golden_check(g, "linear_proj_weight", official.A, D * D));
    LQ_TRY(golden_check(g, "linear_proj_bias", official.B, D));
    LQ_TRY(golden_check(g, "identity_grid_official", plain.word, words * D));
    LQ_TRY(golden_check(g, "identity_grid_norm_official", plain.norm, words));
    LQ_TRY(golden_matrix(g, "v", 2, &shape, &v));
    if (shape->shape[1] != D)
        return lq_fail(LQ_E_SHAPE, "%s: v has rows of %zu, not 4", g->file, shape->shape[1]);
    LQ_TRY(golden_vector(g, "identity_safe", shape->shape[0], &safe));
    LQ_TRY(check_searches(g, "", v, shape->shape[0], words, NULL));
    return check_searches(g, "identity_", v, shape->shape[0], words, safe);
}

/* ---- e: block LDL ------------------------------------------------------------------------------ */

static lq_status check_ldl(golden *g, const char *H_name, const char *L_name, const char *D_name,
                           size_t d)
{
    size_t n;
    double *H;
    LQ_TRY(square(g, H_name, &n, &H));
    double *L = lq_arena_f64(g->arena, n * n), *blocks = lq_arena_f64(g->arena, n * d);
    LQ_TRY(lq_block_ldl(H, n, d, L, blocks));
    LQ_TRY(golden_check_f64(g, L_name, L, n * n));
    return D_name != NULL ? golden_check_f64(g, D_name, blocks, n * d) : LQ_OK;
}

lq_status golden_block_ldl(golden *g)
{
    double block;
    const char *n;
    LQ_TRY(golden_param(g, "block", &block));
    for (size_t i = 0; (n = golden_output(g, "L_", "", i)) != NULL; i++)
        LQ_TRY(check_ldl(g, golden_name(g, "H_%s", n), golden_name(g, "L_%s", n),
                         golden_name(g, "D_%s", n), block >= 1 && block <= 16 ? (size_t)block : 0));
    return LQ_OK;
}

/* ---- f: LDLQ ----------------------------------------------------------------------------------- */

typedef struct ldlq_case {
    size_t m, n, words;
    float *W, *word, *norm;
    double *H;
} ldlq_case;

/* "gaussian_exactnorm" is the grid "gaussian" with norms of our own. */
static lq_status read_grid(golden *g, const char *kind, ldlq_case *c)
{
    static const char exact[] = "_exactnorm";
    const size_t n = strlen(kind), tail = sizeof exact - 1;
    const bool own = n > tail && strcmp(kind + n - tail, exact) == 0;
    const char *base = own ? golden_name(g, "%.*s", (int)(n - tail), kind) : kind;
    const lq_tensor *shape;
    LQ_TRY(golden_matrix(g, golden_name(g, "grid_%s", base), 2, &shape, &c->word));
    c->words = shape->shape[0];
    if (shape->shape[1] != D || c->words > 65536)
        return lq_fail(LQ_E_SHAPE, "%s: grid '%s' is no list of words of 4", g->file, base);
    LQ_TRY(golden_vector(g, golden_name(g, "grid_norm_%s", base), c->words, &c->norm));
    if (own)
        lq_exact_norms(c->word, c->words, D, c->norm);
    return LQ_OK;
}

/* Values of the expected codes: where a tolerated few differ, what follows from codes is compared
 * "given equal codes". */
static lq_status values_of_expected(golden *g, const char *name, const float *code, size_t n,
                                    const float *word, size_t words, float *value)
{
    float *want;
    LQ_TRY(golden_vector(g, name, n, &want));
    if (memcmp(code, want, n * sizeof *want) == 0)
        return LQ_OK;
    for (size_t i = 0; i < n; i++) {
        if (!(want[i] >= 0 && want[i] < (float)words))
            return lq_fail(LQ_E_FORMAT, "%s: '%s' has a code outside the grid", g->file, name);
        memcpy(value + i * D, word + (size_t)want[i] * D, D * sizeof *value);
    }
    return LQ_OK;
}

static lq_status check_ldlq(golden *g, ldlq_case *c, const char *kind, const char *sweeps)
{
    LQ_TRY(read_grid(g, kind, c));
    const size_t count = c->m * c->n / D;
    const char *stem = golden_name(g, "%s_t%s", kind, sweeps);
    const lq_word_table table = {.words = c->words, .d = D, .word = c->word, .norm = c->norm};
    const lq_rounder rounder = lq_rounder_table(&table);
    const lq_ldlq_opts how = {
        .block = D, .sweeps = strtoul(sweeps, NULL, 10), .sweep_block = D, .guard = false};
    lq_ldlq_result result;
    float *What = golden_floats(g, c->m * c->n), *found = golden_floats(g, count);
    uint16_t *code;
    LQ_TRY(lq_arena_new(g->arena, &code, count));
    LQ_TRY(lq_ldlq(c->W, c->H, c->m, c->n, &rounder, &how, What, code, &result, g->arena));
    for (size_t i = 0; i < count; i++)
        found[i] = (float)code[i];
    const char *codes = golden_name(g, "%s_codes", stem), *hat = golden_name(g, "%s_hatW", stem);
    LQ_TRY(golden_check(g, codes, found, count));
    LQ_TRY(golden_check_one(g, golden_name(g, "%s_proxy", stem), result.proxy));
    if (!golden_has(g, hat))
        return LQ_OK;
    LQ_TRY(values_of_expected(g, codes, found, count, c->word, c->words, What));
    return golden_check(g, hat, What, c->m * c->n);
}

lq_status golden_ldlq(golden *g)
{
    ldlq_case c = {0};
    const lq_tensor *shape;
    const char *middle;
    LQ_TRY(golden_matrix(g, "W", 2, &shape, &c.W));
    c.m = shape->shape[0];
    LQ_TRY(square(g, "H", &c.n, &c.H));
    if (c.n != shape->shape[1] || c.n % D != 0)
        return lq_fail(LQ_E_SHAPE, "%s: W and H do not fit", g->file);
    LQ_TRY(check_ldl(g, "H", "L", NULL, D));
    for (size_t i = 0; (middle = golden_output(g, "", "_codes", i)) != NULL; i++) {
        const char *mark = strrchr(middle, '_');
        if (mark == NULL || mark[1] != 't')
            return lq_fail(LQ_E_FORMAT, "%s: '%s_codes' names no number of sweeps", g->file,
                           middle);
        LQ_TRY(check_ldlq(g, &c, golden_name(g, "%.*s", (int)(mark - middle), middle), mark + 2));
    }
    return LQ_OK;
}

/* ---- g: a whole matrix ------------------------------------------------------------------------- */

enum { CAP = 128 };

typedef struct matrix {
    size_t m, n;
    float *W, *sign_m, *sign_n;
    double *H;
} matrix;

static lq_status read_matrix(golden *g, const char *W, const char *H, const char *sign_m,
                             const char *sign_n, matrix *x)
{
    const lq_tensor *shape;
    LQ_TRY(golden_matrix(g, W, 2, &shape, &x->W));
    x->m = shape->shape[0];
    LQ_TRY(square(g, H, &x->n, &x->H));
    if (x->n != shape->shape[1] || x->n % D != 0)
        return lq_fail(LQ_E_SHAPE, "%s: %s and %s do not fit", g->file, W, H);
    LQ_TRY(golden_vector(g, sign_m, x->m, &x->sign_m));
    return golden_vector(g, sign_n, x->n, &x->sign_n);
}

static lq_status check_incoherence(golden *g, const matrix *x)
{
    const size_t m = x->m, n = x->n;
    lq_rotation qm, qn;
    LQ_TRY(lq_rotation_new(LQ_ROTATION_BLOCK, m, CAP, g->arena, &qm));
    LQ_TRY(lq_rotation_new(LQ_ROTATION_BLOCK, n, CAP, g->arena, &qn));
    float *wr = golden_floats(g, m * n);
    double *hr = lq_arena_f64(g->arena, n * n), *diagonal = lq_arena_f64(g->arena, n);
    memcpy(wr, x->W, m * n * sizeof *wr);
    memcpy(hr, x->H, n * n * sizeof *hr);
    lq_scale_both(wr, m, n, x->sign_m, x->sign_n);
    lq_rotate_in(wr, m, n, &qm, &qn);
    lq_rotate_gram(hr, n, x->sign_n, &qn, g->arena);
    for (size_t i = 0; i < n; i++)
        diagonal[i] = hr[i * n + i];
    LQ_TRY(golden_check(g, "Wr", wr, m * n));
    LQ_TRY(golden_check_f64(g, "Hr_diag", diagonal, n));
    return golden_check_f64(g, "Hr_row0", hr, n);
}

static lq_status round_as_released(golden *g, const matrix *x, double override,
                                   lq_lcqat_rounded *out, float **found)
{
    double sweeps;
    LQ_TRY(golden_param(g, "tune_iters", &sweeps));
    const lq_lcqat_rounding how = {
        .levels = 4,
        .d = D,
        .bf16 = true,
        .g = override,
        .hadamard_cap = CAP,
        .sigma = 0.01,
        .ldlq = {.block = D, .sweeps = (size_t)sweeps, .sweep_block = D, .guard = false}};
    LQ_TRY(lq_lcqat_round_matrix(&how, x->W, x->H, x->m, x->n, x->sign_m, x->sign_n, g->arena, out,
                                 g->arena));
    lq_sink sink = {.arena = g->arena}; /* a byte of four packed codes is the number of its word */
    LQ_TRY(lq_sink_codes(&sink, out->code, x->m, x->n, 4));
    *found = golden_floats(g, sink.bytes);
    for (size_t i = 0; i < sink.bytes; i++)
        (*found)[i] = (float)sink.data[i];
    return LQ_OK;
}

static float through_f16(double x) { return lq_f16_to_f32(lq_f32_to_f16((float)x)); }

static lq_status check_scaled(golden *g, const matrix *x, const char *stem)
{
    const size_t m = x->m, n = x->n;
    lq_lcqat_rounded out;
    lq_word_list grid;
    float *found, *sv = golden_floats(g, m);
    const char *codes = golden_name(g, "%s_codes", stem);
    LQ_TRY(round_as_released(g, x, strtod(stem + 1, NULL) / 100, &out, &found));
    LQ_TRY(golden_check_one(g, golden_name(g, "%s_Wscale", stem), out.scale));
    LQ_TRY(golden_check(g, codes, found, m * n / D));
    LQ_TRY(lq_word_list_new(4, D, NULL, true, g->arena, &grid));
    LQ_TRY(values_of_expected(g, codes, found, m * n / D, grid.word, grid.words, out.value));
    lq_hadamard_both(out.value, m, n, lq_hadamard_block(m, CAP), lq_hadamard_block(n, CAP));
    lq_scale_both(out.value, m, n, x->sign_m, x->sign_n);
    for (size_t i = 0; i < m * n; i++)
        out.value[i] *= (float)out.scale;
    LQ_TRY(golden_check(g, golden_name(g, "%s_hatW", stem), out.value, m * n));
    for (size_t i = 0; i < m; i++)
        sv[i] = through_f16((double)x->sign_m[i] * out.scale);
    LQ_TRY(golden_check(g, golden_name(g, "%s_SU", stem), x->sign_n, n));
    LQ_TRY(golden_check(g, golden_name(g, "%s_SV", stem), sv, m));
    return golden_check_one(g, golden_name(g, "%s_proxy", stem), out.ldlq.proxy);
}

static void use_signs(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = copysignf(1, x[i]);
}

/* From the stored statistics: H = cov + mu mu', regularized; W by its rms. */
static lq_status check_whole_layer(golden *g, const char *prefix)
{
    matrix x = {0};
    float *mu, *found;
    double override = 0.83, sigma;
    LQ_TRY(golden_param(g, "sigma_reg", &sigma));
    LQ_TRY(read_matrix(g, golden_name(g, "%sW", prefix), golden_name(g, "%scov", prefix),
                       golden_name(g, "%sSV_sign", prefix), golden_name(g, "%sSU", prefix), &x));
    LQ_TRY(golden_vector(g, golden_name(g, "%smu", prefix), x.n, &mu));
    for (size_t i = 0; i < x.n * x.n; i++)
        x.H[i] += (double)mu[i / x.n] * (double)mu[i % x.n];
    LQ_TRY(lq_lcqat_regularize(x.H, x.n, sigma));
    use_signs(x.sign_m, x.m);
    use_signs(x.sign_n, x.n);
    const double rms = sqrt(lq_sum_squares(x.W, x.m * x.n) / (double)(x.m * x.n));
    for (size_t i = 0; i < x.m * x.n; i++)
        x.W[i] = (float)((double)x.W[i] / rms);
    lq_lcqat_rounded out;
    LQ_TRY(round_as_released(g, &x, override, &out, &found));
    LQ_TRY(golden_check(g, golden_name(g, "%scodes", prefix), found, x.m * x.n / D));
    float *sv = golden_floats(g, x.m);
    for (size_t i = 0; i < x.m; i++)
        sv[i] = through_f16((double)through_f16((double)x.sign_m[i] * out.scale) * rms);
    return golden_check(g, golden_name(g, "%sSV", prefix), sv, x.m);
}

lq_status golden_quantize(golden *g)
{
    matrix x = {0};
    const char *name;
    LQ_TRY(read_matrix(g, "W", "H", "SV_sign", "SU_sign", &x));
    LQ_TRY(check_incoherence(g, &x));
    for (size_t i = 0; (name = golden_output(g, "s", "_Wscale", i)) != NULL; i++)
        LQ_TRY(check_scaled(g, &x, golden_name(g, "s%s", name)));
    for (size_t i = 0; (name = golden_input_name(g, "", "cov", i)) != NULL; i++)
        LQ_TRY(check_whole_layer(g, name));
    return LQ_OK;
}
