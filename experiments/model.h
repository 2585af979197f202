/* MODEL of the command line: a model of the catalog by name, fetched or of the repository, a Hugging Face directory, a packed model
 * of ours, a checkpoint of the released LC-QAT code, a GGUF file, or a llama2.c checkpoint (.bin). The floor
 * where files, tokenizer, weights and methods meet. */
#ifndef LQ_EXPERIMENTS_MODEL_H
#define LQ_EXPERIMENTS_MODEL_H

#include "core/base/sha256.h"
#include "core/text/tokenizer.h"
#include "core/train/qmodel.h"
#include "experiments/data.h"

typedef enum lq_model_form {
    LQ_MODEL_HF,     /* a directory: config.json, model.safetensors or shards */
    LQ_MODEL_PACKED, /* a directory of ours */
    LQ_MODEL_UNISVQ, /* a directory of the released LC-QAT code */
    LQ_MODEL_GGUF,
    LQ_MODEL_LLAMA2C
} lq_model_form;

typedef struct lq_model {
    const char *name;
    lq_model_form form;
    const char *path;     /* of the directory or the file */
    const char *dir;      /* the directory, or the one that the file lies in */
    lq_digest digest;     /* of the file that holds the weights; of shards: lq_shards_digest */
    lq_qmodel q;          /* q.method is NULL for a full-precision model */
    lq_packed_size size;  /* of a packed model; zeros otherwise */
    lq_tokenizer *tok;    /* owned: lq_model_close; NULL: none that this program reads */
    const char *tok_dir;  /* where it was looked for */
    const char *tok_path; /* what it was read from: that folder, or a file */
    lq_status tok_status; /* why there is none: LQ_OK when there is one */
    const char *tok_note;
} lq_model;

/* The directory of MODEL: itself when it is one, the folder of a file, else datasets/teachers/MODEL beside
 * the working directory or the program, else where the catalog's model of that name was fetched to.
 * LQ_E_MISSING says what to type. */
lq_status lq_model_dir(const char *model, lq_arena *arena, const char **dir);
/* With the tokenizer of the directory `tokenizer`, or, when that is NULL, of the model's own. A model whose
 * tokenizer cannot be read still opens: what needs text says so (lq_model_data). */
lq_status lq_model_open_with(const char *model, const char *tokenizer, lq_arena *arena,
                             lq_model *out);
lq_status lq_model_open(const char *model, lq_arena *arena, lq_model *out);
void lq_model_close(lq_model *model);
/* Only the tokenizer and the digest: what resolving a run needs. */
lq_status lq_model_peek_with(const char *model, const char *tokenizer, lq_arena *arena,
                             lq_model *out);
lq_status lq_model_peek(const char *model, lq_arena *arena, lq_model *out);
/* Only the tokenizer. Owned: lq_tokenizer_free. */
lq_status lq_model_tokenizer(const char *model, lq_arena *arena, lq_tokenizer **out);
/* LQ_OK when there is a tokenizer; else why there is none, and what to do. */
lq_status lq_model_need_text(const lq_model *model);
/* lq_data_load of DATA through the tokenizer of the model. */
lq_status lq_model_data(const lq_model *model, const char *data, lq_arena *arena, lq_data *out);
/* The same, to be scored in windows of T tokens: lq_eval_data_load. */
lq_status lq_model_eval_data(const lq_model *model, const char *data, size_t T, lq_arena *arena,
                             lq_eval_data *out);
/* Copies the files of the tokenizer that are there (tokenizer.json, its config, vocabularies, a chat
 * template, generation_config.json) into DIR. */
lq_status lq_model_copy_tokenizer(const lq_model *model, const char *dir);

/* "--tokenizer DIR" in the table of a command that reads MODEL. */
#define LQ_ARG_TOKENIZER                                                                       \
    {                                                                                          \
        "tokenizer", 0, LQ_ARG_TEXT, "DIR", "take the tokenizer of DIR instead of the model's" \
    }

#endif
