/* Calibration: what the linear layers of a block read. The calibration sequences go through the model
 * block by block; the Gram matrices E[x' x] of one block exist at a time. */
#ifndef LQ_TRAIN_CALIBRATE_H
#define LQ_TRAIN_CALIBRATE_H

#include "core/data/safetensors.h"
#include "core/model/llama.h"

/* The four inputs of a block's linears, and which linears share one. */
typedef enum lq_site { LQ_SITE_QKV, LQ_SITE_O, LQ_SITE_GATE_UP, LQ_SITE_DOWN, LQ_N_SITES } lq_site;
lq_site lq_site_of(lq_layer_tensor linear);

typedef struct lq_calib_data { /* n_sequences of T tokens; borrowed */
    const uint32_t *token;
    size_t n_sequences, T;
} lq_calib_data;

typedef struct lq_grams { /* of one block */
    double *gram[LQ_N_SITES];
    size_t width[LQ_N_SITES]; /* each gram is (width,width) */
    size_t n_tokens;          /* the mean is over them */
} lq_grams;
lq_status lq_grams_new(const lq_config *config, lq_arena *arena, lq_grams *out);

typedef struct lq_passage { /* of all calibration sequences through one block after another */
    const lq_calib_data *calib;
    lq_lane *lane;
    double *wide[LQ_N_SITES]; /* one chunk of each site's inputs in double */
} lq_passage;
lq_status lq_passage_new(const lq_config *config, const lq_calib_data *calib, lq_arena *arena,
                         lq_passage *out);
/* A stream: the activations entering block 0, (n_sequences T, D), in the arena. */
lq_status lq_passage_stream(const lq_weights *w, const lq_calib_data *calib, lq_arena *arena,
                            float **out);
/* All sequences through block `layer` of w, from -> to; to may be from, or NULL: not wanted. grams, if
 * not NULL, receives E[x' x] of the block's inputs, summed up in double. */
void lq_passage_block(lq_passage *p, const lq_weights *w, size_t layer, const float *from,
                      float *to, lq_grams *grams);

/* Writes the grams of every linear's input in the full-precision model as F32 tensors
 * "<linear>.gram" (model.layers.0.self_attn.q_proj.gram), block after block; metadata: "tokens", and
 * "model" when the model's digest is given. */
lq_status lq_calibrate_to_file(const lq_weights *full, const lq_calib_data *calib,
                               const char *model_sha256, const char *path);

typedef struct lq_gram_file { /* such a file, open */
    lq_safetensors file;
    size_t n_tokens;
} lq_gram_file;
/* LQ_E_FORMAT: no such file's metadata, or grams of another model (model_sha256 may be NULL); and what
 * lq_safetensors_open says. */
lq_status lq_gram_file_open(const char *path, const char *model_sha256, lq_arena *arena,
                            lq_gram_file *out);
/* The grams of a block. LQ_E_MISSING, LQ_E_SHAPE by name; LQ_E_FORMAT: linears that read one input have
 * different grams. */
lq_status lq_gram_file_read(const lq_gram_file *file, const lq_weights *w, size_t layer,
                            lq_grams *out);
void lq_gram_file_close(lq_gram_file *file);

#endif
