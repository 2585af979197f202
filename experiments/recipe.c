#include "experiments/recipe.h"

#include <math.h>
#include <string.h>

#define AT(type, member) offsetof(type, member)
static const lq_option train_table[] = {
    {"batch", LQ_OPTION_SIZE, AT(lq_train_opts, batch), 8, 1, 65536, NULL, "sequences per step"},
    {"context", LQ_OPTION_SIZE, AT(lq_train_opts, context), 128, 2, 1 << 20, NULL,
     "tokens per sequence"},
    {"micro", LQ_OPTION_SIZE, AT(lq_train_opts, micro), 4, 1, 65536, NULL,
     "sequences per micro-batch"},
    {"lanes", LQ_OPTION_SIZE, AT(lq_train_opts, lanes), 2, 1, 256, NULL,
     "micro-batches side by side; part of the arithmetic, threads are not"},
    {"lr", LQ_OPTION_REAL, AT(lq_train_opts, lr), 1e-4, 0, 10, NULL, "peak learning rate"},
    {"schedule", LQ_OPTION_CHOICE, AT(lq_train_opts, schedule), LQ_SCHEDULE_COSINE, 0, 0,
     LQ_SCHEDULE_WORDS, "learning-rate schedule"},
    {"warmup", LQ_OPTION_REAL, AT(lq_train_opts, warmup), 0, 0, 1, NULL, "share of the steps"},
    {"decay", LQ_OPTION_REAL, AT(lq_train_opts, decay), 0.3, 0, 1, NULL,
     "share of the steps, wsd only"},
    {"beta1", LQ_OPTION_REAL, AT(lq_train_opts, beta1), 0.9, 0, 1, NULL, "AdamW"},
    {"beta2", LQ_OPTION_REAL, AT(lq_train_opts, beta2), 0.95, 0, 1, NULL, "AdamW"},
    {"eps", LQ_OPTION_REAL, AT(lq_train_opts, eps), 1e-8, 0, 1, NULL, "AdamW"},
    {"clip", LQ_OPTION_REAL, AT(lq_train_opts, clip), 1, 0, 1e9, NULL,
     "bound on the gradient norm; 0 = none"},
    {"rest", LQ_OPTION_BOOL, AT(lq_train_opts, rest), 1, 0, 0, NULL,
     "norms, embeddings and head train, too"},
};
static const lq_option calib_table[] = {
    {"tokens", LQ_OPTION_SIZE, AT(lq_calib_opts, tokens), 65536, 1, (double)(1ul << 40), NULL,
     "tokens of calibration"},
    {"context", LQ_OPTION_SIZE, AT(lq_calib_opts, context), 128, 2, 1 << 20, NULL,
     "tokens per sequence"},
};
static const lq_option eval_table[] = {
    {"context", LQ_OPTION_SIZE, AT(lq_eval_opts, context), 128, 2, 1 << 20, NULL,
     "tokens per window"},
    {"windows", LQ_OPTION_SIZE, AT(lq_eval_opts, windows), 0, 0, (double)(1ul << 40), NULL,
     "at most so many windows; 0 = all"},
};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* One member: "data" is text, the rest belongs to the table. */
static lq_status read_member(const lq_json *run, const char *where, const char *key,
                             const char *fallback, const lq_option *table, size_t n,
                             lq_arena *arena, void *opts, const char **data)
{
    const lq_json *member = lq_json_get(run, key);
    const char *place = lq_arena_printf(arena, "%s: %s", where, key), *name = fallback;
    lq_json *rest = lq_json_object();
    lq_status status = LQ_OK;
    if (member != NULL && lq_json_type(member) != LQ_JSON_OBJECT)
        status = lq_fail(LQ_E_OPTION, "%s must be an object", place);
    if (member != NULL && status == LQ_OK)
        status = lq_json_text(member, place, "data", fallback, &name);
    for (const lq_json *m = lq_json_first(member); status == LQ_OK && m != NULL;
         m = lq_json_next(m))
        if (strcmp(lq_json_key(m), "data") != 0)
            lq_json_set(rest, lq_json_key(m), lq_json_copy(m));
    if (status == LQ_OK)
        status = lq_options_read(table, n, rest, place, opts);
    *data = lq_arena_printf(arena, "%s", name);
    lq_json_free(rest);
    return status;
}

lq_status lq_recipe_read(const lq_json *run, const char *where, lq_arena *arena, lq_recipe *r)
{
    LQ_TRY(read_member(run, where, "train", "techdocs:train", train_table, COUNT(train_table),
                       arena, &r->train, &r->train_data));
    LQ_TRY(read_member(run, where, "calib", "techdocs:calib", calib_table, COUNT(calib_table),
                       arena, &r->calib, &r->calib_data));
    return read_member(run, where, "eval", "techdocs:test", eval_table, COUNT(eval_table), arena,
                       &r->eval, &r->eval_data);
}

void lq_recipe_write(const lq_recipe *r, lq_json *run)
{
    lq_json *train = lq_options_write(train_table, COUNT(train_table), &r->train);
    lq_json *calib = lq_options_write(calib_table, COUNT(calib_table), &r->calib);
    lq_json *eval = lq_options_write(eval_table, COUNT(eval_table), &r->eval);
    lq_json_set_string(train, "data", r->train_data);
    lq_json_set_string(calib, "data", r->calib_data);
    lq_json_set_string(eval, "data", r->eval_data);
    lq_json_set(run, "train", train);
    lq_json_set(run, "calib", calib);
    lq_json_set(run, "eval", eval);
}

size_t lq_recipe_steps(const lq_recipe *r, double tokens)
{
    const double steps = floor(tokens / (double)(r->train.batch * r->train.context) + 0.5);
    return steps < 1 ? 1 : (size_t)steps;
}

lq_train_config lq_recipe_train(const lq_recipe *r, size_t steps)
{
    const lq_train_opts *t = &r->train;
    lq_train_config c = {.batch = t->batch,
                         .T = t->context,
                         .micro = t->micro,
                         .lanes = t->lanes,
                         .steps = steps,
                         .lr = t->lr,
                         .train_rest = t->rest};
    c.schedule = (lq_schedule){(lq_schedule_kind)t->schedule, (size_t)(t->warmup * (double)steps),
                               (size_t)(t->decay * (double)steps)};
    c.adamw = (lq_adamw){t->beta1, t->beta2, t->eps, t->clip};
    return c;
}

lq_status lq_recipe_calib(const lq_recipe *r, const lq_data *data, const lq_rng *rng,
                          lq_arena *arena, lq_calib_data *out)
{
    const size_t T = r->calib.context, n = (r->calib.tokens + T - 1) / T, have = data->n / T;
    uint32_t *token, *order;
    if (have < n)
        return lq_fail(LQ_E_SHAPE, "calibration: %s has %zu sequences of %zu tokens, %zu needed",
                       data->name, have, T, n);
    LQ_TRY(lq_arena_new(arena, &token, n * T));
    LQ_TRY(lq_arena_new(arena, &order, have));
    lq_rng stream = lq_rng_split(rng, "calibration", 0);
    lq_rng_permutation(&stream, order, have);
    for (size_t i = 0; i < n; i++)
        memcpy(token + i * T, data->token + (size_t)order[i] * T, T * sizeof *token);
    *out = (lq_calib_data){token, n, T};
    return LQ_OK;
}
