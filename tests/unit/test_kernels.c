/* Every kernel of LQ_KERNELS: each fast variant that this processor runs against the reference, at
 * lengths around the vector width, unaligned. A kernel without a function twin_<name> does not build. */
#include "tests/check.h"

#include "core/math/kernels.h"

#include <string.h>

enum { ROOM = 4096, BUFFERS = 8 };
typedef struct pair { /* the same inputs for both tables; every buffer is offset by one float */
    const lq_kernel_table *ref, *fast;
    const char *variant;
    float a[BUFFERS][ROOM + 1], b[BUFFERS][ROOM + 1];
    size_t n;
} pair;

static const size_t lengths[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 67, 129, 255};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

static void refill(pair *p, lq_rng *rng, double scale)
{
    for (size_t i = 0; i < BUFFERS; i++) {
        lq_fill_normal(p->a[i], ROOM + 1, rng);
        for (size_t j = 0; j <= ROOM; j++)
            p->a[i][j] *= (float)scale;
        p->a[i][1 + p->n / 2] = 0;
        memcpy(p->b[i], p->a[i], sizeof p->a[i]);
    }
}

#define A(i) (p->a[i] + 1)
#define B(i) (p->b[i] + 1)

static void same(const pair *p, const char *what, size_t buffer, size_t n, double tol)
{
    double top = 0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)A(buffer)[i]));
    const double worst = lq_worst(B(buffer), A(buffer), n);
    if (!(worst <= tol * (top + 1e-30)))
        fail_msg("%s on %s, length %zu, buffer %zu: off by %g of %g", what, p->variant, p->n,
                 buffer, worst, top);
}

static void twin_rmsnorm_fwd(pair *p)
{
    p->ref->rmsnorm_fwd(A(0), A(1), A(2), A(3), 3, p->n, 1e-6f);
    p->fast->rmsnorm_fwd(B(0), B(1), B(2), B(3), 3, p->n, 1e-6f);
    same(p, "rmsnorm_fwd y", 0, 3 * p->n, 2e-6);
    same(p, "rmsnorm_fwd rstd", 1, 3, 2e-6);
}

static void twin_rmsnorm_bwd(pair *p)
{
    for (size_t i = 0; i < 3; i++)
        A(5)[i] = B(5)[i] = 0.5f + (float)i;
    p->ref->rmsnorm_bwd(A(0), A(1), A(2), A(3), A(5), A(4), 3, p->n);
    p->fast->rmsnorm_bwd(B(0), B(1), B(2), B(3), B(5), B(4), 3, p->n);
    same(p, "rmsnorm_bwd dx", 0, 3 * p->n, 1e-5);
    same(p, "rmsnorm_bwd dgain", 1, p->n, 1e-5);
}

static void twin_rope(pair *p)
{
    const size_t dh = 2 * p->n, T = 2, rows = 3;
    if (rows * dh * 2 > ROOM)
        return;
    p->ref->rope(A(0), 2 * dh, A(1), A(2), rows, T, 2, dh, -1);
    p->fast->rope(B(0), 2 * dh, B(1), B(2), rows, T, 2, dh, -1);
    same(p, "rope", 0, rows * 2 * dh, 1e-6);
}

static void twin_softmax_causal_fwd(pair *p)
{
    const size_t T = p->n < 60 ? p->n : 60;
    p->ref->softmax_causal_fwd(A(0), T, 0.7f);
    p->fast->softmax_causal_fwd(B(0), T, 0.7f);
    same(p, "softmax_causal_fwd", 0, T * T, 2e-6);
}

static void twin_softmax_causal_bwd(pair *p)
{
    const size_t T = p->n < 60 ? p->n : 60;
    p->ref->softmax_causal_bwd(A(0), A(1), T, 0.7f);
    p->fast->softmax_causal_bwd(B(0), B(1), T, 0.7f);
    same(p, "softmax_causal_bwd", 0, T * T, 1e-5);
}

static void twin_swiglu_fwd(pair *p)
{
    A(1)[0] = B(1)[0] = -90; /* where exp alone would overflow */
    p->ref->swiglu_fwd(A(0), A(1), A(2), p->n);
    p->fast->swiglu_fwd(B(0), B(1), B(2), p->n);
    same(p, "swiglu_fwd", 0, p->n, 2e-6);
}

static void twin_swiglu_bwd(pair *p)
{
    p->ref->swiglu_bwd(A(0), A(1), A(2), A(3), A(4), p->n);
    p->fast->swiglu_bwd(B(0), B(1), B(2), B(3), B(4), p->n);
    same(p, "swiglu_bwd dgate", 0, p->n, 2e-6);
    same(p, "swiglu_bwd dup", 1, p->n, 2e-6);
}

static void twin_cross_entropy(pair *p)
{
    const uint32_t target[] = {0, (uint32_t)p->n - 1, UINT32_MAX};
    for (int weighted = 0; weighted < 2; weighted++) {
        const float weight = weighted ? 0.25f : 0.0f;
        p->ref->cross_entropy(A(0), A(1), target, 3, p->n, weight);
        p->fast->cross_entropy(B(0), B(1), target, 3, p->n, weight);
        for (size_t i = 0; i < 3; i++) /* log of a sum near 1: absolute error counts */
            check_close(B(0)[i], A(0)[i], 1e-6, 3e-7);
        if (weighted) /* p - 1 cancels: the error counts against 1, times the weight */
            assert_true(lq_worst(B(1), A(1), 3 * p->n) <= 1e-6 * (double)weight);
    }
}

static void twin_add(pair *p)
{
    p->ref->add(A(0), A(1), p->n);
    p->fast->add(B(0), B(1), p->n);
    same(p, "add", 0, p->n, 0);
}

static void twin_adamw(pair *p)
{
    for (size_t i = 0; i < p->n; i++)
        A(2)[i] = B(2)[i] = A(2)[i] * A(2)[i];
    p->ref->adamw(A(0), A(1), A(2), A(3), p->n, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.5f, 0.5f, 0.1f,
                  0.05f);
    p->fast->adamw(B(0), B(1), B(2), B(3), p->n, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.5f, 0.5f, 0.1f,
                   0.05f);
    same(p, "adamw w", 0, p->n, 2e-6);
    same(p, "adamw m", 1, p->n, 2e-6);
    same(p, "adamw v", 2, p->n, 2e-6);
}

static void twin_hadamard(pair *p)
{
    size_t block = 1;
    while (block < 128 && p->n % (2 * block) == 0)
        block *= 2;
    p->ref->hadamard(A(0), 3, p->n, block);
    p->fast->hadamard(B(0), 3, p->n, block);
    same(p, "hadamard", 0, 3 * p->n, 2e-6);
    p->ref->hadamard(A(1), 3, 384, 128);
    p->fast->hadamard(B(1), 3, 384, 128);
    same(p, "hadamard 128", 1, 3 * 384, 2e-6);
}

static void twin_dge_fwd(pair *p)
{
    for (size_t i = 0; i < p->n; i += 3)
        A(1)[i] = B(1)[i] = (float)(i % 5) - 0.5f; /* ties */
    p->ref->dge_fwd(A(0), A(1), p->n, 3);
    p->fast->dge_fwd(B(0), B(1), p->n, 3);
    same(p, "dge_fwd", 0, p->n, 0);
}

static void twin_dge_bwd(pair *p)
{
    p->ref->dge_bwd(A(0), A(1), A(2), p->n, 3, 5, 3, 0.9f);
    p->fast->dge_bwd(B(0), B(1), B(2), p->n, 3, 5, 3, 0.9f);
    same(p, "dge_bwd", 0, p->n, 4e-6);
}

static void twin_seq_fwd(pair *p)
{
    p->ref->seq_fwd(A(0), A(1), p->n, 0.8f, -0.99f, 0.99f, 2, 0.5f);
    p->fast->seq_fwd(B(0), B(1), p->n, 0.8f, -0.99f, 0.99f, 2, 0.5f);
    same(p, "seq_fwd", 0, p->n, 0);
}

static void twin_seq_bwd(pair *p)
{
    double ref = 0, fast = 0;
    p->ref->seq_bwd(A(0), &ref, A(1), A(2), p->n, 0.8f, -0.99f, 0.99f, 2, 0.5f, -0.75f, 0.75f);
    p->fast->seq_bwd(B(0), &fast, B(1), B(2), p->n, 0.8f, -0.99f, 0.99f, 2, 0.5f, -0.75f, 0.75f);
    same(p, "seq_bwd", 0, p->n, 0);
    check_close(fast, ref, 1e-5, 1e-5);
}

static void twin_grid_round(pair *p)
{
    for (size_t i = 0; i < p->n; i += 3)
        A(2)[i] = B(2)[i] = (float)(i % 7) * 0.5f - 1.0f; /* ties */
    p->ref->grid_round(A(0), A(1), A(2), p->n, 1, -0.5f, 3);
    p->fast->grid_round(B(0), B(1), B(2), p->n, 1, -0.5f, 3);
    same(p, "grid_round ties", 0, p->n, 0);
    A(3)[p->n / 2] = B(3)[p->n / 2] = NAN;
    p->ref->grid_round(A(0), A(1), A(3), p->n, 0.894427f, -1.341641f, 3);
    p->fast->grid_round(B(0), B(1), B(3), p->n, 0.894427f, -1.341641f, 3);
    same(p, "grid_round q", 0, p->n, 0);
    same(p, "grid_round value", 1, p->n, 0);
}

static void twin_word_search(pair *p)
{
    static const size_t d[] = {1, 2, 4, 8};
    uint16_t ref[256], fast[256];
    for (size_t i = 0; i < 4; i++) {
        const size_t ldt = p->n + 3, words = 37;
        memcpy(A(1) + 5 * d[i], A(1), d[i] * sizeof(float)); /* the first of equals wins */
        memcpy(B(1) + 5 * d[i], A(1), d[i] * sizeof(float));
        p->ref->word_search(ref, A(0), p->n, ldt, A(1), A(2), words, d[i]);
        p->fast->word_search(fast, B(0), p->n, ldt, B(1), B(2), words, d[i]);
        assert_memory_equal(ref, fast, p->n * sizeof *ref);
    }
}

static void twin_feed(pair *p)
{
    static const size_t d[] = {1, 2, 3, 4, 8};
    for (size_t i = 0; i < 5; i++) {
        p->ref->feed(A(0), p->n, p->n + 1, 7, A(1), p->n + 2, d[i], A(2), 9);
        p->fast->feed(B(0), p->n, p->n + 1, 7, B(1), p->n + 2, d[i], B(2), 9);
        same(p, "feed", 0, 7 * (p->n + 1), 0);
    }
}

static void every_fast_kernel_agrees_with_its_reference(void **state)
{
    static pair p;
    static void (*const twin[])(pair *) = {
#define X(name, params) twin_##name,
        LQ_KERNELS(X)
#undef X
    };
    (void)state;
    lq_rng rng = lq_rng_seed(7);
    const char *name;
    p.ref = lq_kernels_variant(0, &name);
    for (size_t v = 1; (p.fast = lq_kernels_variant(v, &p.variant)) != NULL; v++)
        for (size_t l = 0; l < N_LENGTHS; l++)
            for (size_t k = 0; k < sizeof twin / sizeof twin[0]; k++) {
                p.n = lengths[l];
                refill(&p, &rng, l % 3 == 2 ? 30.0 : 1.0);
                twin[k](&p);
            }
}

static void wrong_and_nan_are_refused_by_the_checkers(void **state)
{
    (void)state;
    const float good[] = {1, 2}, bad[] = {1, 2.5f}, nan[] = {1, NAN};
    assert_true(lq_worst(good, good, 2) == 0);
    assert_true(lq_worst(bad, good, 2) > 0.4);
    assert_false(lq_worst(nan, good, 2) <= 1e30);
    assert_true(lq_close(1, 1 + 1e-9, 1e-6, 0));
    assert_false(lq_close(1, 1.1, 1e-6, 0));
    assert_false(lq_close((double)NAN, 1, 1, 1));
    assert_false(lq_close(1, (double)NAN, 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fast_kernel_agrees_with_its_reference),
        cmocka_unit_test(wrong_and_nan_are_refused_by_the_checkers),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
