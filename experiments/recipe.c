#include "experiments/recipe.h"

#include "experiments/methods.h"

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
    /* From here on: each is written only where it has another value (docs/decisions/0042). */
    {"optimizer", LQ_OPTION_CHOICE, AT(lq_train_opts, optimizer), LQ_OPTIMIZER_ADAMW, 0, 0,
     LQ_OPTIMIZER_WORDS, "what moves the parameters"},
    {"normalize", LQ_OPTION_CHOICE, AT(lq_train_opts, normalize), LQ_NORMALIZE_TOKEN, 0, 0,
     "token|sequence", "gradient of the mean over tokens, or over sequences of sums over tokens"},
    {"weight_decay", LQ_OPTION_REAL, AT(lq_train_opts, weight_decay), 0, 0, 100, NULL,
     "of matrices and latents, decoupled"},
    {"loss", LQ_OPTION_CHOICE, AT(lq_train_opts, loss), LQ_LOSS_CE, 0, 0, LQ_LOSS_WORDS,
     "cross-entropy, or a divergence from the full-precision model"},
    {"loss_weight", LQ_OPTION_REAL, AT(lq_train_opts, loss_weight), 1, 1e-9, 1e9, NULL,
     "of the divergence"},
    {"ce_weight", LQ_OPTION_REAL, AT(lq_train_opts, ce_weight), 0, 0, 1e9, NULL,
     "of cross-entropy added to the divergence"},
    {"temperature", LQ_OPTION_REAL, AT(lq_train_opts, temperature), 1, 0.01, 100, NULL,
     "of both distributions; the divergence is multiplied by its square"},
    {"beta", LQ_OPTION_REAL, AT(lq_train_opts, beta), 0, 0, 2, NULL,
     "cakld: share of the reverse KL, 0 measures it; jsd: share of the teacher, 0 means 0.5"},
    {"teacher_topk", LQ_OPTION_SIZE, AT(lq_train_opts, teacher_topk), 0, 0, 1 << 20, NULL,
     "likeliest tokens that are kept of the teacher, in a file; 0: it runs beside the student"},
    {"data_from", LQ_OPTION_CHOICE, AT(lq_train_opts, data_from), LQ_DATA_TEXT, 0, 0,
     "text|teacher|continuation", "what is trained on: text, or what the full model writes"},
    {"sample_temperature", LQ_OPTION_REAL, AT(lq_train_opts, sample_temperature), 1, 0, 100, NULL,
     "of writing it; 0: the likeliest token"},
    {"sample_top_p", LQ_OPTION_REAL, AT(lq_train_opts, sample_top_p), 1, 0, 1, NULL,
     "share of the probability that tokens are drawn from"},
    {"prompt", LQ_OPTION_SIZE, AT(lq_train_opts, prompt), 16, 1, 1 << 20, NULL,
     "tokens of text that each continuation begins with"},
    {"checkpointing", LQ_OPTION_CHOICE, AT(lq_train_opts, checkpointing), LQ_CHECKPOINTING_AUTO, 0,
     0, "auto|on|off", "keep the blocks' inputs alone and compute the rest again in the backward"},
    {"compute", LQ_OPTION_CHOICE, AT(lq_train_opts, compute), LQ_COMPUTE_F32, 0, 0, "f32|bf16",
     "number format of the matrix products"},
};
enum { N_FIRST_TRAIN = 13 };
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
     "epochs without improvement that end a block; keep best only"},
    {"micro", LQ_OPTION_SIZE, AT(lq_blockwise_config, micro), 4, 1, 65536, NULL,
     "sequences per micro-batch"},
    {"lanes", LQ_OPTION_SIZE, AT(lq_blockwise_config, lanes), 2, 1, 256, NULL,
     "micro-batches side by side; part of the arithmetic, threads are not"},
    /* From here on: not written where all have these values (docs/decisions/0042). */
    {"iterations", LQ_OPTION_SIZE, AT(lq_blockwise_config, iterations), 0, 0, 1e9, NULL,
     "steps of a block in place of epochs; 0: epochs"},
    {"target", LQ_OPTION_CHOICE, AT(lq_blockwise_config, target), LQ_TARGET_MODEL, 0, 0,
     LQ_BLOCKWISE_TARGET_WORDS,
     "what the full-precision model has there, or its block makes of the same inputs, or both"},
    {"optimizer", LQ_OPTION_CHOICE, AT(lq_blockwise_config, optimizer), LQ_OPTIMIZER_ADAMW, 0, 0,
     LQ_OPTIMIZER_WORDS, "of a block"},
    {"beta1", LQ_OPTION_REAL, AT(lq_blockwise_config, beta1), 0.9, 0, 1, NULL, "Adam and Lion"},
    {"beta2", LQ_OPTION_REAL, AT(lq_blockwise_config, beta2), 0.999, 0, 1, NULL, "Adam and Lion"},
    {"schedule", LQ_OPTION_CHOICE, AT(lq_blockwise_config, schedule), 0, 0, 0,
     LQ_BLOCKWISE_SCHEDULE_WORDS, "learning rates over the steps of a block"},
    {"lr_floor", LQ_OPTION_REAL, AT(lq_blockwise_config, lr_floor), 0, 0, 1, NULL,
     "what a schedule falls to, as a share of the rate"},
    {"lr_unit", LQ_OPTION_CHOICE, AT(lq_blockwise_config, lr_unit), LQ_LR_STEP, 0, 0,
     LQ_BLOCKWISE_LR_UNIT_WORDS, "rates are a step's, or what all steps of a block add up to"},
    {"slot_rates", LQ_OPTION_BOOL, AT(lq_blockwise_config, slot_rates), 0, 0, 0, NULL,
     "a slot's own learning rate, decay and gradient scale hold here, too"},
    {"decay_latent", LQ_OPTION_REAL, AT(lq_blockwise_config, decay_latent), 0, 0, 100, NULL,
     "weight decay of slots of the weight's shape or larger"},
    {"keep", LQ_OPTION_CHOICE, AT(lq_blockwise_config, keep), LQ_KEEP_BEST, 0, 0,
     LQ_BLOCKWISE_KEEP_WORDS,
     "state a block ends with: of least held-out loss, the last, or of least loss of a step"},
};
enum { N_FIRST_BLOCKWISE = 12 }; /* written wherever there is a stage */
static const lq_option eval_table[] = {
    {"context", LQ_OPTION_SIZE, AT(lq_eval_opts, context), 128, 2, 1 << 20, NULL,
     "tokens per window"},
    {"windows", LQ_OPTION_SIZE, AT(lq_eval_opts, windows), 0, 0, (double)(1ul << 40), NULL,
     "at most so many windows; 0 = all"},
    /* Written only beside a text `also` (docs/decisions/0042). */
    {"also_windows", LQ_OPTION_SIZE, AT(lq_eval_opts, also_windows), 0, 0, (double)(1ul << 40),
     NULL, "of the second text; 0 = all"},
};
enum { N_FIRST_EVAL = 2 };
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
static lq_status read_member(const lq_json *member, const char *where, const char *key,
                             const text_key *text, size_t n_text, const lq_option *table, size_t n,
                             lq_arena *arena, void *opts)
{
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

/* The stage that belongs to the method of a run, as settings; NULL: it has none. */
static lq_status stage_of_method(const lq_json *run, const char *where, lq_arena *arena,
                                 const lq_method **method, const char **settings)
{
    const lq_json *given = lq_json_get(run, "method");
    const char *name;
    void *opts;
    *settings = NULL;
    if (given == NULL)
        return LQ_OK;
    LQ_TRY(lq_json_text(given, where, "name", NULL, &name));
    LQ_TRY(lq_method_find(name, method));
    if ((*method)->blockwise == NULL)
        return LQ_OK;
    lq_json *options = lq_json_object();
    for (const lq_json *m = lq_json_first(given); m != NULL; m = lq_json_next(m))
        if (strcmp(lq_json_key(m), "name") != 0)
            lq_json_set(options, lq_json_key(m), lq_json_copy(m));
    const lq_status status = lq_method_options(*method, options, where, arena, &opts);
    lq_json_free(options);
    LQ_TRY(status);
    *settings = (*method)->blockwise(opts);
    return LQ_OK;
}

static lq_status read_blockwise(const lq_json *run, const char *where, lq_arena *arena,
                                lq_recipe *r)
{
    const text_key text[] = {{"slots", "scales", &r->blockwise.slots}};
    const lq_json *given = lq_json_get(run, "blockwise");
    const lq_method *method = NULL;
    const char *settings;
    lq_json *merged = NULL;
    LQ_TRY(stage_of_method(run, where, arena, &method, &settings));
    r->stage_of_method = settings != NULL;
    if (settings != NULL && (given == NULL || lq_json_type(given) == LQ_JSON_OBJECT)) {
        const lq_preset stage = {"", settings};
        LQ_TRY(lq_options_preset(&stage, 1, given, &merged));
        given = merged;
    }
    const lq_status status = read_member(given, where, "blockwise", text, 1, blockwise_table,
                                         COUNT(blockwise_table), arena, &r->blockwise);
    lq_json_free(merged);
    LQ_TRY(status);
    if (r->stage_of_method && !lq_blockwise_is_on(&r->blockwise))
        return lq_fail(LQ_E_OPTION,
                       "%s: blockwise: without its block-wise stage %s would be another method; "
                       "let iterations or epochs be above 0",
                       where, method->name);
    return LQ_OK;
}

static lq_status refuse_unless(bool fits, const char *where, const char *key, const char *what)
{
    return fits ? LQ_OK : lq_fail(LQ_E_OPTION, "%s: train: %s is of %s", where, key, what);
}

/* Options that say something where nobody listens are mistakes. */
static lq_status check_train(const lq_recipe *r, const char *where)
{
    const lq_train_opts *t = &r->train;
    const bool guided = t->loss != LQ_LOSS_CE, blended = t->loss == LQ_LOSS_CAKLD;
    const bool written = t->data_from != LQ_DATA_TEXT;
    const char *teacher = "losses with a teacher; loss is ce";
    const char *text = "text that the model writes; data_from is text";
    LQ_TRY(refuse_unless(guided || t->loss_weight == 1, where, "loss_weight", teacher));
    LQ_TRY(refuse_unless(guided || t->ce_weight == 0, where, "ce_weight", teacher));
    LQ_TRY(refuse_unless(guided || t->temperature == 1, where, "temperature", teacher));
    LQ_TRY(refuse_unless(guided || t->teacher_topk == 0, where, "teacher_topk", teacher));
    LQ_TRY(refuse_unless(blended || t->loss == LQ_LOSS_JSD || t->beta == 0, where, "beta",
                         "the losses cakld and jsd"));
    if (t->loss == LQ_LOSS_JSD && t->beta >= 1)
        return lq_fail(LQ_E_OPTION, "%s: train: beta of jsd must be below 1", where);
    LQ_TRY(refuse_unless(written || t->sample_temperature == 1, where, "sample_temperature", text));
    LQ_TRY(refuse_unless(written || t->sample_top_p == 1, where, "sample_top_p", text));
    LQ_TRY(refuse_unless(t->data_from == LQ_DATA_CONTINUATION || t->prompt == 16, where, "prompt",
                         "data_from continuation"));
    if (t->data_from == LQ_DATA_CONTINUATION && t->prompt > t->context)
        return lq_fail(LQ_E_OPTION, "%s: train: a prompt of %zu tokens leaves nothing of %zu",
                       where, t->prompt, t->context);
    return LQ_OK;
}

lq_status lq_recipe_read(const lq_json *run, const char *where, lq_arena *arena, lq_recipe *r)
{
    const text_key train[] = {{"data", "techdocs:train", &r->train_data},
                              {"slots", "method", &r->train_slots}};
    const text_key calib[] = {{"data", "techdocs:calib", &r->calib_data},
                              {"hessians", NULL, &r->hessians}};
    const text_key eval[] = {{"data", "techdocs:test", &r->eval_data},
                             {"also", NULL, &r->eval_also}};
    LQ_TRY(read_member(lq_json_get(run, "train"), where, "train", train, 2, train_table,
                       COUNT(train_table), arena, &r->train));
    LQ_TRY(check_train(r, where));
    LQ_TRY(read_member(lq_json_get(run, "calib"), where, "calib", calib, 2, calib_table,
                       COUNT(calib_table), arena, &r->calib));
    LQ_TRY(read_blockwise(run, where, arena, r));
    LQ_TRY(read_member(lq_json_get(run, "eval"), where, "eval", eval, 2, eval_table,
                       COUNT(eval_table), arena, &r->eval));
    if (r->eval_also == NULL && r->eval.also_windows != 0)
        return lq_fail(LQ_E_OPTION, "%s: eval: also_windows is of a second text; `also` is absent",
                       where);
    if (r->eval_also != NULL && strcmp(r->eval_also, "none") == 0) { /* as of a search */
        r->eval_also = NULL;
        r->eval.also_windows = 0;
    }
    return LQ_OK;
}

/* Every option of the stage; of those after the first, all or, where none is set, none. */
static lq_json *write_blockwise(const lq_recipe *r)
{
    const lq_option *more = blockwise_table + N_FIRST_BLOCKWISE;
    const size_t n_more = COUNT(blockwise_table) - N_FIRST_BLOCKWISE;
    lq_blockwise_config unset = r->blockwise;
    lq_arena arena = {0};
    LQ_ASSERT(lq_options_read(more, n_more, NULL, "", &unset) == LQ_OK); /* the defaults */
    lq_json *set = lq_options_write(more, n_more, &r->blockwise);
    lq_json *defaults = lq_options_write(more, n_more, &unset);
    const bool plain =
        strcmp(lq_json_canonical(set, &arena), lq_json_canonical(defaults, &arena)) == 0;
    lq_json *all = lq_options_write(
        blockwise_table, r->stage_of_method || !plain ? COUNT(blockwise_table) : N_FIRST_BLOCKWISE,
        &r->blockwise);
    lq_json_set_string(all, "slots", r->blockwise.slots);
    lq_json_free(set);
    lq_json_free(defaults);
    lq_arena_close(&arena);
    return all;
}

/* The options of train: the first ones, and those that have another value than their default. */
static lq_json *write_train(const lq_recipe *r)
{
    const lq_option *more = train_table + N_FIRST_TRAIN;
    const size_t n_more = COUNT(train_table) - N_FIRST_TRAIN;
    lq_train_opts unset = r->train;
    lq_arena arena = {0};
    LQ_ASSERT(lq_options_read(more, n_more, NULL, "", &unset) == LQ_OK); /* the defaults */
    lq_json *all = lq_options_write(train_table, N_FIRST_TRAIN, &r->train);
    lq_json *set = lq_options_write(more, n_more, &r->train);
    lq_json *defaults = lq_options_write(more, n_more, &unset);
    for (const lq_json *m = lq_json_first(set); m != NULL; m = lq_json_next(m)) {
        const lq_json *plain = lq_json_get(defaults, lq_json_key(m));
        if (strcmp(lq_json_canonical(m, &arena), lq_json_canonical(plain, &arena)) != 0)
            lq_json_set(all, lq_json_key(m), lq_json_copy(m));
    }
    if (strcmp(r->train_slots, "method") != 0)
        lq_json_set_string(all, "slots", r->train_slots);
    lq_json_free(set);
    lq_json_free(defaults);
    lq_arena_close(&arena);
    return all;
}

void lq_recipe_write(const lq_recipe *r, lq_json *run)
{
    lq_json *train = write_train(r);
    lq_json *calib = lq_options_write(calib_table, COUNT(calib_table), &r->calib);
    lq_json *eval = lq_options_write(
        eval_table, r->eval_also != NULL ? COUNT(eval_table) : N_FIRST_EVAL, &r->eval);
    lq_json_set_string(train, "data", r->train_data);
    lq_json_set_string(calib, "data", r->calib_data);
    lq_json_set_string(eval, "data", r->eval_data);
    if (r->eval_also != NULL)
        lq_json_set_string(eval, "also", r->eval_also);
    if (r->hessians != NULL)
        lq_json_set_string(calib, "hessians", r->hessians);
    if (lq_blockwise_is_on(&r->blockwise))
        lq_json_set(run, "blockwise", write_blockwise(r));
    lq_json_set(run, "train", train);
    lq_json_set(run, "calib", calib);
    lq_json_set(run, "eval", eval);
}

bool lq_recipe_calibrates(const lq_recipe *r, unsigned needs)
{
    return lq_blockwise_is_on(&r->blockwise) || (needs & LQ_NEEDS_FEATURES) != 0 ||
           ((needs & LQ_NEEDS_GRAM) != 0 && r->hessians == NULL);
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
                         .weight_decay = t->weight_decay,
                         .train_rest = t->rest,
                         .checkpointing = (lq_checkpointing)t->checkpointing,
                         .compute = (lq_compute)t->compute,
                         .optimizer = t->optimizer,
                         .sum_per_sequence = t->normalize == LQ_NORMALIZE_SEQUENCE};
    c.slots = strcmp(r->train_slots, "method") == 0 ? NULL : r->train_slots;
    c.loss = (lq_loss_config){t->loss, t->loss_weight, t->ce_weight, t->temperature, t->beta};
    if (t->loss == LQ_LOSS_JSD && t->beta == 0)
        c.loss.beta = 0.5;
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
