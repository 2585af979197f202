/* The backward of every op against central differences of its forward: L = <r, op(x)> with a random r,
 * along random directions of every input, with the reference kernels. The checker is itself tested. */
#include "tests/check.h"

#include "core/math/kernels.h"

#include <string.h>

enum { N = 3, D = 11, ROOM = 256 };

/* forward: y (n_out) of x (n_in), all inputs side by side; backward: dx given dy. */
typedef struct op {
    const char *name;
    size_t n_in, n_out;
    void (*forward)(const float *x, float *y);
    void (*backward)(const float *x, const float *dy, float *dx);
} op;

static const lq_kernel_table *ref(void)
{
    const char *name;
    return lq_kernels_variant(0, &name);
}

/* Largest relative disagreement over some directions; NaN when anything is one. */
static double disagreement(const op *o, uint64_t seed)
{
    float x[ROOM], moved[ROOM], y[ROOM], r[ROOM], dx[ROOM], along[ROOM];
    const float h = 4e-3f;
    double worst = 0;
    lq_rng rng = lq_rng_seed(seed);
    assert_true(o->n_in <= ROOM && o->n_out <= ROOM);
    lq_fill_normal(x, o->n_in, &rng);
    lq_fill_normal(r, o->n_out, &rng);
    memset(dx, 0, sizeof dx);
    o->backward(x, r, dx);
    for (int trial = 0; trial < 6; trial++) {
        double dot = 0, norm = 0, side[2] = {0, 0};
        lq_fill_normal(along, o->n_in, &rng);
        for (size_t i = 0; i < o->n_in; i++) {
            dot += (double)dx[i] * (double)along[i];
            norm += (double)dx[i] * (double)dx[i];
        }
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < o->n_in; i++)
                moved[i] = x[i] + (s == 0 ? h : -h) * along[i];
            o->forward(moved, y);
            for (size_t i = 0; i < o->n_out; i++)
                side[s] += (double)r[i] * (double)y[i];
        }
        const double difference = (side[0] - side[1]) / (2 * (double)h);
        const double off = fabs(dot - difference) / (sqrt(norm) + 1e-3);
        if (!(off <= worst))
            worst = off;
    }
    return worst;
}

static const float eps = 1e-5f;

static void rmsnorm(const float *x, float *y)
{
    float rstd[N];
    ref()->rmsnorm_fwd(y, rstd, x, x + N * D, N, D, eps);
}

static void rmsnorm_back(const float *x, const float *dy, float *dx)
{
    float rstd[N], y[N * D];
    ref()->rmsnorm_fwd(y, rstd, x, x + N * D, N, D, eps);
    ref()->rmsnorm_bwd(dx, dx + N * D, dy, x, rstd, x + N * D, N, D);
}

enum { HEADS = 2, DH = 6, STRIDE = HEADS * DH + 3 };

static void rotate(const float *x, float *y, float direction)
{
    float cosine[2 * DH / 2], sine[2 * DH / 2];
    for (size_t i = 0; i < 2 * DH / 2; i++) {
        cosine[i] = cosf(0.3f * (float)i);
        sine[i] = sinf(0.3f * (float)i);
    }
    memcpy(y, x, N * STRIDE * sizeof *y);
    ref()->rope(y, STRIDE, cosine, sine, N, 2, HEADS, DH, direction);
}

static void rope(const float *x, float *y) { rotate(x, y, 1); }

static void rope_back(const float *x, const float *dy, float *dx)
{
    (void)x;
    rotate(dy, dx, -1);
}

enum { T = 7 };

static void softmax(const float *x, float *y)
{
    memcpy(y, x, T * T * sizeof *y);
    ref()->softmax_causal_fwd(y, T, 0.6f);
}

static void softmax_back(const float *x, const float *dy, float *dx)
{
    float p[T * T];
    softmax(x, p);
    memcpy(dx, dy, sizeof p);
    ref()->softmax_causal_bwd(dx, p, T, 0.6f);
}

static void swiglu(const float *x, float *y) { ref()->swiglu_fwd(y, x, x + N * D, N * D); }

static void swiglu_back(const float *x, const float *dy, float *dx)
{
    ref()->swiglu_bwd(dx, dx + N * D, dy, x, x + N * D, N * D);
}

static const uint32_t target[] = {2, UINT32_MAX, 10};

/* y = the summed nats alone: their gradient is scaled by the kernel's weight. */
static void cross_entropy(const float *x, float *y)
{
    float logits[N * D], nll[N];
    memcpy(logits, x, sizeof logits);
    ref()->cross_entropy(nll, logits, target, N, D, 0);
    y[0] = nll[0] + nll[1] + nll[2];
}

static void cross_entropy_back(const float *x, const float *dy, float *dx)
{
    float nll[N];
    memcpy(dx, x, N * D * sizeof *dx);
    ref()->cross_entropy(nll, dx, target, N, D, dy[0]);
}

/* The teacher's logits, fixed; T = 1.6. Row 2 puts nearly all on one token, row 1 is the student's own. */
static void divergence(const float *x, float *y, float *dx, bool js, const float *mix)
{
    float t[N * D], nats[N];
    for (size_t i = 0; i < N * D; i++)
        t[i] = i / D == 1 ? x[i] : i == 2 * D + 4 ? 20.0f : 0.3f * (float)(i * i % 11) - 1.0f;
    if (js)
        ref()->js_divergence(nats, t, x, N, D, 0.625f, mix[0], mix[1]);
    else
        ref()->kl_divergence(nats, t, x, N, D, 0.625f, mix[0], mix[1], mix[2]);
    if (y != NULL)
        y[0] = nats[0] + nats[2];
    for (size_t i = 0; dx != NULL && i < N * D; i++)
        dx[i] = t[i];
}

#define DIVERGENCE(name, js, ...)                                                \
    static void name(const float *x, float *y)                                   \
    {                                                                            \
        divergence(x, y, NULL, js, (const float[]){__VA_ARGS__, 1, 1});          \
    }                                                                            \
    static void name##_back(const float *x, const float *dy, float *dx)          \
    {                                                                            \
        divergence(x, NULL, dx, js, (const float[]){__VA_ARGS__, dy[0], dy[0]}); \
    }
DIVERGENCE(forward_kl, false, 1, 0)
DIVERGENCE(reverse_kl, false, 0, 1)
DIVERGENCE(blend_kl, false, 0.55f, 0.45f)
DIVERGENCE(jensen_shannon, true, 0.3f)

static void hadamard(const float *x, float *y)
{
    memcpy(y, x, 3 * 24 * sizeof *y);
    ref()->hadamard(y, 3, 24, 8);
}

static void hadamard_back(const float *x, const float *dy, float *dx)
{
    (void)x;
    hadamard(dy, dx);
}

static const op ops[] = {
    {"rmsnorm", N *D + D, N *D, rmsnorm, rmsnorm_back},
    {"rope", N *STRIDE, N *STRIDE, rope, rope_back},
    {"softmax_causal", T *T, T *T, softmax, softmax_back},
    {"swiglu", 2 * N *D, N *D, swiglu, swiglu_back},
    {"cross_entropy", N *D, 1, cross_entropy, cross_entropy_back},
    {"forward KL", N *D, 1, forward_kl, forward_kl_back},
    {"reverse KL", N *D, 1, reverse_kl, reverse_kl_back},
    {"blend of both", N *D, 1, blend_kl, blend_kl_back},
    {"Jensen-Shannon", N *D, 1, jensen_shannon, jensen_shannon_back},
    {"hadamard", 3 * 24, 3 * 24, hadamard, hadamard_back},
};

static void every_op_has_the_gradient_of_its_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const double off = disagreement(&ops[i], i + 1);
        if (!(off < 2e-3))
            fail_msg("%s: gradient and differences disagree by %g", ops[i].name, off);
    }
}

static void wrong_back(const float *x, const float *dy, float *dx)
{
    swiglu_back(x, dy, dx);
    for (size_t i = 0; i < N * D; i++)
        dx[i] *= 1.02f;
}

static void nan_back(const float *x, const float *dy, float *dx)
{
    swiglu_back(x, dy, dx);
    dx[3] = NAN;
}

static void the_checker_refuses_a_wrong_gradient_and_a_nan(void **state)
{
    (void)state;
    const op wrong = {"wrong", 2 * N * D, N * D, swiglu, wrong_back};
    const op nan = {"nan", 2 * N * D, N * D, swiglu, nan_back};
    assert_false(disagreement(&wrong, 4) < 2e-3);
    assert_false(disagreement(&nan, 4) < 2e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_the_gradient_of_its_forward),
        cmocka_unit_test(the_checker_refuses_a_wrong_gradient_and_a_nan),
    };
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
