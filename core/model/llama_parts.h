/* Shared by the forward and the backward. */
#ifndef LQ_MODEL_LLAMA_PARTS_H
#define LQ_MODEL_LLAMA_PARTS_H

enum { LQ_HEAD_CHUNK = 256 }; /* rows of logits that exist at once */

#endif
