#include "core/quant/tuned_grid.h"

#include <math.h>
#include <string.h>

void lq_tuned_layout(const lq_grid_rule *rule, size_t out, size_t in, lq_slot *slot)
{
    const size_t groups = lq_grid_groups(rule, in);
    slot[LQ_TUNED_WEIGHT] =
        (lq_slot){.name = "weight", .kind = LQ_KIND_FIXED, .rows = out, .cols = in};
    slot[LQ_TUNED_STEP] =
        (lq_slot){.name = "step", .kind = LQ_KIND_FIXED, .rows = out, .cols = groups};
    slot[LQ_TUNED_ZERO] =
        (lq_slot){.name = "zero", .kind = LQ_KIND_FIXED, .rows = out, .cols = groups};
    for (size_t s = 0; s < LQ_TUNED_SLOTS; s++)
        slot[s].grad_scale = 1;
}

bool lq_tuned_settled(const lq_theta *th, size_t row, size_t group, lq_grid *grid)
{
    const size_t at = row * th->slot[LQ_TUNED_STEP].cols + group;
    grid->step = ((const float *)th->data[LQ_TUNED_STEP])[at];
    grid->zero = ((const float *)th->data[LQ_TUNED_ZERO])[at];
    grid->real_zero = false;
    return fabsf(grid->step) > 0;
}

static lq_grid_rule rule_of(const lq_theta *th) { return th->method->tuned_map->rule(th->opts); }

void lq_tuned_extremes(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group,
                       float *min, float *max)
{
    const float *w = (const float *)th->data[LQ_TUNED_WEIGHT] + row * th->in;
    size_t j, end;
    lq_grid_span(rule, th->in, group, &j, &end);
    for (*min = *max = w[j]; j < end; j++) {
        *max = w[j] > *max ? w[j] : *max;
        *min = w[j] < *min ? w[j] : *min;
    }
}

void lq_tuned_effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const lq_tuned_map *map = th->method->tuned_map;
    const lq_grid_rule rule = rule_of(th);
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < th->slot[LQ_TUNED_STEP].cols; g++) {
            const lq_grid grid = map->grid(th, i, g);
            size_t j, end;
            for (lq_grid_span(&rule, th->in, g, &j, &end); j < end; j++)
                w_eff[i * th->in + j] = lq_grid_value(grid, map->code(th, grid, i, j));
        }
}

static lq_status check_slots(const lq_theta *th)
{
    for (size_t s = LQ_TUNED_SLOTS; s < th->n_slots; s++)
        LQ_TRY(lq_check_finite(th->method->name, th->data[s], th->slot[s].rows, th->slot[s].cols));
    return LQ_OK;
}

lq_status lq_tuned_pack(const lq_theta *th, lq_sink *bytes)
{
    const lq_tuned_map *map = th->method->tuned_map;
    const lq_grid_rule rule = rule_of(th);
    lq_theta ship;
    LQ_TRY(check_slots(th));
    LQ_TRY(lq_grid_theta(&rule, th->out, th->in, bytes->arena, &ship));
    uint8_t *code = lq_theta_codes(&ship, "codes");
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < th->slot[LQ_TUNED_STEP].cols; g++) {
            const lq_grid grid = map->grid(th, i, g);
            size_t j, end;
            if (!isfinite(grid.step))
                return lq_fail(LQ_E_NUMERIC, "%s: the step of row %zu, group %zu overflows fp16",
                               th->method->name, i, g);
            lq_grid_set(&ship, &rule, i, g, grid);
            for (lq_grid_span(&rule, th->in, g, &j, &end); j < end; j++)
                code[i * th->in + j] = (uint8_t)map->code(th, grid, i, j);
        }
    return lq_grid_pack(&ship, &rule, bytes);
}

lq_status lq_tuned_unpack(lq_theta *th, lq_source *bytes)
{
    const lq_grid_rule rule = rule_of(th);
    lq_arena room = {0};
    lq_theta ship;
    lq_status status = lq_grid_theta(&rule, th->out, th->in, &room, &ship);
    if (status == LQ_OK)
        status = lq_grid_unpack(&ship, &rule, bytes);
    const size_t groups = th->slot[LQ_TUNED_STEP].cols;
    for (size_t i = 0; status == LQ_OK && i < th->out * groups; i++) {
        const lq_grid grid = lq_grid_get(&ship, &rule, i / groups, i % groups);
        ((float *)th->data[LQ_TUNED_STEP])[i] = grid.step;
        ((float *)th->data[LQ_TUNED_ZERO])[i] = grid.zero;
    }
    if (status == LQ_OK)
        lq_grid_effective(&ship, &rule, NULL, th->data[LQ_TUNED_WEIGHT]);
    for (size_t s = LQ_TUNED_SLOTS; status == LQ_OK && s < th->n_slots; s++)
        memset(th->data[s], 0, th->slot[s].rows * th->slot[s].cols * sizeof(float));
    lq_arena_close(&room);
    return status;
}
