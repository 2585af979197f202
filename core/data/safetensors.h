/* safetensors files: one file, memory-mapped, every rule of the format checked before a byte is used.
 * Writing goes to a side name and is renamed. Reading converts F32, F16 and BF16 to float. */
#ifndef LQ_DATA_SAFETENSORS_H
#define LQ_DATA_SAFETENSORS_H

#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/base/status.h"

#include <stdint.h>

/* clang-format off */
/* X(name in the enum, name in the file, bits) */
#define LQ_DTYPE_LIST(X)                                                              \
    X(BOOL, "BOOL", 8) X(U8, "U8", 8) X(I8, "I8", 8) X(F8_E5M2, "F8_E5M2", 8)         \
    X(F8_E4M3, "F8_E4M3", 8) X(I16, "I16", 16) X(U16, "U16", 16) X(F16, "F16", 16)    \
    X(BF16, "BF16", 16) X(I32, "I32", 32) X(U32, "U32", 32) X(F32, "F32", 32)         \
    X(C64, "C64", 64) X(F64, "F64", 64) X(I64, "I64", 64) X(U64, "U64", 64)
/* clang-format on */
typedef enum lq_dtype {
#define X(name, text, bits) LQ_DTYPE_##name,
    LQ_DTYPE_LIST(X)
#undef X
} lq_dtype;
const char *lq_dtype_name(lq_dtype dtype);
size_t lq_dtype_bytes(lq_dtype dtype); /* of one element */

enum { LQ_TENSOR_MAX_RANK = 8 };
typedef struct lq_tensor {
    const char *name;
    lq_dtype dtype;
    size_t rank, shape[LQ_TENSOR_MAX_RANK];
    size_t elements, bytes;
    const void *data; /* in the map; may be unaligned. NULL allowed when writing 0 bytes */
} lq_tensor;

typedef struct lq_safetensors {
    const char *path;
    lq_map map;
    size_t n_tensors;
    lq_tensor *tensor; /* (n_tensors) in file order */
    size_t n_metadata;
    const char **metadata_key, **metadata_value;
} lq_safetensors;

/* LQ_E_MISSING, LQ_E_IO, LQ_E_FORMAT (which rule, which tensor). The arena holds names and list;
 * lq_safetensors_close unmaps. */
lq_status lq_safetensors_open(const char *path, lq_arena *arena, lq_safetensors *out);
void lq_safetensors_close(lq_safetensors *file);
const lq_tensor *lq_safetensors_find(const lq_safetensors *file, const char *name); /* or NULL */
const char *lq_safetensors_metadata(const lq_safetensors *file, const char *key);   /* or NULL */
/* Converts F32, F16, BF16 (and U8, I32 exactly) to float. LQ_E_FORMAT for other types. */
lq_status lq_tensor_to_f32(const lq_tensor *tensor, float *out);
/* The tensor `name` as floats of exactly this shape, in the arena. LQ_E_MISSING, LQ_E_SHAPE. */
lq_status lq_safetensors_f32(const lq_safetensors *file, const char *name, size_t rank,
                             const size_t *shape, lq_arena *arena, float **out);

/* Writes n tensors (order of the format: alignment descending, then name) and string metadata
 * (pairs key, value; n_metadata pairs). LQ_E_IO; nothing half-written is left. */
lq_status lq_safetensors_write(const char *path, const lq_tensor *tensor, size_t n,
                               const char *const *metadata, size_t n_metadata);

/* The same for more than memory holds: the list says names, types and shapes, in the order of the file
 * (one dtype, or alignment descending), then each tensor's data is put in that order. The names must stay
 * until the header is written; list and stream live in the arena. close asserts that all were put. */
typedef struct lq_safetensors_stream lq_safetensors_stream;
lq_status lq_safetensors_stream_open(const char *path, const lq_tensor *tensor, size_t n,
                                     const char *const *metadata, size_t n_metadata,
                                     lq_arena *arena, lq_safetensors_stream **out);
lq_status lq_safetensors_stream_put(lq_safetensors_stream *stream, const void *data);
lq_status lq_safetensors_stream_close(lq_safetensors_stream *stream); /* sync, rename */
void lq_safetensors_stream_abandon(lq_safetensors_stream *stream);    /* nothing is left */

/* Round-to-nearest-even conversions of one value. */
uint16_t lq_f32_to_bf16(float x);
float lq_bf16_to_f32(uint16_t x);
uint16_t lq_f32_to_f16(float x); /* overflow becomes infinity */
float lq_f16_to_f32(uint16_t x);

#endif
