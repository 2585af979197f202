/* The JSON header of a safetensors file, between the reader and its parser. Private to core/data/.
 * A parser of its own, because offsets are exact 64-bit integers and every key counts. */
#ifndef LQ_DATA_SAFETENSORS_HEADER_H
#define LQ_DATA_SAFETENSORS_HEADER_H

#include "core/data/safetensors.h"

#define LQ_SAFETENSORS_METADATA "__metadata__"
enum {
    LQ_SAFETENSORS_PREFIX = 8, /* bytes of the little-endian header length before the header */
    LQ_SAFETENSORS_MAX_HEADER = 100000000, /* the limit of the format's own library */
    LQ_SAFETENSORS_MAX_NAME = 4096
};

typedef struct lq_header_entry { /* tensor.data is not set yet */
    lq_tensor tensor;
    size_t begin, end; /* into the buffer; end - begin == tensor.bytes is checked */
} lq_header_entry;
typedef struct lq_header {
    size_t n_entries;
    lq_header_entry *entry; /* (n_entries) in the header's order */
    size_t n_metadata;
    const char **metadata_key, **metadata_value;
} lq_header;

/* Parses n bytes of header into the arena; `path` is for notes. Checks all that can be known without
 * the file's size: grammar, keys, types, shapes, and that each entry's offsets hold its shape. */
lq_status lq_safetensors_parse_header(const char *text, size_t n, const char *path, lq_arena *arena,
                                      lq_header *out);
/* bytes = product of shape times the element's size; false when it overflows. */
bool lq_tensor_sizes(lq_tensor *tensor);
/* The first string that occurs twice, or NULL. Sorts the list. */
const char *lq_first_duplicate(const char **list, size_t n);

#endif
