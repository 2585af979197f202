#include "core/math/gemm_bf16.h"

#include "core/math/gemm.h"
#include "core/math/kernels.h"

#ifdef LQ_HAVE_DNNL
#include <oneapi/dnnl/dnnl.h>
#endif
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape { /* what a prepared product depends on */
    lq_gemm_form form;
    size_t m, n, k, ldc;
    bool adds;
} shape;

static bool use_reference;

void lq_bf16_use_reference(int on) { use_reference = on != 0; }

/* ---- oneDNN ------------------------------------------------------------------------------------ */

#ifdef LQ_HAVE_DNNL
typedef struct product { /* prepared; the handles are set before each use */
    shape shape;
    dnnl_primitive_t run;
    dnnl_memory_t a, b, c, scratch;
} product;
#else
typedef struct product {
    shape shape;
} product;
#endif

struct lq_bf16 {
    bool reference;
    void *a, *b; /* the operands, rounded: bfloat16, or floats for the reference */
    size_t most;
    product *list;
    size_t n, room;
    void *scratch;
    size_t scratch_bytes;
#ifdef LQ_HAVE_DNNL
    dnnl_engine_t engine;
    dnnl_stream_t stream;
#endif
};

/* What can only fail for want of memory once lq_bf16_open has seen a product succeed. */
static void must(bool done)
{
    const bool out_of_memory = !done;
    LQ_ASSERT(!out_of_memory);
}

#ifdef LQ_HAVE_DNNL
static bool processor_has_bf16(void)
{
    const unsigned need = dnnl_cpu_isa_avx512_core_bf16; /* sets of bits: AMX has these, too */
    return ((unsigned)dnnl_get_effective_cpu_isa() & need) == need;
}

const char *lq_bf16_library(void)
{
    static char name[32]; /* the same text from every thread */
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}

lq_status lq_bf16_check(void)
{
    if (processor_has_bf16())
        return LQ_OK;
    return lq_fail(LQ_E_UNAVAILABLE,
                   "compute=bf16: this processor has neither AVX512-BF16 nor AMX; "
                   "use compute=f32");
}

/* A dense (rows,cols) matrix, or its transpose as one of (cols,rows). */
static dnnl_memory_desc_t dense(size_t rows, size_t cols, bool transposed)
{
    dnnl_memory_desc_t out;
    const dnnl_dims_t dims = {(dnnl_dim_t)(transposed ? cols : rows),
                              (dnnl_dim_t)(transposed ? rows : cols)};
    const dnnl_dims_t strides = {transposed ? 1 : (dnnl_dim_t)cols,
                                 transposed ? (dnnl_dim_t)cols : 1};
    must(dnnl_memory_desc_init_by_strides(&out, 2, dims, dnnl_bf16, strides) == dnnl_success);
    return out;
}

/* Scratch memory is ours: that of the library is shared by all threads. */
static dnnl_primitive_attr_t attributes(bool adds)
{
    dnnl_primitive_attr_t attr;
    must(dnnl_primitive_attr_create(&attr) == dnnl_success);
    must(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success);
    if (adds) {
        dnnl_post_ops_t ops;
        must(dnnl_post_ops_create(&ops) == dnnl_success);
        must(dnnl_post_ops_append_sum(ops, 1.0f) == dnnl_success);
        must(dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success);
        dnnl_post_ops_destroy(ops);
    }
    return attr;
}

static dnnl_memory_t memory_of(const lq_bf16 *p, const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t out;
    must(dnnl_memory_create(&out, desc, p->engine, DNNL_MEMORY_NONE) == dnnl_success);
    return out;
}

static void grow_scratch(lq_bf16 *p, size_t bytes)
{
    if (bytes <= p->scratch_bytes)
        return;
    free(p->scratch);
    p->scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    must(p->scratch != NULL);
    p->scratch_bytes = bytes;
}

static void prepare(lq_bf16 *p, product *out, const shape *s)
{
    const dnnl_memory_desc_t a =
        s->form == LQ_GEMM_TN ? dense(s->k, s->m, true) : dense(s->m, s->k, false);
    const dnnl_memory_desc_t b =
        s->form == LQ_GEMM_NT ? dense(s->n, s->k, true) : dense(s->k, s->n, false);
    const dnnl_dims_t dims = {(dnnl_dim_t)s->m, (dnnl_dim_t)s->n};
    const dnnl_dims_t strides = {(dnnl_dim_t)s->ldc, 1};
    dnnl_memory_desc_t c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t described;
    must(dnnl_memory_desc_init_by_strides(&c, 2, dims, dnnl_f32, strides) == dnnl_success);
    must(dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) == dnnl_success);
    dnnl_primitive_attr_t attr = attributes(s->adds);
    must(dnnl_primitive_desc_create(&described, &desc, attr, p->engine, NULL) == dnnl_success);
    dnnl_primitive_attr_destroy(attr);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(described, dnnl_query_scratchpad_md, 0);
    out->shape = *s;
    out->a = memory_of(p, &a);
    out->b = memory_of(p, &b);
    out->c = memory_of(p, &c);
    out->scratch = memory_of(p, scratch);
    grow_scratch(p, dnnl_memory_desc_get_size(scratch));
    must(dnnl_primitive_create(&out->run, described) == dnnl_success);
    dnnl_primitive_desc_destroy(described);
}

static product *find(lq_bf16 *p, const shape *s)
{
    for (size_t i = 0; i < p->n; i++) {
        const shape *t = &p->list[i].shape;
        if (t->m == s->m && t->n == s->n && t->k == s->k && t->form == s->form &&
            t->ldc == s->ldc && t->adds == s->adds)
            return &p->list[i];
    }
    if (p->n == p->room) {
        p->room = p->room > 0 ? 2 * p->room : 32;
        product *more = realloc(p->list, p->room * sizeof *more);
        must(more != NULL);
        p->list = more;
    }
    prepare(p, &p->list[p->n], s);
    return &p->list[p->n++];
}

static void multiply(lq_bf16 *p, const shape *s, float *C)
{
    const int threads = omp_get_max_threads();
    omp_set_num_threads(
        1); /* of this thread's own setting: the library prepares and runs for one */
    product *found = find(p, s);
    dnnl_memory_set_data_handle(found->a, p->a);
    dnnl_memory_set_data_handle(found->b, p->b);
    dnnl_memory_set_data_handle(found->c, C);
    dnnl_memory_set_data_handle(found->scratch, p->scratch);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, found->a},
                                    {DNNL_ARG_WEIGHTS, found->b},
                                    {DNNL_ARG_DST, found->c},
                                    {DNNL_ARG_SCRATCHPAD, found->scratch}};
    must(dnnl_primitive_execute(found->run, p->stream, 4, args) == dnnl_success);
    must(dnnl_stream_wait(p->stream) == dnnl_success);
    omp_set_num_threads(threads);
}

static lq_status library_open(lq_bf16 *p)
{
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success)
        return lq_fail(LQ_E_UNAVAILABLE, "compute=bf16: oneDNN does not start; use compute=f32");
    return LQ_OK;
}

static void library_close(lq_bf16 *p)
{
    for (size_t i = 0; i < p->n; i++) {
        dnnl_primitive_destroy(p->list[i].run);
        dnnl_memory_destroy(p->list[i].a);
        dnnl_memory_destroy(p->list[i].b);
        dnnl_memory_destroy(p->list[i].c);
        dnnl_memory_destroy(p->list[i].scratch);
    }
    if (p->stream != NULL)
        dnnl_stream_destroy(p->stream);
    if (p->engine != NULL)
        dnnl_engine_destroy(p->engine);
}

#else

const char *lq_bf16_library(void) { return "none"; }

lq_status lq_bf16_check(void)
{
    return lq_fail(LQ_E_UNAVAILABLE, "compute=bf16: built without oneDNN; type `make deps` "
                                     "(libdnnl-dev) and build again, or use compute=f32");
}

static void multiply(lq_bf16 *p, const shape *s, float *C)
{
    (void)p, (void)s, (void)C;
    must(false);
}

static lq_status library_open(lq_bf16 *p)
{
    (void)p;
    return lq_bf16_check();
}

static void library_close(lq_bf16 *p) { (void)p; }

#endif

/* ---- Both --------------------------------------------------------------------------------------- */

size_t lq_bf16_bytes(size_t most)
{
    return 2 * most * (use_reference ? sizeof(float) : sizeof(uint16_t));
}

lq_status lq_bf16_open(size_t most, lq_bf16 **out)
{
    *out = NULL;
    if (!use_reference)
        LQ_TRY(lq_bf16_check());
    lq_bf16 *p = calloc(1, sizeof *p);
    if (p == NULL)
        return lq_fail(LQ_E_MEMORY, "compute=bf16: out of memory");
    const size_t bytes = (lq_bf16_bytes(most) / 2 + 63) / 64 * 64;
    p->reference = use_reference;
    p->most = most;
    p->a = aligned_alloc(64, bytes);
    p->b = aligned_alloc(64, bytes);
    lq_status status = LQ_OK;
    if (p->a == NULL || p->b == NULL)
        status = lq_fail(LQ_E_MEMORY, "compute=bf16: no memory for operands of %zu values", most);
    if (status == LQ_OK && !p->reference)
        status = library_open(p);
    if (status != LQ_OK)
        lq_bf16_close(p);
    else
        *out = p;
    return status;
}

void lq_bf16_close(lq_bf16 *p)
{
    if (p == NULL)
        return;
    library_close(p);
    free(p->scratch);
    free(p->list);
    free(p->a);
    free(p->b);
    free(p);
}

/* (rows,cols) of x, rounded and close together. */
static void narrow(const lq_bf16 *p, void *out, const float *x, size_t ld, size_t rows, size_t cols)
{
    enum { PART = 256 };
    uint16_t part[PART];
    LQ_ASSERT(rows * cols <= p->most);
    if (!p->reference && ld == cols) {
        lq_kernels()->to_bf16(out, x, rows * cols);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        if (!p->reference) {
            lq_kernels()->to_bf16((uint16_t *)out + r * cols, x + r * ld, cols);
            continue;
        }
        for (size_t at = 0; at < cols; at += PART) {
            const size_t n = cols - at < PART ? cols - at : PART;
            lq_kernels()->to_bf16(part, x + r * ld + at, n);
            for (size_t i = 0; i < n; i++) {
                const uint32_t bits = (uint32_t)part[i] << 16;
                memcpy((float *)out + r * cols + at + i, &bits, sizeof bits);
            }
        }
    }
}

void lq_bf16_gemm(lq_bf16 *p, lq_gemm_form form, size_t m, size_t n, size_t k, const float *A,
                  size_t lda, const float *B, size_t ldb, float beta, float *C, size_t ldc)
{
    const size_t a_rows = form == LQ_GEMM_TN ? k : m, a_cols = form == LQ_GEMM_TN ? m : k;
    const size_t b_rows = form == LQ_GEMM_NT ? n : k, b_cols = form == LQ_GEMM_NT ? k : n;
    const bool adds = beta == 1.0f;
    LQ_ASSERT(adds || beta == 0.0f);
    LQ_ASSERT(m > 0 && n > 0 && k > 0);
    narrow(p, p->a, A, lda, a_rows, a_cols);
    narrow(p, p->b, B, ldb, b_rows, b_cols);
    if (!p->reference) {
        multiply(p, &(shape){form, m, n, k, ldc, adds}, C);
        return;
    }
    if (form == LQ_GEMM_NN)
        lq_gemm_nn(m, n, k, 1, p->a, a_cols, p->b, b_cols, beta, C, ldc);
    else if (form == LQ_GEMM_NT)
        lq_gemm_nt(m, n, k, 1, p->a, a_cols, p->b, b_cols, beta, C, ldc);
    else
        lq_gemm_tn(m, n, k, 1, p->a, a_cols, p->b, b_cols, beta, C, ldc);
}
