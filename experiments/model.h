/* MODEL of the command line: a teacher of the repository by name, a Hugging Face directory, a packed
 * model of ours, or a checkpoint of the released LC-QAT code. The floor where files, tokenizer, weights and methods meet. */
#ifndef LQ_EXPERIMENTS_MODEL_H
#define LQ_EXPERIMENTS_MODEL_H

#include "core/base/sha256.h"
#include "core/text/tokenizer.h"
#include "core/train/qmodel.h"

typedef struct lq_model {
    const char *name, *dir;
    lq_digest digest;    /* of model.safetensors, or of packed.safetensors */
    lq_qmodel q;         /* q.method is NULL for a full-precision model */
    lq_packed_size size; /* of a packed model; zeros otherwise */
    lq_tokenizer *tok;   /* owned: lq_model_close */
} lq_model;

/* The directory of MODEL: itself when it is one, else datasets/teachers/MODEL beside the working
 * directory or the program. LQ_E_MISSING names the known ones. */
lq_status lq_model_dir(const char *model, lq_arena *arena, const char **dir);
lq_status lq_model_open(const char *model, lq_arena *arena, lq_model *out);
void lq_model_close(lq_model *model);
/* Only the tokenizer and the digest: what resolving a run needs. */
lq_status lq_model_peek(const char *model, lq_arena *arena, lq_model *out);
/* Copies tokenizer.json of the model into DIR. */
lq_status lq_model_copy_tokenizer(const lq_model *model, const char *dir);

#endif
