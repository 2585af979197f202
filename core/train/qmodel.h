/* A transformer whose linear layers are parametrized by a method: theta per linear, effective weights
 * made from it. Without a method it is a plain full-precision model. */
#ifndef LQ_TRAIN_QMODEL_H
#define LQ_TRAIN_QMODEL_H

#include "core/model/llama.h"
#include "core/quant/method.h"

typedef struct lq_qmodel {
    lq_weights w;            /* what the transformer computes with */
    const lq_method *method; /* NULL: full precision */
    const void *opts;        /* borrowed */
    size_t n_theta;
    lq_theta *theta; /* (L * LQ_N_LINEARS): layer * LQ_N_LINEARS + linear */
} lq_qmodel;

/* A copy of the full-precision weights and, with a method, an empty theta for each linear. */
lq_status lq_qmodel_new(const lq_weights *full, const lq_method *method, const void *opts,
                        lq_arena *arena, lq_qmodel *out);
/* The same in the place of `full`: one copy of the weights instead of two. Quantization goes block by block
 * and reads a block of `full` before it writes its effective weights; afterwards there is no full-precision
 * model any more. Bytes that quantizing P parameters, W of them in linears, then takes:
 *     4 P weights; 4 W theta of a method with a latent weight (else about W);
 *     8 (2 D^2 + (H dh)^2 + F^2) Gram matrices of one block; 4 tokens D for each stream of calibration;
 *     a linear (m,n) a thread in ->init: with LDLQ about 28 n^2 + 37 m n, measured.
 * SmolLM2-1.7B by lcqat on two threads, 65536 tokens: 6.8 + 6.4 + 0.6 + 1.6 + 3.2 = 19 GB; 26 with a copy. */
lq_status lq_qmodel_take(lq_weights *full, const lq_method *method, const void *opts,
                         lq_arena *arena, lq_qmodel *out);
/* Tells every theta (of one block: lq_qmodel_begin_block) that a stage begins: lq_method.begin. */
lq_status lq_qmodel_begin(lq_qmodel *q, lq_stage stage);
lq_status lq_qmodel_begin_block(lq_qmodel *q, size_t layer, lq_stage stage);
/* Writes where training stands into theta number `first` and the n - 1 after it: step of `steps`, noise
 * split off rng. */
void lq_qmodel_at(lq_qmodel *q, size_t first, size_t n, lq_stage stage, size_t step, size_t steps,
                  const lq_rng *rng);
/* Training is over: the weights from here on are those that ship. */
void lq_qmodel_done(lq_qmodel *q, size_t first, size_t n);
/* Writes the effective weights of all linears into q->w; threads work on layers side by side. */
void lq_qmodel_refresh(lq_qmodel *q);
/* The tensor in w of a theta, by index. */
const lq_weight *lq_qmodel_weight(const lq_qmodel *q, size_t theta);

typedef struct lq_packed_size {
    double bits_per_weight;       /* packed bytes of the linears * 8 / their weights */
    double bits_per_weight_model; /* everything that ships, embeddings and norms at 16 bits */
    size_t linear_bytes, linear_weights;
} lq_packed_size;

/* DIR/{config.json, quantization.json, packed.safetensors}: the linears as the method packs them, the
 * rest as bf16. The bytes that every reported number is measured on. */
lq_status lq_artifact_write(const lq_qmodel *q, const char *dir);
typedef lq_status (*lq_method_lookup)(const char *name, const lq_method **out);
/* Reads it back: weights ready to compute with. LQ_E_MISSING, LQ_E_FORMAT (which file, which tensor). */
lq_status lq_artifact_read(const char *dir, lq_method_lookup find, lq_arena *arena, lq_qmodel *out,
                           lq_packed_size *size);
bool lq_artifact_is_one(const char *dir);

#endif
