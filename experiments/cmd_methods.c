/* lcqat methods: what is registered, and what a weight of a given shape costs in each. */
#include "experiments/command.h"
#include "experiments/methods.h"

#include <stdio.h>
#include <string.h>

static const double widths[] = {1, 1.58, 2, 3, 4, 16};

static const char *family(const lq_method *m)
{
    static const char *const name[] = {"full precision", "scalar", "vector"};
    return name[m->family];
}

static lq_status identity(lq_arena *arena, size_t n, const double **out)
{
    double *gram;
    LQ_TRY(lq_arena_new(arena, &gram, n * n));
    for (size_t i = 0; i < n; i++)
        gram[i * n + i] = 1;
    *out = gram;
    return LQ_OK;
}

/* Bits per weight of the packed bytes of a zero weight: sizes do not depend on the values. 0: the method
 * does not know this width, or not at this shape. */
static double true_bits(const lq_method *m, double bits, size_t out, size_t in)
{
    lq_arena arena = {0};
    lq_theta th;
    void *opts;
    double result = 0;
    lq_json *spec = lq_json_object();
    lq_json_set_number(spec, "bits", bits);
    lq_sink sink = {.arena = &arena};
    if (lq_method_options(m, spec, m->name, &arena, &opts) == LQ_OK &&
        lq_theta_new(m, opts, out, in, &arena, &th) == LQ_OK) {
        float *w;
        const lq_rng rng = lq_rng_seed(1);
        lq_calib calib = {.n_tokens = 1};
        if (lq_arena_new(&arena, &w, out * in) == LQ_OK &&
            identity(&arena, in, &calib.gram) == LQ_OK &&
            m->init(&th, w, &calib, &rng, &arena) == LQ_OK && m->pack(&th, &sink) == LQ_OK)
            result = 8.0 * (double)sink.bytes / ((double)out * (double)in);
    }
    lq_json_free(spec);
    lq_arena_close(&arena);
    return result;
}

static lq_json *to_json(const lq_method *m, size_t out, size_t in)
{
    lq_json *json = lq_json_object(), *bits = lq_json_array(), *options = lq_json_array();
    lq_json_set_string(json, "name", m->name);
    lq_json_set_string(json, "kind", (m->needs & LQ_TRAINS) != 0 ? "QAT" : "PTQ");
    lq_json_set_string(json, "family", family(m));
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        const double truth = true_bits(m, widths[i], out, in);
        if (truth <= 0)
            continue;
        lq_json *pair = lq_json_object();
        lq_json_set_number(pair, "bits", widths[i]);
        lq_json_set_number(pair, "true_bits_per_weight", truth);
        lq_json_append(bits, pair);
    }
    for (size_t i = 0; i < m->n_options; i++) {
        lq_json *option = lq_json_object();
        lq_json_set_string(option, "name", m->options[i].name);
        lq_json_set_string(option, "help", m->options[i].help);
        lq_json_append(options, option);
    }
    lq_json_set(json, "widths", bits);
    lq_json_set(json, "options", options);
    lq_json_set_string(json, "source", m->source);
    return json;
}

static void print_method(const lq_method *m, size_t out, size_t in, bool with_options)
{
    printf("%-10s %s, %s;", m->name, (m->needs & LQ_TRAINS) != 0 ? "QAT" : "PTQ", family(m));
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        const double truth = true_bits(m, widths[i], out, in);
        if (truth > 0)
            printf("  %g: %.4f", widths[i], truth);
    }
    printf("\n           %s\n", m->source);
    if (!with_options)
        return;
    lq_arena arena = {0};
    void *opts;
    if (lq_method_options(m, NULL, m->name, &arena, &opts) == LQ_OK) {
        lq_json *defaults = lq_options_write(m->options, m->n_options, opts);
        for (size_t i = 0; i < m->n_options; i++) {
            const lq_json *value = lq_json_get(defaults, m->options[i].name);
            printf("             %-16s %-10s %s%s%s\n", m->options[i].name,
                   lq_json_canonical(value, &arena), m->options[i].help,
                   m->options[i].choices ? ": " : "",
                   m->options[i].choices ? m->options[i].choices : "");
        }
        lq_json_free(defaults);
        if (m->blockwise != NULL)
            printf("             its stage, as `blockwise`: %s\n", m->blockwise(opts));
    }
    for (size_t i = 0; i < m->n_presets; i++)
        printf("             preset %-9s %s\n", m->presets[i].name,
               m->presets[i].settings[0] != '\0' ? m->presets[i].settings : "the values above");
    lq_arena_close(&arena);
}

static lq_status read_shape(const char *text, size_t *out, size_t *in)
{
    char left[32];
    const char *x = strchr(text, 'x');
    if (x == NULL || (size_t)(x - text) >= sizeof left)
        return lq_fail(LQ_E_OPTION, "methods: --shape '%s' is not OUTxIN, e.g. 2048x2048", text);
    snprintf(left, sizeof left, "%.*s", (int)(x - text), text);
    LQ_TRY(lq_text_size(left, "methods: --shape", 1, 1 << 16, out));
    return lq_text_size(x + 1, "methods: --shape", 1, 1 << 16, in);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    (void)arena;
    size_t out, in;
    const lq_method *only = NULL;
    lq_json *list = lq_json_array();
    const char *shape = lq_args_text(args, "shape", "512x512");
    lq_status status = read_shape(shape, &out, &in);
    if (status == LQ_OK && lq_args_count(args) == 1)
        status = lq_method_find(lq_args_at(args, 0), &only);
    if (status == LQ_OK && !lq_args_flag(args, "json"))
        printf("method     kind; nominal bits: true bits per weight of a %s matrix\n", shape);
    for (size_t i = 0; status == LQ_OK && i < lq_method_count; i++) {
        const lq_method *m = lq_method_table[i];
        if (only != NULL && m != only)
            continue;
        if (lq_args_flag(args, "json"))
            lq_json_append(list, to_json(m, out, in));
        else
            print_method(m, out, in, only != NULL);
    }
    if (status == LQ_OK && lq_args_flag(args, "json")) {
        lq_json *json = lq_json_object();
        lq_json_set_string(json, "shape", shape);
        lq_json_set(json, "methods", list);
        lq_print_json(json);
        return LQ_OK;
    }
    lq_json_free(list);
    return status;
}

static const lq_arg_spec spec[] = {
    {"shape", 0, LQ_ARG_TEXT, "OUTxIN", "shape for the true bits (512x512)"},
    LQ_ARG_JSON,
};
const lq_command lq_command_methods = {
    .name = "methods",
    .summary = "lists the registered methods, or the options of one",
    .positionals = "[NAME]",
    .lowest = 0,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
