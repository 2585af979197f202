/* The tokenizer of a path: what core/text reads, or the vocabulary inside a GGUF file. */
#ifndef LQ_EXPERIMENTS_TOKENIZER_H
#define LQ_EXPERIMENTS_TOKENIZER_H

#include "core/text/tokenizer.h"

/* What a packed model of a GGUF file has of its tokenizer: the file's values, without tensors. */
#define LQ_KEPT_TOKENIZER "tokenizer.gguf"

/* PATH is a directory, a file of lq_tokenizer_open, or a GGUF file, with or without tensors. LQ_E_MISSING,
 * LQ_E_FORMAT. Owned: lq_tokenizer_free. */
lq_status lq_open_tokenizer(const char *path, lq_tokenizer **out);

#endif
