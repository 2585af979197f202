#include "experiments/cost.h"

#include "core/base/file.h"
#include "core/model/config.h"
#include "experiments/model.h"

#include <string.h>
#include <sys/stat.h>

static double number(const lq_json *object, const char *key)
{
    const double value = lq_json_number(lq_json_get(object, key));
    return value > 0 ? value : 0; /* 0 for a NaN: the key is not there */
}

/* A training token costs three (forward, and twice that backward), calibration one, a pass of block-wise
 * tuning over it three more. Evaluation and start-up are about the same for all and stand in as a constant. */
double lq_cost_of(const lq_json *resolved, double per_token, lq_job_part part[LQ_JOB_PARTS])
{
    const lq_json *stage = lq_json_get(resolved, "blockwise");
    const lq_json *calib = lq_json_get(resolved, "calib");
    const double tokens = number(calib, "tokens"), steps = number(stage, "iterations");
    const double step = number(stage, "batch") * number(calib, "context");
    const double tuned = steps > 0 ? steps * step : number(stage, "epochs") * tokens;
    const double trained = number(resolved, "fraction") * number(resolved, "budget_tokens");
    const lq_job_part parts[LQ_JOB_PARTS] = {
        {"quantizing", per_token * (tokens + 3 * tuned)},
        {"training", per_token * 3 * trained},
        {"perplexity", per_token * 2e5},
    };
    double sum = 0;
    for (size_t i = 0; i < LQ_JOB_PARTS; i++) {
        part[i] = parts[i];
        sum += parts[i].cost;
    }
    return sum;
}

static double of_config(const lq_config *c)
{
    const double attention = (double)c->D * (double)(2 * (c->H + c->Hkv) * c->dh);
    const double mlp = 3 * (double)c->D * (double)c->F;
    return (double)c->L * (attention + mlp) + (double)c->V * (double)c->D;
}

static double bytes_of(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 && S_ISREG(file.st_mode) ? (double)file.st_size : 0;
}

static double weights_in(const char *dir, lq_arena *arena)
{
    static const char *const ends[] = {".gguf", ".safetensors", ".bin"};
    char **name;
    size_t n;
    double sum = 0;
    if (lq_path_list(dir, arena, &name, &n) != LQ_OK)
        return 0;
    for (size_t i = 0; i < n; i++)
        for (size_t e = 0; e < sizeof ends / sizeof ends[0]; e++) {
            const size_t all = strlen(name[i]), end = strlen(ends[e]);
            if (all > end && strcmp(name[i] + all - end, ends[e]) == 0)
                sum += bytes_of(lq_arena_printf(arena, "%s/%s", dir, name[i]));
        }
    return sum;
}

double lq_cost_parameters(const char *model)
{
    lq_arena arena = {0};
    lq_config config;
    const char *dir;
    double found = bytes_of(model);
    if (!(found > 0) && lq_model_dir(model, &arena, &dir) == LQ_OK) {
        const char *path = lq_arena_printf(&arena, "%s/config.json", dir);
        found = lq_config_read(path, &arena, &config) == LQ_OK ? of_config(&config)
                                                               : weights_in(dir, &arena);
    }
    lq_arena_close(&arena);
    return found > 0 ? found : 1;
}
