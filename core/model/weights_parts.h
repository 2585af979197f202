/* Between weights.c and the readers of each format. */
#ifndef LQ_MODEL_WEIGHTS_PARTS_H
#define LQ_MODEL_WEIGHTS_PARTS_H

#include "core/model/weights.h"

/* lq_weights_new in two steps, so that a reader can hold the list of tensors against its file before the
 * memory for them is asked for. */
lq_status lq_weights_list(const lq_config *config, lq_arena *arena, lq_weights *out);
lq_status lq_weights_place(lq_weights *w, lq_arena *arena);

/* Rotary pairs side by side (2i, 2i+1), as llama2.c and GGUF files of Llama store the rows of q and k: the
 * place of row r in ours, where i pairs with i + dh/2. */
size_t lq_rotate_half_row(size_t r, size_t dh);

#endif
