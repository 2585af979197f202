/* Weights on a step: the grids of LSQ and ParetoQ with their gradients, row by row, and the theta of the
 * methods that learn one step a row (or one for all rows). With u = w / alpha:
 *
 *     sign        w_eff = alpha sign(w)                                   levels -1, 1 (0 at w = 0)
 *     stretched   alpha rint(1.5 clip(u, +-0.99)) / 1.5                   -2/3, 0, 2/3
 *                 alpha (rint(2 clip(u, +-0.99) - 0.5) + 0.5) / 2         -3/4, -1/4, 1/4, 3/4
 *     integer     alpha clip(rint(u), first, first + levels - 1)
 *
 *     d w_eff / d w      the slope of the gate for gate_lo <= u <= gate_hi, else 0
 *     d w_eff / d alpha  q - u there (q = w_eff / alpha), `below` or `above` beyond; sign(w) for the sign
 *
 * Sources: LSQ, arXiv:1902.08153, eqs. 1-3; ParetoQ, arXiv:2502.02631, with its released code. */
#ifndef LQ_QUANT_STEP_H
#define LQ_QUANT_STEP_H

#include "core/quant/gate.h"
#include "core/quant/method.h"

typedef struct lq_step_grid {
    size_t levels;          /* 2: the sign */
    float lo, hi;           /* clip of u */
    float scale, shift;     /* q = (rint(scale u - shift) + shift) / scale */
    float gate_lo, gate_hi; /* inclusive bounds of u; beyond them w_eff is an outer level */
    float below, above;     /* d w_eff / d alpha beyond */
    float top;              /* largest level / alpha */
    int first;              /* rint(scale u - shift) of code 0 */
    lq_stable_gate stable;  /* slope inside the gate; all zeros: 1 */
} lq_step_grid;
lq_step_grid lq_step_sign(void);
lq_step_grid lq_step_stretched(size_t levels); /* 3 or 4 */
lq_step_grid lq_step_integer(size_t levels); /* first = -levels/2; gated where w/alpha leaves it */
/* Codes 0..q_max about an integer zero, gated *after* rounding: 0 <= rint(u) + zero <= q_max, up to half
 * a step beyond the outer levels. With q_max = 3 those are two of four codes. */
lq_step_grid lq_step_affine(int q_max, int zero);
void lq_step_open_gate(lq_step_grid *g); /* the bounds themselves count as beyond (LSQ's paper) */

/* One row of n weights under alpha > 0. */
void lq_step_forward(const lq_step_grid *g, const float *w, size_t n, float alpha, float *w_eff);
/* dw (n; may be NULL) and *dalpha are added to, given dw_eff (n). */
void lq_step_backward(const lq_step_grid *g, const float *dw_eff, const float *w, size_t n,
                      float alpha, float *dw, double *dalpha);
uint8_t lq_step_code(const lq_step_grid *g, float w, float alpha);
float lq_step_level(const lq_step_grid *g, uint8_t code); /* level / alpha */

typedef struct lq_step_size {
    double mean; /* of |w| */
    float top;   /* max |w| */
} lq_step_size;
lq_step_size lq_step_measure(const float *w, size_t n);
/* The alpha of least squared error, for top = max|w| > 0; scratch (n). docs/decisions/0016. */
float lq_step_best(const lq_step_grid *g, const float *w, size_t n, float top, float *scratch);

/* ---- theta: slots LATENT (out,in) and ALPHA (out,1), or (1,1) for all rows ---- */

enum { LQ_STEP_LATENT, LQ_STEP_ALPHA, LQ_STEP_SLOTS };
typedef enum lq_step_start {                    /* the first alpha */
                             LQ_STEP_FROM_MAX,  /* max|w|; integer: that over the highest level */
                             LQ_STEP_FROM_MSE,  /* the one of least squared error */
                             LQ_STEP_FROM_LSQ,  /* 2 mean|w| / sqrt(highest level): LSQ, sec. 2.1 */
                             LQ_STEP_FROM_MEAN, /* mean|w| */
} lq_step_start;

lq_slot lq_latent_slot(size_t out, size_t in); /* "latent", trained at the run's rate */
lq_slot lq_alpha_slot(const char *name, size_t rows, double grad_scale);
/* An alpha below 1e-5 counts as that, without a gate: it may come back. */
float lq_step_floored(float alpha);
/* Latents become w (out,in), alphas follow `start`. LQ_E_NUMERIC: w is not finite. */
lq_status lq_step_init(lq_theta *th, lq_step_start start, const float *w, lq_arena *scratch);
/* The rest as it stands in the table of a method, whose ->step_grid says which grid. */
void lq_step_effective(const lq_theta *th, float *w_eff, lq_arena *scratch);
void lq_step_backprop(const lq_theta *th, const float *dw_eff, float *const *grad,
                      lq_arena *scratch);
/* What lq_step_backprop differentiates, told apart from how: rounding is taken as adding the offset that
 * it added at `base`, r = q - u, so inside the gate w_eff = alpha (w / alpha + r); beyond it the level
 * stands still and w_eff moves with alpha at the slope of the clipped branch. */
void lq_step_surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch);
/* Alphas as fp16, then the codes, which are those of the alphas that were trained: bits + 16 / in a weight
 * when the rows fill their bytes, bits + 16 / (out in) with one alpha. */
lq_status lq_step_pack(const lq_theta *th, lq_sink *bytes);
/* The latent becomes the level itself, which codes to itself again. */
lq_status lq_step_unpack(lq_theta *th, lq_source *bytes);

#endif
