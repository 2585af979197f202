#include "experiments/tasks.h"

#include "core/base/args.h"
#include "core/base/file.h"
#include "experiments/catalog.h"
#include "experiments/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Files --------------------------------------------------------------------------------------- */

/* The file that the catalog has for a task, under "tasks" of an entry: of one that was fetched. */
static lq_status find_file(const lq_json *catalog, const lq_task *task, lq_arena *arena,
                           const char **path)
{
    const lq_json *entries = lq_json_get(catalog, "datasets");
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e)) {
        const char *file = lq_json_string(lq_json_get(lq_json_get(e, "tasks"), task->name)), *dir;
        if (file == NULL)
            continue;
        if (!lq_plain_name(file))
            return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: '%.100s' is no file's name",
                           task->name, file);
        LQ_TRY(lq_catalog_locate("datasets", lq_json_string(lq_json_get(e, "name")), arena, &dir));
        *path = lq_arena_printf(arena, "%s/%s", dir, file);
        return LQ_OK;
    }
    return lq_fail(LQ_E_MISSING, "%s: the catalog has no file for it; give one, %s:FILE",
                   task->name, task->name);
}

static lq_status unknown(const char *name, lq_arena *arena)
{
    const char *names[64], *all = "";
    size_t n = 0;
    for (; n < lq_task_count() && n < 64; n++) {
        names[n] = lq_task_at(n)->name;
        all = lq_arena_printf(arena, "%s%s%s", all, n > 0 ? ", " : "", names[n]);
    }
    const char *nearest = lq_text_nearest(name, names, n);
    return lq_fail(LQ_E_OPTION, "--tasks: no task '%.60s'%s%s%s; there are %s", name,
                   nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "",
                   all);
}

static lq_status read_one(const lq_json *catalog, const char *name, const char *file, size_t limit,
                          lq_arena *arena, lq_task_runs *out)
{
    const lq_task *task = lq_task_find(name);
    lq_task_run *run = &out->run[out->n];
    if (task == NULL)
        return unknown(name, arena);
    for (size_t i = 0; i < out->n; i++)
        if (out->run[i].questions.task == task)
            return lq_fail(LQ_E_OPTION, "--tasks: %s twice", task->name);
    run->path = file;
    if (file == NULL)
        LQ_TRY(find_file(catalog, task, arena, &run->path));
    LQ_TRY(lq_task_read(task, run->path, limit, arena, &run->questions));
    LQ_TRY(lq_sha256_file(run->path, &run->digest));
    out->n++;
    return LQ_OK;
}

static lq_status read_list(const char *list, size_t limit, lq_arena *arena, lq_task_runs *out)
{
    lq_json *catalog = NULL;
    lq_status status = LQ_OK;
    size_t commas = 0;
    for (const char *at = list; *at != '\0'; at++)
        commas += *at == ',';
    LQ_TRY(lq_arena_new(arena, &out->run, commas + 1));
    LQ_TRY(lq_catalog_read(&catalog));
    for (const char *at = list; status == LQ_OK; at++) {
        const size_t n = strcspn(at, ","), n_name = strcspn(at, ":,");
        const char *name = lq_arena_printf(arena, "%.*s", (int)n_name, at);
        const char *file = at[n_name] == ':' ? lq_arena_printf(arena, "%.*s", (int)(n - n_name - 1),
                                                               at + n_name + 1)
                                             : NULL;
        status = read_one(catalog, name, file, limit, arena, out);
        at += n;
        if (*at == '\0')
            break;
    }
    lq_json_free(catalog);
    return status;
}

/* ---- Tokens -------------------------------------------------------------------------------------- */

typedef struct encoder {
    const lq_tokenizer *tok;
    const uint32_t *before; /* (n_before) */
    size_t n_before;
    uint32_t bos;
} encoder;

static lq_status encode(void *self, const char *text, size_t bytes, lq_arena *arena, uint32_t **ids,
                        size_t *n)
{
    const encoder *e = self;
    uint32_t *plain, *all;
    size_t n_plain;
    LQ_TRY(lq_tokenizer_encode(e->tok, text, bytes, arena, &plain, &n_plain));
    LQ_TRY(lq_arena_new(arena, &all, e->n_before + n_plain));
    if (e->n_before > 0)
        memcpy(all, e->before, e->n_before * sizeof *all);
    if (n_plain > 0)
        memcpy(all + e->n_before, plain, n_plain * sizeof *all);
    *ids = all;
    *n = e->n_before + n_plain;
    return LQ_OK;
}

static encoder encoder_of(const lq_model *m, const lq_task_runs *runs)
{
    encoder e = {.tok = m->tok, .bos = runs->bos_id};
    size_t n;
    const uint32_t *before = lq_tokenizer_before(m->tok, &n);
    if (strcmp(runs->bos, "never") != 0 && n > 0) {
        e.before = before;
        e.n_before = n;
    }
    return e;
}

static lq_status choose_bos(const lq_model *m, lq_arena *arena, lq_task_runs *out)
{
    size_t n;
    const uint32_t *before = lq_tokenizer_before(m->tok, &n);
    out->bos_id = UINT32_MAX;
    if (strcmp(out->bos, "never") == 0)
        return LQ_OK;
    if (strcmp(out->bos, "tokenizer") != 0 && strcmp(out->bos, "always") != 0)
        return lq_fail(LQ_E_OPTION, "--bos: tokenizer, never or always, not '%.60s'", out->bos);
    if (n > 0)
        out->bos_id = before[0];
    else if (strcmp(out->bos, "always") == 0)
        LQ_TRY(lq_bos_of(m, arena, &out->bos_id));
    if (out->bos_id == UINT32_MAX && strcmp(out->bos, "always") == 0)
        return lq_fail(LQ_E_OPTION, "--bos always: the files of %s name no BOS", m->name);
    return LQ_OK;
}

/* ---- All of them --------------------------------------------------------------------------------- */

lq_status lq_tasks_read(const lq_model *model, const char *list, const char *bos, size_t limit,
                        lq_arena *arena, lq_task_runs *out)
{
    *out = (lq_task_runs){.limit = limit, .bos = bos};
    LQ_TRY(lq_model_need_text(model));
    LQ_TRY(choose_bos(model, arena, out));
    return read_list(list, limit, arena, out);
}

lq_status lq_tasks_weigh(const lq_model *model, lq_task_runs *runs, lq_arena *arena)
{
    encoder e = encoder_of(model, runs);
    if (e.n_before == 0 && runs->bos_id != UINT32_MAX) { /* the tokenizer would put none */
        e.before = &e.bos;
        e.n_before = 1;
    }
    const lq_encode way = {&e, encode};
    for (size_t i = 0; i < runs->n; i++) {
        lq_task_run *run = &runs->run[i];
        LQ_TRY(lq_choice_weigh(&model->q.w, &way, &run->questions, arena, &run->answers));
        lq_choice_conclude(&run->questions, &run->answers, &run->result);
    }
    return LQ_OK;
}

/* ---- What is shown ------------------------------------------------------------------------------- */

static lq_status write_sample(lq_file *file, const lq_task_run *run, size_t index)
{
    const lq_question *q = &run->questions.question[index];
    const lq_answer *a = &run->answers.answer[index];
    lq_arena arena = {0};
    lq_json *json = lq_json_object(), *ll = lq_json_array(), *greedy = lq_json_array(),
            *length = lq_json_array();
    lq_json_set_string(json, "task", run->questions.task->name);
    lq_json_set_number(json, "question", (double)index);
    lq_json_set_string(json, "context", q->context[q->gold]);
    lq_json_set_string(json, "continuation", q->continuation[q->gold]);
    lq_json_set_number(json, "gold", (double)q->gold);
    for (size_t i = 0; i < q->n; i++) {
        lq_json_append(ll, lq_json_of_number(a->ll[i]));
        lq_json_append(greedy, lq_json_of_bool(a->greedy[i]));
        lq_json_append(length, lq_json_of_number((double)q->length[i]));
    }
    lq_json_set(json, "loglikelihood", ll);
    lq_json_set(json, "greedy", greedy);
    lq_json_set(json, "characters", length);
    const lq_status status = lq_file_printf(file, "%s\n", lq_json_canonical(json, &arena));
    lq_json_free(json);
    lq_arena_close(&arena);
    return status;
}

lq_status lq_tasks_write_samples(const lq_task_runs *runs, const char *path)
{
    lq_file *file;
    LQ_TRY(lq_file_create(path, &file));
    lq_status status = LQ_OK;
    for (size_t i = 0; i < runs->n; i++)
        for (size_t j = 0; status == LQ_OK && j < runs->run[i].questions.n; j++)
            status = write_sample(file, &runs->run[i], j);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

static void print_value(double value, double error, int decimals)
{
    char text[40], off[24];
    snprintf(off, sizeof off, isnan(error) ? "" : " +- %.*f", decimals, error);
    snprintf(text, sizeof text, isnan(value) ? "-" : "%.*f%s", decimals, value, off);
    printf("  %-18s", text);
}

void lq_tasks_print(const lq_task_runs *runs)
{
    printf("%-16s %9s  %-18s  %-18s  %s\n", "task, 0-shot", "questions", "acc", "acc_norm",
           "perplexity");
    for (size_t i = 0; i < runs->n; i++) {
        const lq_task_run *run = &runs->run[i];
        const lq_choice_result *r = &run->result;
        printf("%-16s %9zu", run->questions.task->name, r->n);
        print_value(r->acc, r->acc_error, 4);
        print_value(r->acc_norm, r->acc_norm_error, 4);
        print_value(r->perplexity, r->perplexity_error, 3);
        printf("\n");
    }
    for (size_t i = 0; i < runs->n; i++) {
        const lq_task_run *run = &runs->run[i];
        printf("data       %s, sha256 %.16s, %zu tokens scored%s%s\n", run->path, run->digest.hex,
               run->answers.n_tokens, run->questions.remark ? "; " : "",
               run->questions.remark ? run->questions.remark : "");
        if (run->answers.n_cut > 0)
            printf("           %zu choices lost the beginning of their context\n",
                   run->answers.n_cut);
    }
    if (runs->bos_id == UINT32_MAX)
        printf("tokens     no BOS (--bos %s)\n", runs->bos);
    else
        printf("tokens     BOS %u before each text (--bos %s)\n", (unsigned)runs->bos_id,
               runs->bos);
}

static void set_measured(lq_json *json, const char *name, double value, double error)
{
    char key[40];
    if (isnan(value))
        return;
    lq_json_set_number(json, name, value);
    snprintf(key, sizeof key, "%s_stderr", name);
    if (isnan(error))
        lq_json_set_string(json, key, "N/A"); /* as lm-evaluation-harness has it */
    else
        lq_json_set_number(json, key, error);
}

lq_json *lq_tasks_to_json(const lq_task_runs *runs)
{
    lq_json *all = lq_json_object();
    for (size_t i = 0; i < runs->n; i++) {
        const lq_task_run *run = &runs->run[i];
        const lq_choice_result *r = &run->result;
        lq_json *json = lq_json_object();
        set_measured(json, "acc", r->acc, r->acc_error);
        set_measured(json, "acc_norm", r->acc_norm, r->acc_norm_error);
        set_measured(json, "perplexity", r->perplexity, r->perplexity_error);
        lq_json_set_number(json, "questions", (double)r->n);
        lq_json_set_number(json, "shots", 0);
        lq_json_set_string(json, "data", run->path);
        lq_json_set_string(json, "data_sha256", run->digest.hex);
        lq_json_set_number(json, "tokens_scored", (double)run->answers.n_tokens);
        lq_json_set_number(json, "contexts_cut", (double)run->answers.n_cut);
        if (run->questions.remark != NULL)
            lq_json_set_string(json, "remark", run->questions.remark);
        lq_json_set_string(json, "bos", runs->bos);
        if (runs->bos_id != UINT32_MAX)
            lq_json_set_number(json, "bos_id", runs->bos_id);
        lq_json_set(all, run->questions.task->name, json);
    }
    return all;
}
