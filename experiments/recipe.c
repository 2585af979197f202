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
static const lq_option blockwise_table[] = {
    {"epochs", LQ_OPTION_SIZE, AT(lq_blockwise_config, epochs), 0, 0, 1000, NULL,
     "passes over the calibration sequences at most; 0: no fine-tuning"},
    {"feed", LQ_OPTION_CHOICE, AT(lq_blockwise_config, feed), LQ_FEED_FULL, 0, 0,
     LQ_BLOCKWISE_FEED_WORDS, "inputs of the block: full precision's, or the quantized prefix's"},
    {"lr_scales", LQ_OPTION_REAL, AT(lq_blockwise_config, lr_scales), 5e-4, 0, 10, NULL,
     "Adam, slots smaller than the weight"},
    {"lr_latent", LQ_OPTION_REAL, AT(lq_blockwise_config, lr_latent), 5e-4, 0, 10, NULL,
     "Adam, slots of the weight's shape, where `slots` lists them"},
    {"lr_norms", LQ_OPTION_REAL, AT(lq_blockwise_config, lr_norms), 5e-5, 0, 10, NULL,
     "Adam, norms of the block"},
    {"norms", LQ_OPTION_BOOL, AT(lq_blockwise_config, norms), 1, 0, 0, NULL,
     "the block's norms move, too"},
    {"drop_norms", LQ_OPTION_BOOL, AT(lq_blockwise_config, drop_norms), 0, 0, 0, NULL,
     "put them back afterwards, as the released conversion does"},
    {"batch", LQ_OPTION_SIZE, AT(lq_blockwise_config, batch), 8, 1, 65536, NULL,
     "sequences per step"},
    {"validation", LQ_OPTION_REAL, AT(lq_blockwise_config, validation), 0.125, 0, 0.9, NULL,
     "share of the sequences that is held out, at least one"},
    {"patience", LQ_OPTION_SIZE, AT(lq_blockwise_config, patience), 3, 1, 1000, NULL,
     "epochs without improvement that end a block"},
    {"micro", LQ_OPTION_SIZE, AT(lq_blockwise_config, micro), 4, 1, 65536, NULL,
     "sequences per micro-batch"},
    {"lanes", LQ_OPTION_SIZE, AT(lq_blockwise_config, lanes), 2, 1, 256, NULL,
     "micro-batches side by side; part of the arithmetic, threads are not"},
};
static const lq_option eval_table[] = {
    {"context", LQ_OPTION_SIZE, AT(lq_eval_opts, context), 128, 2, 1 << 20, NULL,
     "tokens per window"},
    {"windows", LQ_OPTION_SIZE, AT(lq_eval_opts, windows), 0, 0, (double)(1ul << 40), NULL,
     "at most so many windows; 0 = all"},
};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* A key of a member that is text and so stands in no table. */
typedef struct text_key {
    const char *name, *fallback; /* NULL: the key may be absent */
    const char **out;
} text_key;

static bool is_text(const text_key *text, size_t n_text, const char *key)
{
    for (size_t i = 0; i < n_text; i++)
        if (strcmp(text[i].name, key) == 0)
            return true;
    return false;
}

static lq_status read_texts(const lq_json *member, const char *place, const text_key *text,
                            size_t n_text, lq_arena *arena)
{
    for (size_t i = 0; i < n_text; i++) {
        const char *found = text[i].fallback;
        if (lq_json_get(member, text[i].name) != NULL)
            LQ_TRY(lq_json_text(member, place, text[i].name, NULL, &found));
        *text[i].out = found != NULL ? lq_arena_printf(arena, "%s", found) : NULL;
    }
    return LQ_OK;
}

/* One member: some keys are text, the rest belongs to the table. */
static lq_status read_member(const lq_json *run, const char *where, const char *key,
                             const text_key *text, size_t n_text, const lq_option *table, size_t n,
                             lq_arena *arena, void *opts)
{
    const lq_json *member = lq_json_get(run, key);
    const char *place = lq_arena_printf(arena, "%s: %s", where, key);
    if (member != NULL && lq_json_type(member) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s must be an object", place);
    LQ_TRY(read_texts(member, place, text, n_text, arena));
    lq_json *rest = lq_json_object();
    for (const lq_json *m = lq_json_first(member); m != NULL; m = lq_json_next(m))
        if (!is_text(text, n_text, lq_json_key(m)))
            lq_json_set(rest, lq_json_key(m), lq_json_copy(m));
    const lq_status status = lq_options_read(table, n, rest, place, opts);
    lq_json_free(rest);
    return status;
}

lq_status lq_recipe_read(const lq_json *run, const char *where, lq_arena *arena, lq_recipe *r)
{
    const text_key train[] = {{"data", "techdocs:train", &r->train_data}};
    const text_key calib[] = {{"data", "techdocs:calib", &r->calib_data},
                              {"hessians", NULL, &r->hessians}};
    const text_key eval[] = {{"data", "techdocs:test", &r->eval_data}};
    const text_key blockwise[] = {{"slots", "scales", &r->blockwise.slots}};
    LQ_TRY(read_member(run, where, "train", train, 1, train_table, COUNT(train_table), arena,
                       &r->train));
    LQ_TRY(read_member(run, where, "calib", calib, 2, calib_table, COUNT(calib_table), arena,
                       &r->calib));
    LQ_TRY(read_member(run, where, "blockwise", blockwise, 1, blockwise_table,
                       COUNT(blockwise_table), arena, &r->blockwise));
    return read_member(run, where, "eval", eval, 1, eval_table, COUNT(eval_table), arena, &r->eval);
}

void lq_recipe_write(const lq_recipe *r, lq_json *run)
{
    lq_json *train = lq_options_write(train_table, COUNT(train_table), &r->train);
    lq_json *calib = lq_options_write(calib_table, COUNT(calib_table), &r->calib);
    lq_json *eval = lq_options_write(eval_table, COUNT(eval_table), &r->eval);
    lq_json_set_string(train, "data", r->train_data);
    lq_json_set_string(calib, "data", r->calib_data);
    lq_json_set_string(eval, "data", r->eval_data);
    if (r->hessians != NULL)
        lq_json_set_string(calib, "hessians", r->hessians);
    if (r->blockwise.epochs > 0) {
        lq_json *blockwise =
            lq_options_write(blockwise_table, COUNT(blockwise_table), &r->blockwise);
        lq_json_set_string(blockwise, "slots", r->blockwise.slots);
        lq_json_set(run, "blockwise", blockwise);
    }
    lq_json_set(run, "train", train);
    lq_json_set(run, "calib", calib);
    lq_json_set(run, "eval", eval);
}

bool lq_recipe_calibrates(const lq_recipe *r, unsigned needs)
{
    return r->blockwise.epochs > 0 || ((needs & LQ_NEEDS_GRAM) != 0 && r->hessians == NULL);
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
