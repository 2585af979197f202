/* One layer of UniSVQ and LC-QAT: what both method files share. A method adds its first slot, which holds
 * the codes (unisvq) or the latents that round to them (lcqat).
 *
 *     What = diag(SV) Q_m C Q_n' diag(SU),   C = A q + B for each d consecutive codes q of a row
 *
 * slot 0 codes (m,n) | su (1,n) | sv (m,1) | with A = s_c I:  affine (1,2) = s_c, o_c
 *                                          | else:            A (d,d) | B (1,d)
 *
 * For d = 1 and A = 1 this is a uniform scalar grid; for orthogonal A a scalar grid after one more rotation
 * (docs/decisions/0031). Activations may see it without decoding: with X = x diag(SU) Q_n in groups X_i,
 * y = (sum_i (X_i A) q_i' + sum_i (X_i B) 1') Q_m' diag(SV). */
#ifndef LQ_QUANT_LCQAT_THETA_H
#define LQ_QUANT_LCQAT_THETA_H

#include "core/quant/lcqat.h"
#include "core/quant/method.h"

enum { LQ_LCQAT_CODES, LQ_LCQAT_SU, LQ_LCQAT_SV, LQ_LCQAT_A, LQ_LCQAT_B }; /* slots; A or affine */
enum { LQ_LCQAT_START_LDLQ, LQ_LCQAT_START_RTN };

typedef struct lq_lcqat_opts { /* the first member of both methods' options */
    lq_common_opts common;
    int preset, start, rotation, lattice, lattice_start, codebook;
    size_t hadamard_cap, vector, lattice_seed, ldl_block, sweeps, sweep_block, scale_search;
    bool signs, lattice_shared, guard, balance;
    double scale_override, sigma_reg;
} lq_lcqat_opts;

/* The table of those options. The defaults are the preset `ours`. */
#define LQ_LCQAT_AT(member) offsetof(lq_lcqat_opts, member)
/* clang-format off */
#define LQ_LCQAT_OPTIONS                                                                           \
    LQ_BITS_OPTION(2),                                                                             \
    {"preset", LQ_OPTION_CHOICE, LQ_LCQAT_AT(preset), 0, 0, 0, "ours|paper|release|scalar",        \
     "defaults of the other options: our choice, the paper, the released code, or the paper with " \
     "a scalar grid"},                                                                             \
    {"start", LQ_OPTION_CHOICE, LQ_LCQAT_AT(start), LQ_LCQAT_START_LDLQ, 0, 0, "ldlq|rtn",         \
     "first codes: LDLQ under the calibrated gram, or each vector for itself"},                    \
    {"rotation", LQ_OPTION_CHOICE, LQ_LCQAT_AT(rotation), LQ_ROTATION_BLOCK, 0, 0,                 \
     LQ_ROTATION_WORDS, "Hadamard transform: by blocks, of the whole dimension, or none"},         \
    {"hadamard_cap", LQ_OPTION_SIZE, LQ_LCQAT_AT(hadamard_cap), 128, 1, 4096, NULL,                \
     "largest Hadamard block; a dimension takes the largest power of two that divides it"},        \
    {"signs", LQ_OPTION_BOOL, LQ_LCQAT_AT(signs), 1, 0, 1, NULL,                                   \
     "random signs before the transform"},                                                         \
    {"lattice", LQ_OPTION_CHOICE, LQ_LCQAT_AT(lattice), LQ_LATTICE_IDENTITY, 0, 0,                 \
     LQ_LATTICE_WORDS, "A of the codebook A z + B"},                                               \
    {"vector", LQ_OPTION_SIZE, LQ_LCQAT_AT(vector), 4, 1, 8, NULL,                                 \
     "d, weights of a codeword: 1, 2, 4 or 8"},                                                    \
    {"lattice_shared", LQ_OPTION_BOOL, LQ_LCQAT_AT(lattice_shared), 1, 0, 1, NULL,                 \
     "one random orthogonal matrix for all weights, or one each"},                                 \
    {"lattice_seed", LQ_OPTION_SIZE, LQ_LCQAT_AT(lattice_seed), 1, 0, 1e9, NULL,                   \
     "which shared matrix"},                                                                       \
    {"lattice_start", LQ_OPTION_CHOICE, LQ_LCQAT_AT(lattice_start), LQ_LATTICE_IDENTITY, 0, 0,     \
     "identity|orthogonal", "where a learned A begins"},                                           \
    {"codebook", LQ_OPTION_CHOICE, LQ_LCQAT_AT(codebook), 0, 0, 0, "exact|bf16",                   \
     "bf16: the released code's rounded words and norms"},                                         \
    {"scale_override", LQ_OPTION_REAL, LQ_LCQAT_AT(scale_override), 0.83, 0, 10, NULL,             \
     "g: rms of the rotated weight on the unit-variance grid; 0: the best for a normal source"},   \
    {"scale_search", LQ_OPTION_SIZE, LQ_LCQAT_AT(scale_search), 0, 0, 64, NULL,                    \
     "scales tried for each weight, over 0.88 .. 1.04 of g; 0: none"},                             \
    {"ldl_block", LQ_OPTION_SIZE, LQ_LCQAT_AT(ldl_block), 0, 0, 8, NULL,                           \
     "columns rounded together by LDLQ; 0: 1, or a codeword where one has to be searched"},        \
    {"sweeps", LQ_OPTION_SIZE, LQ_LCQAT_AT(sweeps), 10, 0, 100, NULL,                              \
     "coordinate-descent passes at most"},                                                         \
    {"sweep_block", LQ_OPTION_SIZE, LQ_LCQAT_AT(sweep_block), 0, 0, 8, NULL,                       \
     "columns refined together; 0: as ldl_block. One alone cannot raise the proxy error"},         \
    {"guard", LQ_OPTION_BOOL, LQ_LCQAT_AT(guard), 1, 0, 1, NULL,                                   \
     "keep the sweep of least proxy error; false: the last, as the released code"},                \
    {"sigma_reg", LQ_OPTION_REAL, LQ_LCQAT_AT(sigma_reg), 0.01, 0, 10, NULL,                       \
     "added to the diagonal of the gram, in units of its mean diagonal"},                          \
    {"balance", LQ_OPTION_BOOL, LQ_LCQAT_AT(balance), 1, 0, 1, NULL,                               \
     "give SU and SV one 2-norm"}
/* clang-format on */
#define LQ_LCQAT_PAPER                                                                 \
    "rotation=full lattice=orthogonal vector=4 ldl_block=4 sweep_block=4 guard=false " \
    "scale_override=0.83 scale_search=0"
#define LQ_LCQAT_RELEASE                                                                   \
    "rotation=block hadamard_cap=128 lattice=identity vector=4 codebook=bf16 ldl_block=4 " \
    "sweep_block=4 guard=false scale_override=0.83 scale_search=0"
#define LQ_LCQAT_SCALAR                                                              \
    "rotation=full lattice=identity vector=1 ldl_block=1 sweep_block=1 guard=false " \
    "scale_override=0.83 scale_search=0"

/* LQ_E_OPTION: what does not go together; `who` begins the note. */
lq_status lq_lcqat_check(const lq_lcqat_opts *o, const char *who);
/* Slots from 1 on; the method has set slot[0]. LQ_E_SHAPE: a codeword does not divide the width, or a
 * dimension has no full rotation. */
lq_status lq_lcqat_layout(const lq_lcqat_opts *o, const char *who, size_t out, size_t in,
                          lq_slot *slot, size_t *n_slots);
/* UniSVQ: codes (out,in) and the slots from 1 on. su and sv: random signs, or where the slot is not zero,
 * the signs of what it holds; likewise A, which then is the orthogonal matrix. Errors as ->init. */
lq_status lq_lcqat_start(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                         uint8_t *code, lq_arena *scratch);

/* C (out,in) of codes q (out,in), which may lie between levels. In place is allowed. */
void lq_lcqat_decode(const lq_theta *th, const float *q, float *C);
/* In place: C becomes What; dWhat becomes dC. */
void lq_lcqat_assemble(const lq_theta *th, float *C, lq_arena *scratch);
void lq_lcqat_disassemble(const lq_theta *th, float *dw, lq_arena *scratch);
/* Adds the gradients of the slots from 1 on, where grad is not NULL, given dw, codes q and dC. */
void lq_lcqat_backward(const lq_theta *th, const float *dw, const float *q, const float *dC,
                       float *const *grad, lq_arena *scratch);
/* dq (out,in) = A' dC. In place is allowed. */
void lq_lcqat_code_gradient(const lq_theta *th, const float *dC, float *dq);

/* codes (rows padded to whole bytes) | SU bf16 (in) | SV bf16 (out) | s_c, o_c bf16, or A, B fp16. */
lq_status lq_lcqat_pack(const lq_theta *th, const uint8_t *code, lq_sink *bytes);
lq_status lq_lcqat_unpack(lq_theta *th, lq_source *bytes, uint8_t *code);
void lq_lcqat_round_scales(lq_theta *th); /* to what ships */

size_t lq_lcqat_levels(const lq_lcqat_opts *o);

#endif
