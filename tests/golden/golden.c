/* golden DIR: runs every case of DIR/index.json through the production code and prints each deviation
 * beside its tolerance. Exit status 1 when any output fails or a file cannot be used. */
#include "tests/golden/golden.h"

#include "core/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    lq_status (*run)(golden *g);
} cases[] = {
    {"a", golden_hadamard},     {"b", golden_dge},
    {"c", golden_linear},       {"c-quirk", golden_linear_quirk},
    {"d", golden_codebook},     {"e", golden_block_ldl},
    {"f", golden_ldlq},         {"g", golden_quantize},
    {"h", golden_convert},      {"i", golden_weights_only},
    {"i1", golden_dense_model}, {"i2", golden_dense_model},
    {"i3", golden_lcqat_model}, {"i4", golden_lcqat_model},
};

/* ---- Inputs ------------------------------------------------------------------------------------ */

float *golden_floats(golden *g, size_t n)
{
    float *x = lq_arena_f32(g->arena, n);
    memset(x, 0, n * sizeof *x);
    return x;
}

bool golden_has(const golden *g, const char *name)
{
    return lq_safetensors_find(&g->data, name) != NULL;
}

lq_status golden_input(golden *g, const char *name, const lq_tensor **shape, float **values)
{
    *shape = lq_safetensors_find(&g->data, name);
    if (*shape == NULL)
        return lq_fail(LQ_E_MISSING, "%s: no tensor '%s'", g->file, name);
    *values = golden_floats(g, (*shape)->elements);
    return lq_tensor_to_f32(*shape, *values);
}

lq_status golden_matrix(golden *g, const char *name, size_t rank, const lq_tensor **shape,
                        float **values)
{
    LQ_TRY(golden_input(g, name, shape, values));
    if ((*shape)->rank != rank || (*shape)->elements == 0)
        return lq_fail(LQ_E_SHAPE, "%s: '%s' has rank %zu and %zu values, rank %zu is expected",
                       g->file, name, (*shape)->rank, (*shape)->elements, rank);
    return LQ_OK;
}

lq_status golden_vector(golden *g, const char *name, size_t n, float **values)
{
    const lq_tensor *shape;
    LQ_TRY(golden_input(g, name, &shape, values));
    if (shape->elements != n)
        return lq_fail(LQ_E_SHAPE, "%s: '%s' has %zu values, %zu are expected", g->file, name,
                       shape->elements, n);
    return LQ_OK;
}

lq_status golden_bytes(golden *g, const char *name, size_t n, const uint8_t **bytes)
{
    const lq_tensor *tensor = lq_safetensors_find(&g->data, name);
    if (tensor == NULL || tensor->dtype != LQ_DTYPE_U8 || tensor->elements != n)
        return lq_fail(LQ_E_MISSING, "%s: no tensor '%s' of %zu bytes", g->file, name, n);
    *bytes = tensor->data;
    return LQ_OK;
}

lq_status golden_param(const golden *g, const char *name, double *out)
{
    *out = lq_json_number(lq_json_get(g->params, name));
    if (!isfinite(*out))
        return lq_fail(LQ_E_MISSING, "%s: parameter '%s' is no number", g->file, name);
    return LQ_OK;
}

static const char *text_of(const lq_json *object, const char *key)
{
    const char *text = lq_json_string(lq_json_get(object, key));
    return text != NULL ? text : "";
}

static const char *nth_name(golden *g, const char *role, const char *prefix, const char *suffix,
                            size_t i)
{
    const size_t before = strlen(prefix), after = strlen(suffix);
    for (const lq_json *t = lq_json_first(g->tensors); t != NULL; t = lq_json_next(t)) {
        const char *name = text_of(t, "name");
        const size_t n = strlen(name);
        if (strcmp(text_of(t, "role"), role) != 0 || n < before + after ||
            strncmp(name, prefix, before) != 0 || strcmp(name + n - after, suffix) != 0)
            continue;
        if (i-- == 0)
            return golden_name(g, "%.*s", (int)(n - before - after), name + before);
    }
    return NULL;
}

const char *golden_output(golden *g, const char *prefix, const char *suffix, size_t i)
{
    return nth_name(g, "output", prefix, suffix, i);
}

const char *golden_input_name(golden *g, const char *prefix, const char *suffix, size_t i)
{
    return nth_name(g, "input", prefix, suffix, i);
}

/* ---- Comparisons ------------------------------------------------------------------------------- */

typedef struct verdict {
    double deviation, tolerance;
    bool ok; /* false when anything is not a number */
} verdict;

/* Deviations are made so that a NaN anywhere becomes infinite. */
static double largest(double so_far, double next)
{
    if (isnan(next))
        return (double)INFINITY;
    return next > so_far ? next : so_far;
}

static verdict compare(const char *kind, const lq_json *tolerance, const float *got,
                       const float *want, const float *mask, size_t n)
{
    double absolute = 0, relative = 0, top = 0;
    size_t differ = 0, compared = 0;
    for (size_t i = 0; i < n; i++) {
        if (mask != NULL && mask[i] == 0)
            continue;
        double gap = fabs((double)got[i] - (double)want[i]), size = fabs((double)want[i]);
        absolute = largest(absolute, gap);
        relative = largest(relative, gap == 0 ? 0 : size > 0 ? gap / size : (double)INFINITY);
        top = largest(top, size);
        differ += !(gap == 0);
        compared++;
    }
    verdict v = {.tolerance = lq_json_number(lq_json_get(tolerance, "value"))};
    if (strcmp(kind, "exact") == 0) {
        v.deviation = absolute;
        v.tolerance = 0;
    } else if (strcmp(kind, "abs") == 0) {
        v.deviation = absolute;
    } else if (strcmp(kind, "rel") == 0) {
        v.deviation = relative;
    } else if (strcmp(kind, "maxrel") == 0) {
        v.deviation = absolute == 0 ? 0 : top > 0 ? absolute / top : (double)INFINITY;
    } else if (strcmp(kind, "codes") == 0) {
        v.deviation = (double)differ / (double)compared;
        v.tolerance = lq_json_number(lq_json_get(tolerance, "max_mismatch_share"));
    } else {
        v.deviation = v.tolerance = (double)NAN; /* an unknown kind never passes */
    }
    v.ok = compared > 0 && isfinite(v.tolerance) && isfinite(v.deviation) &&
           v.deviation <= v.tolerance;
    return v;
}

static const lq_json *find_output(const golden *g, const char *name, size_t *index)
{
    *index = 0;
    for (const lq_json *t = lq_json_first(g->tensors); t != NULL; t = lq_json_next(t), ++*index)
        if (strcmp(text_of(t, "name"), name) == 0 && strcmp(text_of(t, "role"), "output") == 0)
            return t;
    return NULL;
}

lq_status golden_check_where(golden *g, const char *name, const float *got, size_t n,
                             const float *mask)
{
    size_t index;
    float *want;
    const lq_json *entry = find_output(g, name, &index);
    if (entry == NULL)
        return lq_fail(LQ_E_MISSING, "%s: the index has no output '%s'", g->file, name);
    LQ_TRY(golden_vector(g, name, n, &want));
    const lq_json *tolerance = lq_json_get(entry, "tolerance");
    const char *kind = text_of(tolerance, "kind");
    verdict v = compare(kind, tolerance, got, want, mask, n);
    printf("%-8s %-32s %-52s %12.3e %12.3e %s%s%s\n", g->case_name, g->file, name, v.deviation,
           v.tolerance, v.ok ? "ok" : "FAIL", v.ok ? "" : " ", v.ok ? "" : kind);
    g->seen[index] = true;
    *(v.ok ? &g->n_ok : &g->n_failed) += 1;
    return LQ_OK;
}

lq_status golden_check(golden *g, const char *name, const float *got, size_t n)
{
    return golden_check_where(g, name, got, n, NULL);
}

lq_status golden_check_one(golden *g, const char *name, double got)
{
    float value = (float)got;
    return golden_check(g, name, &value, 1);
}

lq_status golden_check_f64(golden *g, const char *name, const double *got, size_t n)
{
    float *narrow = golden_floats(g, n);
    for (size_t i = 0; i < n; i++)
        narrow[i] = (float)got[i];
    return golden_check(g, name, narrow, n);
}

void golden_leave_out(golden *g, const char *name, const char *why)
{
    size_t index;
    if (find_output(g, name, &index) == NULL)
        return;
    g->seen[index] = true;
    g->n_not_covered++;
    printf("%-8s %-32s %-52s not covered: %s\n", g->case_name, g->file, name, why);
}

/* ---- One file, and all of them ----------------------------------------------------------------- */

/* The index and the file must tell the same story, tensor by tensor. */
static lq_status check_entry(const golden *g, const lq_json *entry)
{
    const char *name = text_of(entry, "name"), *role = text_of(entry, "role");
    const lq_tensor *tensor = lq_safetensors_find(&g->data, name);
    if (tensor == NULL)
        return lq_fail(LQ_E_MISSING, "%s: no tensor '%s', which the index names", g->file, name);
    const lq_json *shape = lq_json_get(entry, "shape");
    bool same = strcmp(lq_dtype_name(tensor->dtype), text_of(entry, "dtype")) == 0 &&
                lq_json_count(shape) == tensor->rank;
    for (size_t i = 0; same && i < tensor->rank; i++)
        same = lq_json_number(lq_json_at(shape, i)) == (double)tensor->shape[i];
    if (!same)
        return lq_fail(LQ_E_FORMAT, "%s: '%s' has another type or shape than the index says",
                       g->file, name);
    if (strcmp(role, "input") != 0 && strcmp(role, "output") != 0)
        return lq_fail(LQ_E_FORMAT, "%s: '%s' has the unknown role '%s'", g->file, name, role);
    return LQ_OK;
}

static lq_status run_case(golden *g)
{
    for (const lq_json *t = lq_json_first(g->tensors); t != NULL; t = lq_json_next(t))
        LQ_TRY(check_entry(g, t));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(cases[i].name, g->case_name) == 0)
            return cases[i].run(g);
    printf("%-8s %-32s not covered: this program does not know the case\n", g->case_name, g->file);
    return LQ_OK;
}

static void name_the_uncovered(golden *g)
{
    size_t index = 0;
    for (const lq_json *t = lq_json_first(g->tensors); t != NULL; t = lq_json_next(t), index++)
        if (strcmp(text_of(t, "role"), "output") == 0 && !g->seen[index])
            golden_leave_out(g, text_of(t, "name"), "no runner hands it in");
}

static lq_status run_file(golden *g, const lq_json *entry)
{
    g->file = text_of(entry, "file");
    g->case_name = text_of(entry, "case");
    g->tensors = lq_json_get(entry, "tensors");
    g->params = lq_json_get(entry, "params");
    if (g->file[0] == 0 || strchr(g->file, '/') != NULL)
        return lq_fail(LQ_E_FORMAT, "index.json: '%s' is no file name", g->file);
    LQ_TRY(lq_arena_new(g->arena, &g->seen, lq_json_count(g->tensors) + 1));
    LQ_TRY(lq_safetensors_open(golden_name(g, "%s/%s", g->dir, g->file), g->arena, &g->data));
    lq_status status = run_case(g);
    if (status == LQ_OK)
        name_the_uncovered(g);
    lq_safetensors_close(&g->data);
    return status;
}

static lq_status run_all(const char *dir, const lq_json *index, golden *total)
{
    const lq_json *files = lq_json_get(index, "files");
    if (lq_json_count(files) == 0)
        return lq_fail(LQ_E_FORMAT, "%s/index.json: no list 'files'", dir);
    for (const lq_json *f = lq_json_first(files); f != NULL; f = lq_json_next(f)) {
        lq_arena arena = {0};
        golden g = {.dir = dir, .arena = &arena};
        if (run_file(&g, f) != LQ_OK) {
            printf("%-8s %-32s FAIL %s\n", g.case_name, g.file, lq_status_note());
            g.n_failed++;
        }
        total->n_ok += g.n_ok;
        total->n_failed += g.n_failed;
        total->n_not_covered += g.n_not_covered;
        lq_arena_close(&arena);
    }
    return LQ_OK;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden DIR, a directory with index.json\n");
        return 2;
    }
    lq_arena arena = {0};
    lq_json *index = NULL;
    golden total = {0};
    lq_status status = lq_json_read(lq_arena_printf(&arena, "%s/index.json", argv[1]), &index);
    if (status == LQ_OK)
        status = run_all(argv[1], index, &total);
    if (status != LQ_OK)
        fprintf(stderr, "golden: %s\n", lq_status_note());
    else
        printf("golden: %zu ok, %zu failed, %zu not covered\n", total.n_ok, total.n_failed,
               total.n_not_covered);
    lq_json_free(index);
    lq_arena_close(&arena);
    return status != LQ_OK || total.n_failed > 0 || total.n_ok == 0 ? 1 : 0;
}
