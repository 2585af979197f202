/* GGUF files, versions 2 and 3: memory-mapped, every length, count and offset checked before it is followed.
 *
 *     lq_gguf file;
 *     LQ_TRY(lq_gguf_open("model.gguf", arena, &file));
 *     LQ_TRY(lq_gguf_text(&file, "general.architecture", NULL, arena, &arch));   // NULL: required
 *     LQ_TRY(lq_gguf_size(&file, "llama.block_count", 1, 4096, 0, &L));
 *     LQ_TRY(lq_gguf_strings(&file, "tokenizer.ggml.tokens", arena, &token, &n_tokens));
 *     const lq_gguf_tensor *t = lq_gguf_tensor_find(&file, "token_embd.weight");
 *     for (size_t r = 0; r < t->rows; r++)
 *         lq_gguf_row(t, r, out + r * t->cols);
 *     lq_gguf_close(&file);
 *
 * A file may hold metadata alone (a vocabulary). Layout: docs/formats.md. */
#ifndef LQ_DATA_GGUF_H
#define LQ_DATA_GGUF_H

#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/base/status.h"

#include <stdint.h>

typedef enum lq_gguf_type { /* of a value; the numbers of the format */
                            LQ_GGUF_U8,
                            LQ_GGUF_I8,
                            LQ_GGUF_U16,
                            LQ_GGUF_I16,
                            LQ_GGUF_U32,
                            LQ_GGUF_I32,
                            LQ_GGUF_F32,
                            LQ_GGUF_BOOL,
                            LQ_GGUF_STRING,
                            LQ_GGUF_ARRAY, /* only in the file: a value says is_array */
                            LQ_GGUF_U64,
                            LQ_GGUF_I64,
                            LQ_GGUF_F64,
                            LQ_GGUF_N_TYPES
} lq_gguf_type;

typedef struct lq_gguf_string { /* borrowed from the map: no NUL after it, maybe one inside */
    const char *data;
    size_t bytes;
} lq_gguf_string;

typedef struct lq_gguf_value {
    const char *key;
    lq_gguf_type type; /* of the value, or of the elements of an array */
    bool is_array;
    size_t n; /* elements; 1 for what is no array */
    const uint8_t
        *data; /* in the map, unaligned: numbers side by side, or strings (u64 length, bytes) */
} lq_gguf_value;

typedef struct lq_gguf_tensor {
    const char *name;
    uint32_t type;     /* the format's number; lq_gguf_type_name */
    size_t rank;       /* 1..4 */
    size_t rows, cols; /* cols: the fastest dimension; rows: the product of the others */
    size_t bytes;
    const uint8_t *data; /* in the map */
} lq_gguf_tensor;

typedef struct lq_gguf {
    const char *path;
    lq_map map;
    uint32_t version;
    size_t alignment;
    size_t n_values, n_tensors;
    size_t values_at, values_end; /* bytes of the file */
    lq_gguf_value *value;         /* (n_values) in file order */
    lq_gguf_tensor *tensor;       /* (n_tensors) in file order */
} lq_gguf;

/* LQ_E_MISSING, LQ_E_IO, LQ_E_FORMAT (which rule, which key or tensor), LQ_E_UNAVAILABLE (a tensor of a type
 * that is not computed, by name). The arena holds names and lists; lq_gguf_close unmaps. */
lq_status lq_gguf_open(const char *path, lq_arena *arena, lq_gguf *out);
void lq_gguf_close(lq_gguf *file);
/* A file with the same values and no tensors: the tokenizer of a GGUF model, to lie beside a packed one.
 * LQ_E_IO; what was at the path stays until the new file is whole. */
lq_status lq_gguf_write_values(const lq_gguf *file, const char *path);
/* Whether the file begins with the format's magic; false too when it cannot be read. */
bool lq_gguf_is_one(const char *path);

const lq_gguf_value *lq_gguf_find(const lq_gguf *file, const char *key); /* or NULL */
/* Typed values. Absent: `fallback`. LQ_E_FORMAT: of another type, an array, or outside lowest..highest. Any
 * integer type will do for a size, and for a real number also the integers. */
lq_status lq_gguf_size(const lq_gguf *file, const char *key, size_t lowest, size_t highest,
                       size_t fallback, size_t *out);
lq_status lq_gguf_real(const lq_gguf *file, const char *key, double lowest, double highest,
                       double fallback, double *out);
lq_status lq_gguf_bool(const lq_gguf *file, const char *key, bool fallback, bool *out);
/* A copy with a NUL after it, in the arena; a NUL inside is LQ_E_FORMAT. NULL fallback: LQ_E_MISSING when
 * absent. */
lq_status lq_gguf_text(const lq_gguf *file, const char *key, const char *fallback, lq_arena *arena,
                       const char **out);
/* Arrays, in the arena. Absent: NULL and n = 0. LQ_E_FORMAT: no array, or of another element type (i32s: any
 * integers that fit; f32s: F32 or F64). */
lq_status lq_gguf_strings(const lq_gguf *file, const char *key, lq_arena *arena,
                          lq_gguf_string **out, size_t *n);
lq_status lq_gguf_i32s(const lq_gguf *file, const char *key, lq_arena *arena, int32_t **out,
                       size_t *n);
lq_status lq_gguf_f32s(const lq_gguf *file, const char *key, lq_arena *arena, float **out,
                       size_t *n);

const lq_gguf_tensor *lq_gguf_tensor_find(const lq_gguf *file, const char *name); /* or NULL */
/* Row `row` of the tensor as floats (cols), bit for bit what the reference code of the format gives. */
void lq_gguf_row(const lq_gguf_tensor *tensor, size_t row, float *out);

/* Types of tensors, by the format's number. Only those that this program computes are `known`. */
bool lq_gguf_type_known(uint32_t type, size_t *block_elements, size_t *block_bytes);
const char *lq_gguf_type_name(uint32_t type); /* "Q4_K"; NULL: never heard of */

#endif
