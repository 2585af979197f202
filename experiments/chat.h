/* What the files of a model say beyond its tokens: which of them end a text, and how a question is put.
 *
 *     LQ_TRY(lq_ends_of(&model, arena, &ends));
 *     LQ_TRY(lq_chat_choose(&model, &ends, LQ_CHAT_AUTO, text, arena, &chat, &note));
 *     text = chat.family != NULL ? chat.prompt : text;                     // and `note` is for the user
 *
 * Sources are the model's own files and, where another tokenizer was asked for, that one's. */
#ifndef LQ_EXPERIMENTS_CHAT_H
#define LQ_EXPERIMENTS_CHAT_H

#include "core/text/chat.h"
#include "experiments/model.h"

enum { LQ_MAX_ENDS = 64 };
typedef struct lq_ends {
    uint32_t id[LQ_MAX_ENDS];
    size_t n;
} lq_ends;

/* Of a directory: eos_token_id of config.json and of generation_config.json, a number or a list, and
 * eos_token of tokenizer_config.json. Of a GGUF file: tokenizer.ggml.{eos,eot,eom}_token_id. Of llama2.c: BOS,
 * with which the next story begins. Always: the tokenizer's end of text. LQ_E_FORMAT: more than LQ_MAX_ENDS,
 * or a file that cannot be read. */
lq_status lq_ends_of(const lq_model *model, lq_arena *arena, lq_ends *out);

/* The token that begins a text, also where the tokenizer puts none: bos_token_id of config.json or of a GGUF
 * file, bos_token of tokenizer_config.json. UINT32_MAX: none is named. */
lq_status lq_bos_of(const lq_model *model, lq_arena *arena, uint32_t *out);

/* The chat template: chat_template.jinja or tokenizer_config.json of a directory, tokenizer.chat_template of a
 * GGUF file; *where says which. NULL: there is none. */
lq_status lq_chat_template(const lq_model *model, lq_arena *arena, const char **text,
                           const char **where);

typedef enum lq_chat_wish {
    LQ_CHAT_AUTO,  /* where the model was made to answer: below */
    LQ_CHAT_NEVER, /* --no-chat */
    LQ_CHAT_ALWAYS /* --chat */
} lq_chat_wish;

/* Puts the user's text as the template does, or leaves out->family NULL: the text stays as it is. Base models
 * may carry the template of their family, too. A model was made to answer when the token that ends an answer
 * is among its ends. *note, one line, says what was done and why; NULL: the model has no template, nothing to
 * say. LQ_CHAT_ALWAYS: LQ_E_MISSING without a template, LQ_E_UNAVAILABLE when its family is not known,
 * LQ_E_FORMAT when the tokenizer does not have the family's tokens. */
lq_status lq_chat_choose(const lq_model *model, const lq_ends *ends, lq_chat_wish wish,
                         const char *user, lq_arena *arena, lq_chat *out, const char **note);

#endif
