/* How UniSVQ makes codes out of a weight, and the two ways to write LC-QAT's parameters. What a layer is
 * made of stands in core/quant/lcqat_theta.h.
 *
 *     Wr = Q_m' D_m W D_n Q_n,  Wt = g Wr / rms(Wr)  ->  LDLQ under Hr, sweeps  ->  codes z, word = A z + B
 *
 * m = out, n = in. u is the trained latent in code units, q = clip(rint(u)); the released code trains
 * the proxy P = (u - mu) / kappa, mu = (levels-1)/2, kappa = sqrt(m+n)/2 (docs/decisions/0021). */
#ifndef LQ_QUANT_LCQAT_H
#define LQ_QUANT_LCQAT_H

#include "core/base/clock.h"
#include "core/quant/lattice.h"
#include "core/quant/ldlq.h"
#include "core/quant/rotation.h"

typedef struct lq_lcqat_rounding { /* how lq_lcqat_round_matrix works */
    size_t levels, d;
    lq_lattice_kind lattice;
    const float *G; /* (d,d) the orthogonal matrix, where learning starts too; NULL: the identity */
    bool bf16;      /* the release's rounded words and norms; else the nearest word */
    lq_rotation_kind rotation;
    size_t hadamard_cap; /* largest Hadamard block, for the rotation by blocks */
    double g; /* rms of the rotated weight when it meets the unit-variance grid; 0: the best for a
               * normal source */
    size_t candidates; /* scales tried, over 0.88 .. 1.04 of g, on some of the rows; 0: g itself */
    double sigma;      /* unit of the damping that is tried when H has no Cholesky factor */
    lq_ldlq_opts ldlq;
    lq_laps *laps; /* NULL, or where the seconds of rotate, ldl, search, ldlq, sweeps are added */
} lq_lcqat_rounding;
typedef struct lq_lcqat_rounded {
    uint8_t *code; /* (m,n) */
    float *value; /* (m,n) what the codes stand for in the rounding's words, in the rotated basis */
    lq_lattice lattice; /* A, B of the codes */
    double scale;       /* Wscale = rms(Wr) / g, the unit of `value`; 0 for a zero matrix */
    double g;           /* the one that was taken */
    double damping;     /* that had to be added to the diagonal of H */
    lq_ldlq_result ldlq;
} lq_lcqat_rounded;

/* H (n,n) in place: divided by its mean diagonal, then + sigma I. A zero H becomes the identity (an input
 * that never spoke). LQ_E_NUMERIC: not finite. */
lq_status lq_lcqat_regularize(double *H, size_t n, double sigma);

/* Rounds w (m,n) under h (n,n; regularized, or NULL for the identity): both are made incoherent with
 * the given signs (m) and (n), the weight is scaled and rounded by LDLQ. code and value are allocated
 * in `keep`. LQ_E_SHAPE: the LDLQ block does not divide n, or a dimension has no full rotation.
 * LQ_E_NUMERIC: no Cholesky factor even with 1000 sigma on the diagonal. */
lq_status lq_lcqat_round_matrix(const lq_lcqat_rounding *how, const float *w, const double *h,
                                size_t m, size_t n, const float *sign_m, const float *sign_n,
                                lq_arena *keep, lq_lcqat_rounded *out, lq_arena *scratch);

/* Scales su (n) and sv (m) to one 2-norm, sqrt(|su| |sv| + epsilon). The release's epsilon is 1e-6; with
 * 0 the product is kept. Nothing happens when one is zero. */
void lq_lcqat_balance(float *su, size_t n, float *sv, size_t m, double epsilon);

double lq_lcqat_kappa(size_t out, size_t in); /* of the released code: sqrt(out+in) / 2 */
/* Of the paper's initialization, P = 2 a (z-mu) / (levels-1) with a = sqrt(6/(out+in)). */
double lq_lcqat_kappa_paper(size_t levels, size_t out, size_t in);
void lq_lcqat_proxy_of_u(float *proxy, const float *u, size_t count, double kappa, double mu);
void lq_lcqat_u_of_proxy(float *u, const float *proxy, size_t count, double kappa, double mu);

#endif
