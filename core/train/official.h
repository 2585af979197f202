/* Checkpoints of the released LC-QAT code (AI9Stars/UniSVQ 449e8e4): one safetensors file and the
 * config.json of a Qwen3 model with a few keys more. docs/formats.md draws the layout.
 *
 * Three kinds are read: packed (<linear>.weight is U8; what inference loads and what is written here),
 * trainable (<linear>.weight holds the proxy as floats), and the PTQ start (<linear>.Qidxs). What tells
 * them apart is the tensors, not model_type. All become an lcqat model with Hadamard blocks of 128, the
 * identity for G, and one scale and one offset a matrix, which is all that the layout can hold. */
#ifndef LQ_TRAIN_OFFICIAL_H
#define LQ_TRAIN_OFFICIAL_H

#include "core/train/qmodel.h"

/* The checkpoint's path (model.safetensors, else model.compressed.safetensors), in the arena; NULL when
 * DIR holds none of this kind. */
const char *lq_official_file(const char *dir, lq_arena *arena);
/* LQ_E_FORMAT, LQ_E_MISSING, LQ_E_SHAPE: what breaks the layout, by tensor or key; LQ_E_OPTION: a variant
 * that this program does not compute (another G, full-dimension Hadamard, mixed bits, a head of its own).
 * size: of the file's bytes. */
lq_status lq_official_read(const char *dir, lq_method_lookup find, lq_arena *arena, lq_qmodel *out,
                           lq_packed_size *size);
/* Writes DIR/{config.json, model.safetensors}, packed. base: path of the config.json to carry on, or NULL;
 * keys of it that the program does not know stay, and the config of a packed checkpoint stays byte for
 * byte. LQ_E_OPTION: q is none of what the layout holds, and why:
 * another method or architecture than a Qwen3 lcqat, 3 or 4 bits, a head of its own (the released loader
 * puts the embedding in its place), widths that are no multiple of 128, another transform or codebook. */
lq_status lq_official_write(const lq_qmodel *q, const char *base, const char *dir);

#endif
