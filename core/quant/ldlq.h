/* Rounding of a matrix W (m,n) under the loss tr(E H E'), E = W - What: LDLQ with blocks of d columns
 * and a pluggable rounder, then coordinate-descent sweeps.
 *
 *     lq_scalar_grid grid = {.levels = 4, .step = 0.894f, .offset = -1.342f};
 *     lq_rounder rounder = lq_rounder_scalar(&grid);
 *     lq_ldlq_opts how = {.block = 4, .sweeps = 10, .sweep_block = 4, .guard = true};
 *     LQ_TRY(lq_ldlq(W, H, m, n, &rounder, &how, What, code, &result, scratch));
 *
 * Source: QuIP#, arXiv:2402.04396, sec. 4.2 (block LDLQ); the sweeps are those of the released LC-QAT
 * code. With H = L D L' (L unit block lower triangular) and eta = E L, tr(E H E') = tr(eta D eta'),
 * and eta_k is the plain rounding error of block k. */
#ifndef LQ_QUANT_LDLQ_H
#define LQ_QUANT_LDLQ_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/quant/rounder.h"

enum { LQ_LDLQ_LARGEST_BLOCK = LQ_ROUNDER_LARGEST };

/* H (n,n) = L diag(D) L': L (n,n) has identity blocks d x d on its diagonal and zeros above it, D
 * (n/d,d,d). LQ_E_SHAPE: d does not divide n. LQ_E_NUMERIC: H not finite or not positive definite. */
lq_status lq_block_ldl(const double *H, size_t n, size_t d, double *L, double *D);

typedef struct lq_ldlq_opts {
    size_t block;       /* d of LDLQ: divides n and 128 */
    size_t sweeps;      /* coordinate-descent passes at most; ends early when one moves no code */
    size_t sweep_block; /* their block: for d > 1 a sweep may raise the loss, for 1 it cannot */
    bool guard;         /* keep the best state seen by proxy error, not the last */
} lq_ldlq_opts;
typedef struct lq_ldlq_result {
    double proxy;                   /* tr(E H E') / tr(W H W') of What, to 1e-6 relative */
    double first;                   /* the same before any sweep */
    size_t sweeps;                  /* passes made */
    size_t best_sweep;              /* the pass that What comes from; 0: LDLQ itself */
    double ldl_s, ldlq_s, sweeps_s; /* seconds: factors, first pass, sweeps */
} lq_ldlq_result;

/* What (m,n) and code (m, codes of a row). H NULL stands for the identity: every vector is rounded for
 * itself, and sweeps would change nothing. LQ_E_SHAPE: a block does not divide n or 128, or the rounder
 * does not take it. LQ_E_NUMERIC as lq_block_ldl; What and code are then undefined. */
lq_status lq_ldlq(const float *W, const double *H, size_t m, size_t n, const lq_rounder *rounder,
                  const lq_ldlq_opts *how, float *What, uint16_t *code, lq_ldlq_result *result,
                  lq_arena *scratch);

/* The same in two parts, for many weights under one H: what depends on H alone, in float, lives in the
 * arena; `how` of a run may differ from the plan's in sweeps (not more than 0 when planned with 0) and
 * guard. */
typedef struct lq_ldlq_plan {
    size_t n, block, sweep_block;
    const float *H;           /* (n,n); NULL: the identity */
    const float *L, *D;       /* (n,n), (n,block): the block LDL */
    const float *S, *D_sweep; /* (n,n) S_jk = H_jk H_kk^-1, (n,sweep_block) the blocks H_kk */
    double seconds;
} lq_ldlq_plan;
lq_status lq_ldlq_plan_new(const double *H, size_t n, const lq_ldlq_opts *how, lq_arena *arena,
                           lq_ldlq_plan *out);
lq_status lq_ldlq_run(const lq_ldlq_plan *plan, const float *W, size_t m, const lq_rounder *rounder,
                      const lq_ldlq_opts *how, float *What, uint16_t *code, lq_ldlq_result *result,
                      lq_arena *scratch);

/* tr(X H X') of X (m,n), in double; H NULL: the identity. */
double lq_quadratic_trace(const float *X, const double *H, size_t m, size_t n, lq_arena *scratch);
/* tr((W-What) H (W-What)') / tr(W H W'); 0 when both vanish, infinite when only the latter does. */
double lq_proxy_error(const float *W, const float *What, const double *H, size_t m, size_t n,
                      lq_arena *scratch);

#endif
