/* lcqat eval: perplexity and zero-shot tasks of a model, full precision or packed. */
#include "core/eval/perplexity.h"
#include "experiments/command.h"
#include "experiments/data.h"
#include "experiments/model.h"
#include "experiments/tasks.h"

#include <stdio.h>
#include <string.h>

/* "no BOS", "BOS 128000 at the start of the text", ...: a number without it says little. */
static const char *bos_of(const lq_eval_data *d, char out[80])
{
    const char *where = d->windows.begin != UINT32_MAX        ? "as the first token of each window"
                        : strcmp(d->protocol, "c4-crop") == 0 ? "at the start of each document"
                                                              : "at the start of the text";
    if (d->bos == UINT32_MAX)
        snprintf(out, 80, "no BOS");
    else
        snprintf(out, 80, "BOS %u %s", (unsigned)d->bos, where);
    return out;
}

static void print_model(const lq_model *m)
{
    printf("model      %s, sha256 %.16s%s%s\n", m->name, m->digest.hex,
           m->q.method != NULL ? ", packed by " : "", m->q.method != NULL ? m->q.method->name : "");
    if (m->q.method != NULL)
        printf("bits       %.4f per weight of the linears, %.4f over the whole model\n",
               m->size.bits_per_weight, m->size.bits_per_weight_model);
}

static void print_perplexity(const lq_eval_data *d, const lq_perplexity *p)
{
    char bos[80];
    printf("data       %s, sha256 %.16s, %zu tokens\n", d->data.name, d->data.digest.hex,
           d->data.n);
    printf("protocol   %s: %zu windows of %zu, no overlap, %s, %zu predicted tokens\n", d->protocol,
           p->n_windows, p->T, bos_of(d, bos), p->n_predicted);
}

static void set_model(lq_json *json, const lq_model *m)
{
    lq_json_set_string(json, "model", m->name);
    lq_json_set_string(json, "model_sha256", m->digest.hex);
    if (m->q.method != NULL) {
        lq_json_set_string(json, "method", m->q.method->name);
        lq_json_set_number(json, "bits_per_weight", m->size.bits_per_weight);
        lq_json_set_number(json, "bits_per_weight_model", m->size.bits_per_weight_model);
    }
}

static void set_perplexity(lq_json *json, const lq_eval_data *d, const lq_perplexity *p)
{
    lq_json *windows = lq_json_array();
    lq_json_set_string(json, "data", d->data.name);
    lq_json_set_string(json, "data_sha256", d->data.digest.hex);
    lq_json_set_number(json, "data_tokens", (double)d->data.n);
    lq_json_set_string(json, "protocol", d->protocol);
    lq_json_set_number(json, "perplexity", p->ppl);
    lq_json_set_number(json, "perplexity_stderr", p->ppl * p->nats_error);
    lq_json_set_number(json, "nats_per_token", p->nats_per_token);
    lq_json_set_number(json, "nats_per_token_stderr", p->nats_error);
    lq_json_set_number(json, "context", (double)p->T);
    lq_json_set_number(json, "windows", (double)p->n_windows);
    lq_json_set_number(json, "predicted_tokens", (double)p->n_predicted);
    lq_json_set_bool(json, "bos", d->bos != UINT32_MAX);
    if (d->bos != UINT32_MAX)
        lq_json_set_number(json, "bos_id", d->bos);
    for (size_t i = 0; i < p->n_windows; i++)
        lq_json_append(windows, lq_json_of_number(p->window_nats[i]));
    lq_json_set(json, "window_nats", windows);
}

typedef struct measured { /* what was asked for */
    bool ppl, tasks;
    lq_eval_data data;
    lq_perplexity perplexity;
    lq_task_runs runs;
} measured;

static void print(const lq_model *model, const measured *m, bool as_json)
{
    if (as_json) {
        lq_json *json = lq_json_object();
        set_model(json, model);
        if (m->ppl)
            set_perplexity(json, &m->data, &m->perplexity);
        if (m->tasks)
            lq_json_set(json, "tasks", lq_tasks_to_json(&m->runs));
        lq_print_json(json);
        return;
    }
    if (m->ppl)
        printf("perplexity %.4f +- %.4f  (%.6f nats per token)\n", m->perplexity.ppl,
               m->perplexity.ppl * m->perplexity.nats_error, m->perplexity.nats_per_token);
    print_model(model);
    if (m->ppl)
        print_perplexity(&m->data, &m->perplexity);
    if (m->tasks)
        lq_tasks_print(&m->runs);
}

/* The questions are read first: a name misspelt is found before the work begins. */
static lq_status measure(const lq_args *args, const lq_model *model, lq_arena *arena, measured *m)
{
    const char *tasks = lq_args_text(args, "tasks", NULL),
               *samples = lq_args_text(args, "samples", NULL),
               *bos = lq_args_text(args, "bos", NULL);
    size_t context, limit;
    m->tasks = tasks != NULL;
    m->ppl = !m->tasks || lq_args_text(args, "ppl", NULL) != NULL;
    LQ_TRY(lq_args_size(args, "context", 2, 1 << 20, 0, &context));
    LQ_TRY(lq_args_size(args, "limit", 0, (size_t)1 << 40, 0, &limit));
    if (!m->tasks && (samples != NULL || bos != NULL))
        return lq_fail(LQ_E_OPTION, "eval: --samples and --bos go with --tasks");
    if (m->tasks)
        LQ_TRY(
            lq_tasks_read(model, tasks, bos != NULL ? bos : "tokenizer", limit, arena, &m->runs));
    if (m->ppl) {
        LQ_TRY(lq_model_eval_data(model, lq_args_text(args, "ppl", "techdocs:test"), context, arena,
                                  &m->data));
        m->data.windows.limit = limit;
        LQ_TRY(lq_perplexity_windows(&model->q.w, &m->data.windows, arena, &m->perplexity));
    }
    if (m->tasks)
        LQ_TRY(lq_tasks_weigh(model, &m->runs, arena));
    return samples != NULL ? lq_tasks_write_samples(&m->runs, samples) : LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    lq_model model;
    measured m = {.ppl = false};
    LQ_TRY(lq_model_open_with(lq_args_at(args, 0), lq_args_text(args, "tokenizer", NULL), arena,
                              &model));
    const lq_status status = measure(args, &model, arena, &m);
    if (status == LQ_OK)
        print(&model, &m, lq_args_flag(args, "json"));
    lq_model_close(&model);
    return status;
}

static const lq_arg_spec spec[] = {
    {"ppl", 0, LQ_ARG_TEXT, "DATA",
     "what to score: techdocs:test (default, without --tasks), wikitext2, c4-crop, c4-new, "
     "llama.cpp; each but the "
     "first may have a file of yours behind it, wikitext2:FILE; or a text file"},
    {"tasks", 0, LQ_ARG_TEXT, "LIST",
     "zero-shot tasks, with commas between: arc_easy, arc_challenge, hellaswag, piqa, winogrande, "
     "boolq, "
     "openbookqa, lambada_openai; each may have a file of yours behind it, piqa:FILE"},
    {"bos", 0, LQ_ARG_TEXT, "WHEN",
     "of tasks, before each text: as the tokenizer does (tokenizer, default), never, always"},
    {"samples", 0, LQ_ARG_TEXT, "FILE",
     "of tasks: write what each choice weighs, a JSON line a question"},
    {"context", 0, LQ_ARG_TEXT, "N",
     "tokens per window (that of the protocol: 128, 2048, llama.cpp 512)"},
    {"limit", 0, LQ_ARG_TEXT, "N", "at most so many windows, questions of each task (all)"},
    LQ_ARG_TOKENIZER,
    LQ_ARG_JSON,
};
const lq_command lq_command_eval = {
    .name = "eval",
    .summary = "measures the perplexity and the zero-shot accuracy of a model",
    .positionals = "MODEL [--ppl DATA] [--tasks LIST]",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
