#include "core/quant/option.h"

#include "core/base/args.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64, MAX_WORD = 64 };

/* The i-th word of "a|b|c" into word; false when there are fewer. */
static bool choice_word(const char *choices, size_t i, char word[MAX_WORD])
{
    for (; i > 0; i--) {
        choices = strchr(choices, '|');
        if (choices == NULL)
            return false;
        choices++;
    }
    size_t length = strcspn(choices, "|");
    LQ_ASSERT(length < MAX_WORD);
    memcpy(word, choices, length);
    word[length] = '\0';
    return true;
}

static lq_status refuse_unknown(const lq_option *option, size_t n, const lq_json *object,
                                const char *where)
{
    const char *names[MAX_OPTIONS];
    LQ_ASSERT(n <= MAX_OPTIONS);
    for (size_t i = 0; i < n; i++)
        names[i] = option[i].name;
    for (const lq_json *member = lq_json_first(object); member != NULL;
         member = lq_json_next(member)) {
        const char *key = lq_json_key(member);
        bool known = false;
        for (size_t i = 0; i < n && !known; i++)
            known = strcmp(key, names[i]) == 0;
        if (known)
            continue;
        const char *nearest = lq_text_nearest(key, names, n);
        if (nearest != NULL)
            return lq_fail(LQ_E_OPTION, "%s: no option '%s'; did you mean '%s'?", where, key,
                           nearest);
        return lq_fail(LQ_E_OPTION, "%s: no option '%s'; `lcqat methods` lists them", where, key);
    }
    return LQ_OK;
}

static lq_status read_choice(const lq_option *option, const lq_json *value, const char *where,
                             int *out)
{
    const char *text = lq_json_string(value);
    char word[MAX_WORD];
    for (size_t i = 0; text != NULL && choice_word(option->choices, i, word); i++) {
        if (strcmp(text, word) == 0) {
            *out = (int)i;
            return LQ_OK;
        }
    }
    return lq_fail(LQ_E_OPTION, "%s: '%s' is '%s', must be one of %s", where, option->name,
                   text != NULL ? text : "no word", option->choices);
}

static lq_status read_one(const lq_option *option, const lq_json *object, const char *where,
                          void *member)
{
    bool given = object != NULL && lq_json_get(object, option->name) != NULL;
    double fallback = option->fallback;
    switch (option->type) {
    case LQ_OPTION_SIZE:
        LQ_ASSERT(option->lowest >= 0 && option->highest <= 0x1p53);
        if (given)
            return lq_json_size(object, where, option->name, (size_t)option->lowest,
                                (size_t)option->highest, (size_t)fallback, member);
        *(size_t *)member = (size_t)fallback;
        return LQ_OK;
    case LQ_OPTION_REAL:
        if (given)
            return lq_json_real(object, where, option->name, option->lowest, option->highest,
                                fallback, member);
        *(double *)member = fallback;
        return LQ_OK;
    case LQ_OPTION_BOOL:
        if (given)
            return lq_json_bool(object, where, option->name, fallback != 0, member);
        *(bool *)member = fallback != 0;
        return LQ_OK;
    case LQ_OPTION_CHOICE:
        if (given)
            return read_choice(option, lq_json_get(object, option->name), where, member);
        *(int *)member = (int)fallback;
        return LQ_OK;
    }
    const bool type_is_known = false;
    LQ_ASSERT(type_is_known);
    return LQ_E_OPTION;
}

lq_status lq_options_read(const lq_option *option, size_t n, const lq_json *object,
                          const char *where, void *opts)
{
    if (object != NULL && lq_json_type(object) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s: options must be an object, {\"key\": value, ...}", where);
    if (object != NULL)
        LQ_TRY(refuse_unknown(option, n, object, where));
    for (size_t i = 0; i < n; i++)
        LQ_TRY(read_one(&option[i], object, where, (char *)opts + option[i].offset));
    return LQ_OK;
}

lq_json *lq_options_write(const lq_option *option, size_t n, const void *opts)
{
    lq_json *object = lq_json_object();
    for (size_t i = 0; i < n; i++) {
        const void *member = (const char *)opts + option[i].offset;
        char word[MAX_WORD];
        switch (option[i].type) {
        case LQ_OPTION_SIZE:
            lq_json_set_number(object, option[i].name, (double)*(const size_t *)member);
            break;
        case LQ_OPTION_REAL:
            lq_json_set_number(object, option[i].name, *(const double *)member);
            break;
        case LQ_OPTION_BOOL:
            lq_json_set_bool(object, option[i].name, *(const bool *)member);
            break;
        case LQ_OPTION_CHOICE:
            LQ_ASSERT(choice_word(option[i].choices, (size_t) * (const int *)member, word));
            lq_json_set_string(object, option[i].name, word);
            break;
        }
    }
    return object;
}

/* A finite decimal number and nothing else: strtod alone would also take " 1", "0x1p3" and "nan". */
static bool reads_as_number(const char *text, double *out)
{
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

lq_status lq_option_set_text(lq_json *object, const char *key_value)
{
    const char *equals = strchr(key_value, '=');
    if (equals == NULL || equals == key_value)
        return lq_fail(LQ_E_OPTION, "--set '%s': write key=value", key_value);
    char key[MAX_WORD];
    size_t length = (size_t)(equals - key_value);
    if (length >= sizeof key)
        return lq_fail(LQ_E_OPTION, "--set '%s': the key is longer than any option", key_value);
    memcpy(key, key_value, length);
    key[length] = '\0';
    const char *value = equals + 1;
    double number;
    if (reads_as_number(value, &number))
        lq_json_set_number(object, key, number);
    else if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
        lq_json_set_bool(object, key, *value == 't');
    else
        lq_json_set_string(object, key, value);
    return LQ_OK;
}

/* One "key=value" of settings, unless object has the key. */
static lq_status fill_setting(lq_json *object, const char *setting, size_t length)
{
    char text[2 * MAX_WORD];
    LQ_ASSERT(length < sizeof text);
    memcpy(text, setting, length);
    text[length] = '\0';
    char key[2 * MAX_WORD];
    memcpy(key, text, length + 1);
    key[strcspn(key, "=")] = '\0';
    return lq_json_get(object, key) == NULL ? lq_option_set_text(object, text) : LQ_OK;
}

lq_status lq_options_preset(const lq_preset *preset, size_t n, const lq_json *object,
                            lq_json **merged)
{
    *merged = object != NULL ? lq_json_copy(object) : lq_json_object();
    const lq_json *asked = lq_json_get(*merged, "preset");
    const char *word = asked == NULL ? preset[0].name : lq_json_string(asked);
    const char *at = "";
    for (size_t i = 0; word != NULL && i < n; i++)
        if (strcmp(preset[i].name, word) == 0)
            at = preset[i].settings;
    lq_status status = LQ_OK;
    while (status == LQ_OK && *(at += strspn(at, " ")) != '\0') {
        const size_t length = strcspn(at, " ");
        status = fill_setting(*merged, at, length);
        at += length;
    }
    if (status != LQ_OK)
        lq_json_free(*merged);
    return status;
}
