#include "core/base/args.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lq_args {
    const lq_arg_spec *spec;
    size_t n_spec;
    const char ***value;  /* (n_spec) lists: the values an option was given, in order */
    size_t *n_values;     /* (n_spec); of a flag: how often it was given */
    const char **at;      /* positional arguments */
    size_t n_positionals; /* (n_positionals) of them */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Levenshtein's distance of a (n) and b (m), one row at a time; m < 64. */
static size_t edit_distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[64];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j], changed = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = least(changed, least(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[m];
}

const char *lq_text_nearest(const char *text, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t lowest = 4, length = strlen(text);
    for (size_t i = 0; i < n; i++) {
        size_t m = strlen(names[i]);
        if (m >= 64 || length > m + 3 || m > length + 3)
            continue;
        size_t distance = edit_distance(text, length, names[i], m);
        /* a distance as large as the word would suggest "rtn" for any three letters */
        if (distance < lowest && distance < (m > length ? m : length)) {
            lowest = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

static lq_status unknown_option(const lq_args *args, const char *text, size_t length)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)least(length, sizeof name - 1), text);
    const char **names = malloc((args->n_spec + 1) * sizeof *names);
    const char *nearest = NULL;
    if (names) {
        for (size_t i = 0; i < args->n_spec; i++)
            names[i] = args->spec[i].name;
        nearest = lq_text_nearest(name, names, args->n_spec);
    }
    free(names);
    return lq_fail(LQ_E_OPTION, "unknown option --%s%s%s; `help` lists them", name,
                   nearest ? "; did you mean --" : "", nearest ? nearest : "");
}

static const lq_arg_spec *find_name(const lq_args *args, const char *name, size_t length)
{
    for (size_t i = 0; i < args->n_spec; i++)
        if (strlen(args->spec[i].name) == length && memcmp(args->spec[i].name, name, length) == 0)
            return &args->spec[i];
    return NULL;
}

static const lq_arg_spec *find_letter(const lq_args *args, char letter)
{
    for (size_t i = 0; i < args->n_spec; i++)
        if (letter && args->spec[i].letter == letter)
            return &args->spec[i];
    return NULL;
}

/* "-" is a file name by custom and "-0.5" a number; anything else after a dash is an option. */
static bool looks_like_option(const char *text)
{
    return text[0] == '-' && text[1] && !strchr(".0123456789", text[1]);
}

/* One option at argv[*i]; moves *i on to its value if that is an argument of its own. */
static lq_status take_option(lq_args *args, int argc, char **argv, int *i)
{
    const char *text = argv[*i], *value = NULL;
    const lq_arg_spec *spec;
    if (text[1] == '-') {
        size_t length = strcspn(text + 2, "=");
        spec = find_name(args, text + 2, length);
        if (!spec)
            return unknown_option(args, text + 2, length);
        value = text[2 + length] ? text + 3 + length : NULL;
    } else {
        spec = find_letter(args, text[1]);
        if (!spec)
            return lq_fail(LQ_E_OPTION, "unknown option %.60s; `help` lists them", text);
        value = text[2] ? text + 2 : NULL;
    }
    size_t which = (size_t)(spec - args->spec);
    if (spec->type == LQ_ARG_FLAG) {
        args->n_values[which]++;
        return value ? lq_fail(LQ_E_OPTION, "--%s takes no value, got %.60s", spec->name, value)
                     : LQ_OK;
    }
    if (!value && *i + 1 < argc && !looks_like_option(argv[*i + 1]))
        value = argv[++*i];
    if (!value)
        return lq_fail(LQ_E_OPTION, "--%s needs a value: --%s=%s", spec->name, spec->name,
                       spec->value ? spec->value : "VALUE");
    if (spec->type == LQ_ARG_TEXT && args->n_values[which] > 0)
        return lq_fail(LQ_E_OPTION, "--%s is given twice: %.60s and %.60s", spec->name,
                       args->value[which][0], value);
    args->value[which][args->n_values[which]++] = value;
    return LQ_OK;
}

static lq_status take_all(lq_args *args, int argc, char **argv)
{
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (options && looks_like_option(argv[i]))
            LQ_TRY(take_option(args, argc, argv, &i));
        else
            args->at[args->n_positionals++] = argv[i];
    }
    return LQ_OK;
}

/* Room for argc values in every list: never more are given. */
static lq_args *new_args(size_t argc, const lq_arg_spec *spec, size_t n_spec)
{
    lq_args *args = calloc(1, sizeof *args);
    if (!args)
        return NULL;
    args->spec = spec;
    args->n_spec = n_spec;
    args->value = calloc(n_spec + 1, sizeof *args->value);
    args->n_values = calloc(n_spec + 1, sizeof *args->n_values);
    args->at = calloc(argc + 1, sizeof *args->at);
    bool whole = args->value && args->n_values && args->at;
    for (size_t i = 0; whole && i < n_spec; i++) {
        args->value[i] = calloc(argc + 1, sizeof **args->value);
        whole = args->value[i];
    }
    if (!whole) {
        lq_args_free(args);
        return NULL;
    }
    return args;
}

lq_status lq_args_parse(int argc, char **argv, const lq_arg_spec *spec, size_t n_spec,
                        size_t lowest_positionals, size_t highest_positionals, lq_args **out)
{
    *out = NULL;
    lq_args *args = new_args(argc > 0 ? (size_t)argc : 0, spec, n_spec);
    if (!args)
        return lq_fail(LQ_E_MEMORY, "out of memory for the command line");
    lq_status status = take_all(args, argc, argv);
    size_t n = args->n_positionals;
    if (status == LQ_OK && n < lowest_positionals)
        status = lq_fail(LQ_E_OPTION, "%zu argument%s given, at least %zu needed", n,
                         n == 1 ? "" : "s", lowest_positionals);
    if (status == LQ_OK && n > highest_positionals)
        status = lq_fail(LQ_E_OPTION, "unexpected argument %.100s", args->at[highest_positionals]);
    if (status != LQ_OK) {
        lq_args_free(args);
        return status;
    }
    *out = args;
    return LQ_OK;
}

void lq_args_free(lq_args *args)
{
    if (!args)
        return;
    for (size_t i = 0; args->value && i < args->n_spec; i++)
        free(args->value[i]);
    free(args->value);
    free(args->n_values);
    free(args->at);
    free(args);
}

size_t lq_args_count(const lq_args *args) { return args->n_positionals; }

const char *lq_args_at(const lq_args *args, size_t i)
{
    LQ_ASSERT(i < args->n_positionals);
    return args->at[i];
}

/* The place of a declared option; asking for another is the command's bug. */
static size_t place_of(const lq_args *args, const char *name, lq_arg_type type)
{
    const lq_arg_spec *spec = find_name(args, name, strlen(name));
    LQ_ASSERT(spec && spec->type == type);
    return (size_t)(spec - args->spec);
}

bool lq_args_flag(const lq_args *args, const char *name)
{
    return args->n_values[place_of(args, name, LQ_ARG_FLAG)] > 0;
}

const char *lq_args_text(const lq_args *args, const char *name, const char *fallback)
{
    size_t which = place_of(args, name, LQ_ARG_TEXT);
    return args->n_values[which] ? args->value[which][0] : fallback;
}

size_t lq_args_list(const lq_args *args, const char *name, const char *const **values)
{
    size_t which = place_of(args, name, LQ_ARG_LIST);
    *values = args->value[which];
    return args->n_values[which];
}

static bool read_size(const char *text, size_t *out)
{
    const char *c = text;
    size_t value = 0;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(*c - '0'), &value))
            return false;
    size_t unit = *c == 'k' ? 1000 : *c == 'M' ? 1000000 : 1;
    if (c == text || c[unit > 1] != '\0')
        return false;
    return !__builtin_mul_overflow(value, unit, out);
}

lq_status lq_text_size(const char *text, const char *where, size_t lowest, size_t highest,
                       size_t *out)
{
    size_t value;
    if (!read_size(text, &value) || value < lowest || value > highest)
        return lq_fail(LQ_E_OPTION,
                       "%s: expected a whole number from %zu to %zu (512k and 4M also work), got "
                       "%.60s",
                       where, lowest, highest, *text ? text : "nothing");
    *out = value;
    return LQ_OK;
}

lq_status lq_text_real(const char *text, const char *where, double lowest, double highest,
                       double *out)
{
    char *end = NULL;
    /* decimal digits only: strtod alone would also take blanks, hex, "inf" and "nan" */
    bool plain = *text && strspn(text, "+-.0123456789eE") == strlen(text);
    double value = plain ? strtod(text, &end) : (double)NAN;
    if (!plain || *end || !isfinite(value) || value < lowest || value > highest)
        return lq_fail(LQ_E_OPTION, "%s: expected a number from %g to %g, got %.60s", where, lowest,
                       highest, *text ? text : "nothing");
    *out = value;
    return LQ_OK;
}

lq_status lq_args_size(const lq_args *args, const char *name, size_t lowest, size_t highest,
                       size_t fallback, size_t *out)
{
    const char *text = lq_args_text(args, name, NULL);
    *out = fallback;
    char where[80];
    snprintf(where, sizeof where, "--%s", name);
    return text ? lq_text_size(text, where, lowest, highest, out) : LQ_OK;
}

lq_status lq_args_real(const lq_args *args, const char *name, double lowest, double highest,
                       double fallback, double *out)
{
    const char *text = lq_args_text(args, name, NULL);
    *out = fallback;
    char where[80];
    snprintf(where, sizeof where, "--%s", name);
    return text ? lq_text_real(text, where, lowest, highest, out) : LQ_OK;
}

void lq_args_help(const lq_arg_spec *spec, size_t n_spec)
{
    for (size_t i = 0; i < n_spec; i++) {
        char left[80], letter[] = "-x, ";
        letter[1] = spec[i].letter;
        snprintf(left, sizeof left, "%s--%s%s%s", spec[i].letter ? letter : "    ", spec[i].name,
                 spec[i].value ? " " : "", spec[i].value ? spec[i].value : "");
        printf("  %-30s %s\n", left, spec[i].help);
    }
}
