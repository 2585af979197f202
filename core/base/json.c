#include "core/base/json.h"

#include "core/base/file.h"

#include <cjson/cJSON.h>

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };
static const double exact_below = 0x1p53; /* whole numbers up to here are themselves in a double */

/* For the builders and writers: small documents, whose callers could do nothing about it. */
static void *need(void *p)
{
    if (!p) {
        fputs("lcqat: out of memory for a JSON document\n", stderr);
        abort();
    }
    return p;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

/* The members of an object, sorted by key; the caller frees. */
static const cJSON **sorted_members(const cJSON *object, size_t n)
{
    const cJSON **list = need(malloc((n ? n : 1) * sizeof *list));
    size_t i = 0;
    for (const cJSON *member = object->child; member; member = member->next)
        list[i++] = member;
    qsort(list, n, sizeof *list, by_key);
    return list;
}

/* Sorted, since a vocabulary has a hundred thousand keys. */
static lq_status refuse_duplicates(const cJSON *object, const char *where)
{
    size_t n = lq_json_count(object);
    if (n < 2)
        return LQ_OK;
    const cJSON **list = sorted_members(object, n);
    lq_status status = LQ_OK;
    for (size_t i = 1; i < n && status == LQ_OK; i++)
        if (strcmp(list[i - 1]->string, list[i]->string) == 0)
            status = lq_fail(LQ_E_FORMAT, "%s: key \"%.200s\" stands twice in one object", where,
                             list[i]->string);
    free(list);
    return status;
}

/* What the grammar cannot say: keys that differ, numbers that fit. */
static lq_status check_tree(const cJSON *node, const char *where)
{
    if (cJSON_IsNumber(node) && !isfinite(node->valuedouble))
        return lq_fail(LQ_E_FORMAT, "%s: a number is too large for a double", where);
    if (cJSON_IsObject(node))
        LQ_TRY(refuse_duplicates(node, where));
    for (const cJSON *child = node->child; child; child = child->next)
        LQ_TRY(check_tree(child, where));
    return LQ_OK;
}

lq_status lq_json_parse(const char *text, size_t n, const char *where, lq_json **out)
{
    *out = NULL;
    LQ_TRY(lq_json_check(text, n, where, DEEPEST));
    const char *end = NULL;
    cJSON *document = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    if (!document)
        return lq_fail(LQ_E_FORMAT, "%s: a number of 64 characters or more, or out of memory",
                       where);
    for (; end < text + n; end++)
        LQ_ASSERT(memchr(" \t\n\r", *end, 4)); /* the check has seen to it */
    lq_status status = check_tree(document, where);
    if (status != LQ_OK)
        cJSON_Delete(document);
    else
        *out = document;
    return status;
}

lq_status lq_json_read(const char *path, lq_json **out)
{
    *out = NULL;
    lq_arena arena = {0};
    char *text = NULL;
    size_t n = 0;
    lq_status status = lq_file_read(path, &arena, &text, &n);
    if (status == LQ_OK)
        status = lq_json_parse(text, n, path, out);
    lq_arena_close(&arena);
    return status;
}

void lq_json_free(lq_json *document) { cJSON_Delete(document); }

lq_json *lq_json_copy(const lq_json *node)
{
    cJSON *copy = cJSON_Duplicate(node, 1);
    if (copy && copy->string) { /* a document of its own is nobody's member */
        cJSON_free(copy->string);
        copy->string = NULL;
    }
    return copy;
}

lq_json_kind lq_json_type(const lq_json *node)
{
    if (cJSON_IsBool(node))
        return LQ_JSON_BOOL;
    if (cJSON_IsNumber(node))
        return LQ_JSON_NUMBER;
    if (cJSON_IsString(node))
        return LQ_JSON_STRING;
    if (cJSON_IsArray(node))
        return LQ_JSON_ARRAY;
    return cJSON_IsObject(node) ? LQ_JSON_OBJECT : LQ_JSON_NULL;
}

const lq_json *lq_json_get(const lq_json *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

const lq_json *lq_json_first(const lq_json *node) { return node ? node->child : NULL; }
const lq_json *lq_json_next(const lq_json *node) { return node ? node->next : NULL; }

size_t lq_json_count(const lq_json *node)
{
    size_t n = 0;
    for (const cJSON *child = lq_json_first(node); child; child = child->next)
        n++;
    return n;
}

const lq_json *lq_json_at(const lq_json *node, size_t index)
{
    const cJSON *child = lq_json_first(node);
    while (child && index-- > 0)
        child = child->next;
    return child;
}

const char *lq_json_key(const lq_json *node) { return node && node->string ? node->string : ""; }

const char *lq_json_string(const lq_json *node)
{
    return cJSON_IsString(node) ? node->valuestring : NULL;
}

double lq_json_number(const lq_json *node)
{
    return cJSON_IsNumber(node) ? node->valuedouble : (double)NAN;
}

bool lq_json_true(const lq_json *node) { return cJSON_IsTrue(node); }

lq_status lq_json_size(const lq_json *object, const char *where, const char *key, size_t lowest,
                       size_t highest, size_t fallback, size_t *out)
{
    *out = fallback;
    const cJSON *node = lq_json_get(object, key);
    if (!node)
        return LQ_OK;
    double value = lq_json_number(node);
    bool whole = value >= 0.0 && value <= exact_below && floor(value) == value;
    if (!whole || (size_t)value < lowest || (size_t)value > highest)
        return lq_fail(LQ_E_OPTION, "%s: %s: expected a whole number from %zu to %zu", where, key,
                       lowest, highest);
    *out = (size_t)value;
    return LQ_OK;
}

lq_status lq_json_real(const lq_json *object, const char *where, const char *key, double lowest,
                       double highest, double fallback, double *out)
{
    *out = fallback;
    const cJSON *node = lq_json_get(object, key);
    if (!node)
        return LQ_OK;
    double value = lq_json_number(node);
    if (!(value >= lowest && value <= highest))
        return lq_fail(LQ_E_OPTION, "%s: %s: expected a number from %g to %g", where, key, lowest,
                       highest);
    *out = value;
    return LQ_OK;
}

lq_status lq_json_bool(const lq_json *object, const char *where, const char *key, bool fallback,
                       bool *out)
{
    *out = fallback;
    const cJSON *node = lq_json_get(object, key);
    if (!node)
        return LQ_OK;
    if (!cJSON_IsBool(node))
        return lq_fail(LQ_E_OPTION, "%s: %s: expected true or false", where, key);
    *out = cJSON_IsTrue(node);
    return LQ_OK;
}

lq_status lq_json_text(const lq_json *object, const char *where, const char *key,
                       const char *fallback, const char **out)
{
    *out = fallback;
    const cJSON *node = lq_json_get(object, key);
    if (!node && !fallback)
        return lq_fail(LQ_E_OPTION, "%s: %s is missing", where, key);
    if (!node)
        return LQ_OK;
    if (!cJSON_IsString(node))
        return lq_fail(LQ_E_OPTION, "%s: %s: expected a string", where, key);
    *out = node->valuestring;
    return LQ_OK;
}

lq_status lq_json_only_keys(const lq_json *object, const char *where, ...)
{
    if (!cJSON_IsObject(object))
        return lq_fail(LQ_E_OPTION, "%s: expected an object", where);
    for (const cJSON *member = object->child; member; member = member->next) {
        bool known = false;
        char list[640] = "";
        size_t used = 0;
        va_list keys;
        va_start(keys, where);
        for (const char *key; !known && (key = va_arg(keys, const char *));) {
            known = strcmp(member->string, key) == 0;
            if (used < sizeof list)
                used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                                         key);
        }
        va_end(keys);
        if (!known)
            return lq_fail(LQ_E_OPTION, "%s: unknown key \"%.100s\"; known: %s", where,
                           member->string, list);
    }
    return LQ_OK;
}

lq_json *lq_json_object(void) { return need(cJSON_CreateObject()); }
lq_json *lq_json_array(void) { return need(cJSON_CreateArray()); }
lq_json *lq_json_of_bool(bool value) { return need(cJSON_CreateBool(value)); }

lq_json *lq_json_of_number(double value)
{
    if (isfinite(value))
        return need(cJSON_CreateNumber(value));
    return lq_json_of_string(isnan(value) ? "NaN" : value > 0.0 ? "Infinity" : "-Infinity");
}

/* JSON is UTF-8; a path need not be. What is not valid is shown as '?', byte by byte. */
lq_json *lq_json_of_string(const char *text)
{
    cJSON *node = need(cJSON_CreateString(text));
    if (!lq_utf8_valid(text, strlen(text)))
        for (char *c = node->valuestring; *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
    return node;
}

void lq_json_set(lq_json *object, const char *key, lq_json *value)
{
    LQ_ASSERT(cJSON_IsObject(object) && value);
    bool done = cJSON_GetObjectItemCaseSensitive(object, key)
                    ? cJSON_ReplaceItemInObjectCaseSensitive(object, key, value)
                    : cJSON_AddItemToObject(object, key, value);
    (void)need(done ? value : NULL);
}

void lq_json_set_number(lq_json *object, const char *key, double value)
{
    lq_json_set(object, key, lq_json_of_number(value));
}

void lq_json_set_string(lq_json *object, const char *key, const char *text)
{
    lq_json_set(object, key, lq_json_of_string(text));
}

void lq_json_set_bool(lq_json *object, const char *key, bool value)
{
    lq_json_set(object, key, lq_json_of_bool(value));
}

lq_json *lq_json_member(lq_json *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

void lq_json_append(lq_json *array, lq_json *value)
{
    LQ_ASSERT(cJSON_IsArray(array) && value);
    (void)need(cJSON_AddItemToArray(array, value) ? value : NULL);
}

/* Text that grows. */
typedef struct text {
    char *at;
    size_t used, room;
    bool pretty;
} text;

static void put(text *t, const char *bytes, size_t n)
{
    if (n > t->room - t->used) {
        t->room = 2 * t->room + n;
        t->at = need(realloc(t->at, t->room));
    }
    memcpy(t->at + t->used, bytes, n);
    t->used += n;
}

static void put_line(text *t, size_t depth)
{
    if (!t->pretty)
        return;
    put(t, "\n", 1);
    while (depth-- > 0)
        put(t, "  ", 2);
}

static void put_string(text *t, const char *string)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    put(t, "\"", 1);
    for (const char *c = string; *c; c++) {
        char escape[8];
        const char *known = strchr(special, *c);
        int n = 0;
        if (known)
            n = snprintf(escape, sizeof escape, "\\%c", letter[known - special]);
        else if ((unsigned char)*c < 0x20)
            n = snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*c);
        put(t, n ? escape : c, n ? (size_t)n : 1);
    }
    put(t, "\"", 1);
}

static void put_number(text *t, double value)
{
    char digits[64];
    LQ_ASSERT(isfinite(value));
    int precision = fpclassify(value) == FP_SUBNORMAL ? 1 : 15; /* 15 digits always come back */
    if (fabs(value) < exact_below && floor(value) == value)
        snprintf(digits, sizeof digits, "%.0f", value);
    else
        do
            snprintf(digits, sizeof digits, "%.*g", precision, value);
        while (strtod(digits, NULL) != value && precision++ < 17);
    put(t, digits, strlen(digits));
}

static void put_node(text *t, const cJSON *node, size_t depth);

/* Pretty text keeps an array of plain values on one line: a loss curve stays one. */
static void put_array(text *t, const cJSON *node, size_t depth)
{
    bool plain = true;
    for (const cJSON *child = node->child; child; child = child->next)
        plain = plain && !child->child;
    put(t, "[", 1);
    for (const cJSON *child = node->child; child; child = child->next) {
        if (!plain)
            put_line(t, depth + 1);
        put_node(t, child, depth + 1);
        if (child->next)
            put(t, ", ", t->pretty && plain ? 2 : 1);
    }
    if (!plain)
        put_line(t, depth);
    put(t, "]", 1);
}

static void put_object(text *t, const cJSON *node, size_t depth)
{
    size_t n = lq_json_count(node);
    const cJSON **sorted = t->pretty ? NULL : sorted_members(node, n);
    const cJSON *member = node->child;
    put(t, "{", 1);
    for (size_t i = 0; i < n; i++, member = member->next) {
        const cJSON *next = sorted ? sorted[i] : member;
        put_line(t, depth + 1);
        put_string(t, next->string);
        put(t, ": ", t->pretty ? 2 : 1);
        put_node(t, next, depth + 1);
        if (i + 1 < n)
            put(t, ",", 1);
    }
    if (n > 0)
        put_line(t, depth);
    put(t, "}", 1);
    free(sorted);
}

static void put_node(text *t, const cJSON *node, size_t depth)
{
    if (cJSON_IsObject(node))
        put_object(t, node, depth);
    else if (cJSON_IsArray(node))
        put_array(t, node, depth);
    else if (cJSON_IsString(node))
        put_string(t, node->valuestring);
    else if (cJSON_IsNumber(node))
        put_number(t, node->valuedouble);
    else if (cJSON_IsBool(node))
        put(t, cJSON_IsTrue(node) ? "true" : "false", cJSON_IsTrue(node) ? 4 : 5);
    else
        put(t, "null", 4);
}

static char *finish(text *t, lq_arena *arena)
{
    put(t, "", 1); /* the NUL */
    char *copy = need(lq_arena_alloc(arena, t->used));
    memcpy(copy, t->at, t->used);
    free(t->at);
    return copy;
}

char *lq_json_canonical(const lq_json *node, lq_arena *arena)
{
    text t = {0};
    put_node(&t, node, 0);
    return finish(&t, arena);
}

char *lq_json_pretty(const lq_json *node, lq_arena *arena)
{
    text t = {.pretty = true};
    put_node(&t, node, 0);
    put(&t, "\n", 1);
    return finish(&t, arena);
}
