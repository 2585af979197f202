/* The parts of LC-QAT below its method file: how a weight becomes codes, and the two ways to write the
 * same parameters. core/method/lcqat.c is their user; so are exports and studies of single matrices.
 *
 *     What = diag(SV) Q_m C Q_n diag(SU),   C = s_c q + o_c,   q = codes (m,n), 0 .. levels-1
 *
 * m = out, n = in. u is the trained latent in code units, q = clip(rint(u)); the released code trains
 * the proxy P = (u - mu) / kappa, mu = (levels-1)/2, kappa = sqrt(m+n)/2 (docs/decisions/0021). */
#ifndef LQ_QUANT_LCQAT_H
#define LQ_QUANT_LCQAT_H

#include "core/quant/lcqat_grid.h"

typedef struct lq_lcqat_rounding { /* how lq_lcqat_round_matrix works */
    size_t levels;
    bool bf16_grid;      /* the release's grid and norms (4 levels); else exact scalar rounding */
    double g;            /* rms of the rotated weight when it meets the unit-variance grid */
    size_t hadamard_cap; /* largest Hadamard block */
    double sigma;        /* unit of the damping that is tried when H has no Cholesky factor */
    lq_ldlq_opts ldlq;
} lq_lcqat_rounding;
typedef struct lq_lcqat_rounded {
    uint8_t *code; /* (m,n) */
    float *value;  /* (m,n) what the codes stand for in the rounding's grid, in the rotated basis */
    double scale;  /* Wscale = rms(Wr) / g, the unit of `value`; 0 for a zero matrix */
    double damping; /* that had to be added to the diagonal of H */
    lq_ldlq_result ldlq;
} lq_lcqat_rounded;

/* H (n,n) in place: divided by its mean diagonal, then + sigma I. A zero H becomes the identity (an input
 * that never spoke). LQ_E_NUMERIC: not finite. */
lq_status lq_lcqat_regularize(double *H, size_t n, double sigma);

/* Rounds w (m,n) under h (n,n; regularized, or NULL for the identity): both are made incoherent with
 * the given signs (m) and (n), the weight is scaled and rounded by LDLQ. code and value are allocated
 * in `keep`. LQ_E_SHAPE: the LDLQ block does not divide n. LQ_E_NUMERIC: no Cholesky factor even with
 * 1000 sigma on the diagonal. */
lq_status lq_lcqat_round_matrix(const lq_lcqat_rounding *how, const float *w, const double *h,
                                size_t m, size_t n, const float *sign_m, const float *sign_n,
                                lq_arena *keep, lq_lcqat_rounded *out, lq_arena *scratch);

/* Scales su (n) and sv (m) to one 2-norm, sqrt(|su| |sv| + epsilon). The release's epsilon is 1e-6; with
 * 0 the product is kept. Nothing happens when one is zero. */
void lq_lcqat_balance(float *su, size_t n, float *sv, size_t m, double epsilon);

double lq_lcqat_kappa(size_t out, size_t in); /* sqrt(out+in) / 2 */
void lq_lcqat_proxy_of_u(float *proxy, const float *u, size_t count, double kappa, double mu);
void lq_lcqat_u_of_proxy(float *u, const float *proxy, size_t count, double kappa, double mu);

#endif
