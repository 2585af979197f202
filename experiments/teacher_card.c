#include "experiments/teacher_card.h"

#include "core/base/file.h"
#include "experiments/version.h"

#include <math.h>
#include <string.h>

enum { CURVE_POINTS = 60 };

/* Mean loss of each of CURVE_POINTS equal stretches of the training. */
static lq_json *curve(const lq_teacher *t)
{
    lq_json *points = lq_json_array();
    const size_t steps = t->result.steps_done;
    const size_t n = steps < CURVE_POINTS ? steps : CURVE_POINTS;
    for (size_t i = 0; i < n; i++) {
        const size_t from = i * steps / n, to = (i + 1) * steps / n;
        double sum = 0;
        for (size_t s = from; s < to; s++)
            sum += t->result.loss[s];
        lq_json *point = lq_json_array();
        lq_json_append(point, lq_json_of_number((double)(to * (t->tokens / steps))));
        lq_json_append(point, lq_json_of_number(sum / (double)(to - from)));
        lq_json_append(points, point);
    }
    return points;
}

static lq_status write_json(const lq_teacher *t, const char *dir, lq_arena *arena)
{
    lq_json *recipe, *json = lq_json_object();
    lq_json_set_string(json, "name", t->name);
    LQ_TRY(lq_json_parse(t->recipe, strlen(t->recipe), "recipe", &recipe));
    lq_json_set(json, "recipe", recipe);
    lq_json_set_number(json, "parameters", (double)t->parameters);
    lq_json_set_number(json, "tokens", (double)t->tokens);
    lq_json_set_string(json, "data", t->data->name);
    lq_json_set_string(json, "data_sha256", t->data->digest.hex);
    lq_json_set_string(json, "corpus_sha256", t->data->whole.hex);
    lq_json_set_number(json, "final_training_nats_per_token", t->result.final_loss);
    lq_json_set_number(json, "valid_perplexity", t->score[0].ppl);
    lq_json_set_number(json, "test_perplexity", t->score[1].ppl);
    lq_json_set(json, "curve_tokens_and_nats", curve(t));
    lq_json_set(json, "program", lq_program_to_json());
    lq_json_set(json, "machine", lq_machine_to_json());
    const char *text = lq_json_pretty(json, arena);
    lq_json_free(json);
    return lq_file_write_all(lq_arena_printf(arena, "%s/training.json", dir), text, strlen(text));
}

static lq_status write_curve(const lq_teacher *t, lq_file *f)
{
    lq_json *points = curve(t);
    lq_status status =
        lq_file_printf(f, "\n| tokens | training loss (nats per token) |\n|---|---|\n");
    const size_t n = lq_json_count(points);
    for (size_t i = 0; status == LQ_OK && i < n; i++)
        if (i % 5 == 4 || i + 1 == n) {
            const lq_json *p = lq_json_at(points, i);
            status = lq_file_printf(f, "| %.0f | %.4f |\n", lq_json_number(lq_json_at(p, 0)),
                                    lq_json_number(lq_json_at(p, 1)));
        }
    lq_json_free(points);
    return status;
}

static lq_status write_card(const lq_teacher *t, lq_file *f)
{
    const lq_config *c = &t->config;
    LQ_TRY(
        lq_file_printf(f,
                       "# %s\n\nA small teacher for quantization experiments, trained by "
                       "`lcqat pretrain`. License: Apache-2.0, as the program; the training text "
                       "stands below, techdocs is described in `docs/formats.md`.\n\n",
                       t->name));
    LQ_TRY(lq_file_printf(f,
                          "| | |\n|---|---|\n| architecture | %s, width %zu, feed-forward %zu, "
                          "%zu layers, %zu heads of %zu, %zu key/value heads, vocabulary %zu, %s "
                          "head |\n",
                          lq_arch_name(c->arch), c->D, c->F, c->L, c->H, c->dh, c->Hkv, c->V,
                          c->tied ? "tied" : "untied"));
    LQ_TRY(lq_file_printf(f,
                          "| parameters | %zu |\n| tokens | %zu (%.1f a parameter, %.1f epochs "
                          "of %zu) |\n| context | %zu |\n",
                          t->parameters, t->tokens, (double)t->tokens / (double)t->parameters,
                          (double)t->tokens / (double)t->data->n, t->data->n, t->context));
    LQ_TRY(lq_file_printf(f, "| training loss, last tenth | %.4f nats per token |\n",
                          t->result.final_loss));
    static const char *const split[] = {"valid", "test"};
    for (size_t i = 0; i < 2 && t->score[i].ppl > 0; i++)
        LQ_TRY(lq_file_printf(f,
                              "| %s | loss %.4f nats per token, perplexity %.3f (windows of "
                              "%zu, %zu predicted tokens) |\n",
                              split[i], t->score[i].nats_per_token, t->score[i].ppl, t->score[i].T,
                              t->score[i].n_predicted));
    LQ_TRY(lq_file_printf(f, "| data | %s, sha256 %s |\n| program | %s |\n", t->data->name,
                          t->data->digest.hex, lq_version()));
    LQ_TRY(lq_file_printf(f,
                          "\nRecipe: `%s`. AdamW (0.9, 0.95), clip 1.0, "
                          "warm-up, stable, cosine decay.\n",
                          t->recipe));
    return write_curve(t, f);
}

lq_status lq_teacher_card(const lq_teacher *t, const char *dir, lq_arena *arena)
{
    lq_file *f;
    LQ_TRY(write_json(t, dir, arena));
    LQ_TRY(lq_file_create(lq_arena_printf(arena, "%s/README.md", dir), &f));
    lq_status status = write_card(t, f);
    if (status != LQ_OK) {
        lq_file_abandon(f);
        return status;
    }
    return lq_file_commit(f);
}
