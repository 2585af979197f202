#include "core/data/safetensors_header.h"

#include "core/base/json.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32 };

/* Walks text that lq_json_check has passed, so each step may rely on the grammar. */
typedef struct cursor {
    const char *at;
    const char *path;
    lq_arena *arena;
} cursor;

static void skip_blanks(cursor *c) { c->at += strspn(c->at, " \t\n\r"); }

/* Eats `byte` and the blanks before it, if it comes next. */
static bool eat(cursor *c, char byte)
{
    skip_blanks(c);
    if (*c->at != byte)
        return false;
    c->at++;
    return true;
}

static unsigned hex_unit(const char *at)
{
    unsigned unit = 0;
    for (int i = 0; i < 4; i++) {
        unsigned byte = (unsigned char)at[i];
        unit = unit * 16 + (byte <= '9' ? byte - '0' : (byte | 0x20) - 'a' + 10);
    }
    return unit;
}

static char *put_utf8(char *to, unsigned code)
{
    unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(lead[more] | code >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

/* The escape after the backslash at c->at[-1], written as UTF-8. */
static char *unescape(cursor *c, char *to)
{
    static const char letter[] = "bfnrt", meaning[] = "\b\f\n\r\t";
    char kind = *c->at++;
    const char *known = strchr(letter, kind);
    if (known) {
        *to++ = meaning[known - letter];
        return to;
    }
    if (kind != 'u') {
        *to++ = kind; /* a quote, a backslash or a slash */
        return to;
    }
    unsigned code = hex_unit(c->at);
    c->at += 4;
    if (code >= 0xd800 && code <= 0xdbff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (hex_unit(c->at + 2) - 0xdc00);
        c->at += 6;
    }
    return put_utf8(to, code);
}

/* The string that comes next, without its quotes: its bytes as they stand in the file. */
static size_t skip_string(cursor *c)
{
    skip_blanks(c);
    const char *first = ++c->at;
    while (*c->at != '"')
        c->at += *c->at == '\\' ? 2 : 1;
    return (size_t)(c->at++ - first);
}

static lq_status take_string(cursor *c, const char **out)
{
    cursor from = *c;
    size_t raw = skip_string(c); /* never shorter than what it means */
    char *text = lq_arena_alloc(c->arena, raw + 1);
    if (!text)
        return LQ_E_MEMORY;
    *out = text;
    skip_blanks(&from);
    from.at++;
    while (from.at < c->at - 1) {
        if (*from.at != '\\') {
            *text++ = *from.at++;
            continue;
        }
        from.at++;
        text = unescape(&from, text);
    }
    *text = '\0';
    return LQ_OK;
}

/* A value of any kind. */
static void skip_value(cursor *c)
{
    size_t open = 0;
    do {
        skip_blanks(c);
        char byte = *c->at;
        if (byte == '"') {
            (void)skip_string(c);
        } else if (byte == '{' || byte == '[') {
            open++;
            c->at++;
        } else if (byte == '}' || byte == ']') {
            open--;
            c->at++;
        } else if (byte == ',' || byte == ':') {
            c->at++;
        } else {
            c->at += strcspn(c->at, ",:]} \t\n\r");
        }
    } while (open > 0);
}

/* A whole number that is not negative and fits size_t, without fraction, exponent or sign. */
static bool take_size(cursor *c, size_t *out)
{
    skip_blanks(c);
    size_t value = 0;
    const char *first = c->at;
    for (; *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(*c->at - '0'), &value))
            return false;
    *out = value;
    return c->at > first && memchr(",] \t\n\r", *c->at, 6);
}

/* An array of at most `most` such numbers. */
static bool take_sizes(cursor *c, size_t *list, size_t most, size_t *n)
{
    *n = 0;
    if (!eat(c, '['))
        return false;
    if (eat(c, ']'))
        return true;
    do {
        if (*n == most || !take_size(c, &list[*n]))
            return false;
        (*n)++;
    } while (eat(c, ','));
    return eat(c, ']');
}

static bool find_dtype(const char *text, lq_dtype *out)
{
    for (int i = 0; i <= (int)LQ_DTYPE_U64; i++) {
        *out = (lq_dtype)i;
        if (strcmp(text, lq_dtype_name(*out)) == 0)
            return true;
    }
    return false;
}

bool lq_tensor_sizes(lq_tensor *tensor)
{
    tensor->elements = 1;
    for (size_t i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(tensor->elements, tensor->shape[i], &tensor->elements))
            return false;
    return !__builtin_mul_overflow(tensor->elements, lq_dtype_bytes(tensor->dtype), &tensor->bytes);
}

static lq_status bad(const cursor *c, const lq_header_entry *e, const char *what)
{
    return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s: %s", c->path, e->tensor.name, what);
}

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

/* The value of one of the three keys. */
static lq_status take_field(cursor *c, const char *key, lq_header_entry *e, unsigned *has)
{
    lq_tensor *t = &e->tensor;
    unsigned bit = strcmp(key, "dtype") == 0          ? HAS_DTYPE
                   : strcmp(key, "shape") == 0        ? HAS_SHAPE
                   : strcmp(key, "data_offsets") == 0 ? HAS_OFFSETS
                                                      : 0;
    if (bit == 0 || *has & bit)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s: key %.100s %s", c->path, t->name, key,
                       bit ? "stands twice" : "is unknown");
    *has |= bit;
    skip_blanks(c);
    if (bit == HAS_DTYPE) {
        const char *text;
        if (*c->at != '"')
            return bad(c, e, "dtype is no string");
        LQ_TRY(take_string(c, &text));
        if (!find_dtype(text, &t->dtype))
            return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s: unknown dtype %.40s", c->path, t->name,
                           text);
    } else if (bit == HAS_SHAPE) {
        if (!take_sizes(c, t->shape, LQ_TENSOR_MAX_RANK, &t->rank))
            return bad(c, e, "shape is not a list of at most 8 whole numbers");
    } else {
        size_t offset[2], n;
        if (!take_sizes(c, offset, 2, &n) || n != 2 || offset[0] > offset[1])
            return bad(c, e, "data_offsets are not two whole numbers, begin <= end");
        e->begin = offset[0];
        e->end = offset[1];
    }
    return LQ_OK;
}

static lq_status take_entry(cursor *c, lq_header_entry *e)
{
    if (strlen(e->tensor.name) > LQ_SAFETENSORS_MAX_NAME)
        return bad(c, e, "the name is longer than 4096 bytes");
    if (!eat(c, '{'))
        return bad(c, e, "its description is no object");
    unsigned has = 0;
    if (!eat(c, '}')) {
        do {
            lq_mark mark = lq_arena_mark(c->arena);
            const char *key;
            LQ_TRY(take_string(c, &key));
            eat(c, ':');
            LQ_TRY(take_field(c, key, e, &has));
            lq_arena_release(c->arena, mark);
        } while (eat(c, ','));
        eat(c, '}');
    }
    if (has != HAS_ALL)
        return bad(c, e, "dtype, shape or data_offsets is missing");
    if (!lq_tensor_sizes(&e->tensor))
        return bad(c, e, "the size of its shape overflows");
    if (e->end - e->begin != e->tensor.bytes)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s: its shape takes %zu bytes, its offsets %zu",
                       c->path, e->tensor.name, e->tensor.bytes, e->end - e->begin);
    return LQ_OK;
}

/* Members of the object that comes next; the cursor stays. */
static size_t count_members(cursor c)
{
    size_t n = 0;
    eat(&c, '{');
    if (eat(&c, '}'))
        return 0;
    do {
        (void)skip_string(&c);
        eat(&c, ':');
        skip_value(&c);
        n++;
    } while (eat(&c, ','));
    return n;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *lq_first_duplicate(const char **list, size_t n)
{
    if (n > 1)
        qsort(list, n, sizeof *list, by_bytes);
    for (size_t i = 1; i < n; i++)
        if (strcmp(list[i - 1], list[i]) == 0)
            return list[i];
    return NULL;
}

static lq_status take_metadata(cursor *c, lq_header *out)
{
    skip_blanks(c);
    if (*c->at != '{')
        return lq_fail(LQ_E_FORMAT, "%s: " LQ_SAFETENSORS_METADATA " is no object", c->path);
    size_t n = count_members(*c);
    LQ_TRY(lq_arena_new(c->arena, &out->metadata_key, n));
    LQ_TRY(lq_arena_new(c->arena, &out->metadata_value, n));
    eat(c, '{');
    for (size_t i = 0; i < n; i++, eat(c, ',')) {
        LQ_TRY(take_string(c, &out->metadata_key[i]));
        eat(c, ':');
        skip_blanks(c);
        if (*c->at != '"')
            return lq_fail(LQ_E_FORMAT,
                           "%s: " LQ_SAFETENSORS_METADATA ": the value of %.200s is no string",
                           c->path, out->metadata_key[i]);
        LQ_TRY(take_string(c, &out->metadata_value[i]));
    }
    eat(c, '}');
    out->n_metadata = n;
    return LQ_OK;
}

/* No key twice: neither a tensor's, nor one of the metadata, nor two spelt differently. */
static lq_status refuse_duplicates(const cursor *c, const lq_header *h, bool metadata_twice)
{
    lq_mark mark = lq_arena_mark(c->arena);
    size_t n = h->n_entries > h->n_metadata ? h->n_entries : h->n_metadata;
    const char **list;
    LQ_TRY(lq_arena_new(c->arena, &list, n));
    for (size_t i = 0; i < h->n_entries; i++)
        list[i] = h->entry[i].tensor.name;
    const char *twice = lq_first_duplicate(list, h->n_entries);
    if (!twice && h->n_metadata > 0) {
        memcpy(list, h->metadata_key, h->n_metadata * sizeof *list);
        twice = lq_first_duplicate(list, h->n_metadata);
    }
    if (metadata_twice)
        twice = LQ_SAFETENSORS_METADATA;
    lq_status status = LQ_OK;
    if (twice)
        status = lq_fail(LQ_E_FORMAT, "%s: header: key %.200s stands twice", c->path, twice);
    lq_arena_release(c->arena, mark);
    return status;
}

lq_status lq_safetensors_parse_header(const char *text, size_t n, const char *path, lq_arena *arena,
                                      lq_header *out)
{
    *out = (lq_header){0};
    if (n == 0 || text[0] != '{')
        return lq_fail(LQ_E_FORMAT, "%s: the header does not begin with '{'", path);
    LQ_TRY(lq_json_check(text, n, path, DEEPEST));
    cursor c = {text, path, arena};
    size_t n_members = count_members(c), n_metadata_objects = 0;
    LQ_TRY(lq_arena_new(arena, &out->entry, n_members));
    eat(&c, '{');
    for (size_t i = 0; i < n_members; i++, eat(&c, ',')) {
        const char *key;
        LQ_TRY(take_string(&c, &key));
        eat(&c, ':');
        if (strcmp(key, LQ_SAFETENSORS_METADATA) == 0) {
            n_metadata_objects++;
            LQ_TRY(take_metadata(&c, out));
        } else {
            lq_header_entry *e = &out->entry[out->n_entries++];
            e->tensor.name = key;
            LQ_TRY(take_entry(&c, e));
        }
    }
    return refuse_duplicates(&c, out, n_metadata_objects > 1);
}
