/* Chat prompts: how a question is put to an instruct model. Jinja is not interpreted: a template is
 * recognized by the tokens of its family, and what the family leaves open (the system message that is
 * there when none is given) is read out of it. Any other template is refused. */
#ifndef LQ_TEXT_CHAT_H
#define LQ_TEXT_CHAT_H

#include "core/base/arena.h"

typedef struct lq_chat {
    const char *family; /* "ChatML", "Llama 3" */
    const char *prompt; /* the text up to where the answer begins, special tokens spelt out */
    const char *start;  /* the token that begins a message */
    const char *end;    /* the token that ends an answer */
} lq_chat;

/* template_text: chat_template of tokenizer_config.json; `where` names it in notes. user: one message.
 * LQ_E_UNAVAILABLE: of no family that is known. Strings are in the arena. */
lq_status lq_chat_prompt(const char *template_text, const char *where, const char *user,
                         lq_arena *arena, lq_chat *out);

#endif
