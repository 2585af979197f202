/* JSON, strict: the only door to cJSON. A value is a borrowed node of an owned document.
 *
 *     lq_json *doc;
 *     LQ_TRY(lq_json_read("spec.json", &doc));                // duplicate keys, trailing text: errors
 *     LQ_TRY(lq_json_only_keys(doc, "spec.json", "seed", "model", NULL));
 *     const lq_json *models = lq_json_get(doc, "model");      // NULL when absent
 *     lq_json_free(doc); */
#ifndef LQ_BASE_JSON_H
#define LQ_BASE_JSON_H

#include "core/base/arena.h"
#include "core/base/status.h"

typedef struct cJSON lq_json;

typedef enum lq_json_kind {
    LQ_JSON_NULL,
    LQ_JSON_BOOL,
    LQ_JSON_NUMBER,
    LQ_JSON_STRING,
    LQ_JSON_ARRAY,
    LQ_JSON_OBJECT
} lq_json_kind;

/* Parses n bytes. `where` names the text in notes. LQ_E_FORMAT: not JSON, trailing text, a key twice
 * in one object, a NUL byte, a number too large for a double (or of 64 characters and more), or
 * nesting deeper than 64. Owned: lq_json_free. */
lq_status lq_json_parse(const char *text, size_t n, const char *where, lq_json **out);
lq_status lq_json_read(const char *path, lq_json **out); /* also LQ_E_MISSING, LQ_E_IO */
/* The grammar alone, nothing built: UTF-8, no NUL (written or escaped), at most `deepest` brackets
 * inside one another. Keys are not compared. LQ_E_FORMAT with the byte where it breaks. */
lq_status lq_json_check(const char *text, size_t n, const char *where, unsigned deepest);
bool lq_utf8_valid(const char *text, size_t n);
void lq_json_free(lq_json *document);       /* NULL is fine */
lq_json *lq_json_copy(const lq_json *node); /* owned; NULL when memory is out */

lq_json_kind lq_json_type(const lq_json *node);
const lq_json *lq_json_get(const lq_json *object, const char *key); /* NULL: absent or no object */
size_t lq_json_count(const lq_json *node);                          /* of an array or object */
const lq_json *lq_json_at(const lq_json *node, size_t index);
const lq_json *lq_json_first(const lq_json *node); /* the children in order, without a search: */
const lq_json *lq_json_next(const lq_json *node);  /* first, next, next, ..., NULL */
const char *lq_json_key(const lq_json *node);      /* of a member of an object; else "" */
const char *lq_json_string(const lq_json *node);   /* NULL when it is no string */
double lq_json_number(const lq_json *node);        /* NaN when it is no number */
bool lq_json_true(const lq_json *node);            /* only for a true */

/* Typed members. `where` stands in the note before the key. A member that is absent takes `fallback`;
 * LQ_E_OPTION when it has another type, lies outside lowest..highest, or is no whole number (size). */
lq_status lq_json_size(const lq_json *object, const char *where, const char *key, size_t lowest,
                       size_t highest, size_t fallback, size_t *out);
lq_status lq_json_real(const lq_json *object, const char *where, const char *key, double lowest,
                       double highest, double fallback, double *out);
lq_status lq_json_bool(const lq_json *object, const char *where, const char *key, bool fallback,
                       bool *out);
/* Borrowed from the document; NULL fallback makes the key required. */
lq_status lq_json_text(const lq_json *object, const char *where, const char *key,
                       const char *fallback, const char **out);
/* LQ_E_OPTION naming the first key that is not in the NULL-terminated list (and the list). */
lq_status lq_json_only_keys(const lq_json *object, const char *where, ...);

/* Building. Setters replace an old member; all abort when memory is out (small documents). */
lq_json *lq_json_object(void);
lq_json *lq_json_array(void);
lq_json *lq_json_of_number(double value); /* non-finite becomes "NaN", "Infinity", "-Infinity" */
lq_json *lq_json_of_string(const char *text);
lq_json *lq_json_of_bool(bool value);
void lq_json_set(lq_json *object, const char *key, lq_json *value); /* takes the value over */
void lq_json_set_number(lq_json *object, const char *key, double value);
void lq_json_set_string(lq_json *object, const char *key, const char *text);
void lq_json_set_bool(lq_json *object, const char *key, bool value);
void lq_json_append(lq_json *array, lq_json *value);       /* takes the value over */
lq_json *lq_json_member(lq_json *object, const char *key); /* to change it; NULL: absent */

/* Text of a node, in the arena. Canonical: keys sorted by bytes, no blanks, numbers as the shortest
 * decimal that reads back the same (whole numbers below 2^53 without exponent): one text a value. */
char *lq_json_canonical(const lq_json *node, lq_arena *arena);
char *lq_json_pretty(const lq_json *node,
                     lq_arena *arena); /* two-blank indent, order kept, ends in LF */

#endif
