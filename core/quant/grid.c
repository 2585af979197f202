#include "core/quant/grid.h"

#include "core/data/safetensors.h"

#include <math.h>

enum { N_SHRINKS = 80 }; /* 1.00, 0.99, ..., 0.21 of the range */

float lq_grid_round_step(float step)
{
    float rounded = lq_f16_to_f32(lq_f32_to_f16(step));
    return rounded != 0.0f ? rounded : copysignf(0x1p-24f, step);
}

static int clip_code(float code, int q_max)
{
    return (int)(code < 0.0f ? 0.0f : code > (float)q_max ? (float)q_max : code);
}

int lq_grid_code(lq_grid grid, int q_max, float w)
{
    if (grid.real_zero)
        return clip_code(rintf(w / grid.step + grid.zero), q_max);
    return clip_code(rintf(w / grid.step) + grid.zero, q_max);
}

float lq_grid_value(lq_grid grid, int code) { return grid.step * ((float)code - grid.zero); }

static lq_grid grid_of_range(const lq_grid_rule *rule, float lo, float hi)
{
    int half = (rule->q_max + 1) / 2;
    float top = -lo > hi ? -lo : hi;
    float step = 0, zero = (float)half;
    switch (rule->scheme) {
    case LQ_GRID_REAL_ZERO:
        step = lq_grid_round_step((hi - lo) / (float)rule->q_max);
        zero = lq_f16_to_f32(lq_f32_to_f16(-lo / step));
        return (lq_grid){.step = step, .zero = zero, .real_zero = true};
    case LQ_GRID_ASYM:
        step = lq_grid_round_step((hi - lo) / (float)rule->q_max);
        zero = rintf(-lo / step);
        break;
    case LQ_GRID_ASYM_RANGE:
        step = lq_grid_round_step((hi - lo > 1e-5f ? hi - lo : 1e-5f) / (float)rule->q_max);
        zero = -rintf(lo / step);
        break;
    case LQ_GRID_SYM:
        step = lq_grid_round_step(2 * top / (float)rule->q_max);
        break;
    case LQ_GRID_SYM_MAX:
        step = lq_grid_round_step(top / (float)(half - 1));
        break;
    case LQ_GRID_FULLRANGE: /* a tie of -lo and hi goes to hi, as in AutoRound */
        step = lq_grid_round_step((-lo > hi ? -lo : -hi) / (float)half);
        break;
    }
    return (lq_grid){.step = step, .zero = (float)clip_code(zero, rule->q_max)};
}

/* sum |w_eff - w|^2.4, or any number >= enough once it is known to reach that. */
static double group_error(const lq_grid_rule *rule, lq_grid grid, const float *w, size_t n,
                          double enough)
{
    double sum = 0;
    for (size_t i = 0; i < n && sum < enough; i++) {
        float value = lq_grid_value(grid, lq_grid_code(grid, rule->q_max, w[i]));
        sum += (double)powf(fabsf(value - w[i]), 2.4f);
    }
    return sum;
}

bool lq_grid_fit(const lq_grid_rule *rule, const float *w, size_t n, lq_grid *out)
{
    float lo = w[0], hi = w[0];
    for (size_t i = 1; i < n; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    if (rule->scheme != LQ_GRID_ASYM_RANGE) {
        lo = lo < 0.0f ? lo : 0.0f;
        hi = hi > 0.0f ? hi : 0.0f;
        if (lo == hi) { /* all zeros: any step does */
            lo = rule->scheme == LQ_GRID_REAL_ZERO ? 0.0f : -1.0f;
            hi = 1.0f;
        }
    }
    *out = grid_of_range(rule, lo, hi);
    bool found = isfinite(out->step) && isfinite(out->zero);
    double best = found && rule->mse ? group_error(rule, *out, w, n, HUGE_VAL) : HUGE_VAL;
    for (int k = 1; k < N_SHRINKS && rule->mse; k++) {
        float shrink = (float)(1.0 - k / 100.0);
        lq_grid grid = grid_of_range(rule, shrink * lo, shrink * hi);
        if (!isfinite(grid.step) || !isfinite(grid.zero))
            continue;
        double error = group_error(rule, grid, w, n, best);
        if (error < best) { /* strictly: of equals the widest wins */
            best = error;
            *out = grid;
            found = true;
        }
    }
    return found;
}

size_t lq_grid_groups(const lq_grid_rule *rule, size_t in)
{
    if (rule->group == 0 || rule->group >= in)
        return 1;
    return in / rule->group + (in % rule->group != 0);
}

void lq_grid_span(const lq_grid_rule *rule, size_t in, size_t g, size_t *first, size_t *end)
{
    const size_t each = lq_grid_groups(rule, in) == 1 ? in : rule->group;
    *first = g * each;
    *end = in - *first < each ? in : *first + each;
}

bool lq_grid_has_zero(const lq_grid_rule *rule)
{
    return rule->scheme == LQ_GRID_ASYM || rule->scheme == LQ_GRID_ASYM_RANGE ||
           rule->scheme == LQ_GRID_REAL_ZERO;
}

enum { CODES, STEP, ZERO }; /* slots */

void lq_grid_layout(const lq_grid_rule *rule, size_t out, size_t in, lq_slot *slot, size_t *n_slots)
{
    size_t groups = lq_grid_groups(rule, in);
    slot[CODES] = (lq_slot){"codes", LQ_KIND_DISCRETE, .rows = out, .cols = in, .grad_scale = 1};
    slot[STEP] = (lq_slot){"step", LQ_KIND_FIXED, .rows = out, .cols = groups, .grad_scale = 1};
    *n_slots = ZERO;
    if (lq_grid_has_zero(rule)) {
        const bool real = rule->scheme == LQ_GRID_REAL_ZERO;
        slot[ZERO] = (lq_slot){"zero", real ? LQ_KIND_FIXED : LQ_KIND_DISCRETE, .rows = out,
                               .cols = groups, .grad_scale = 1};
        *n_slots = ZERO + 1;
    }
}

lq_status lq_grid_theta(const lq_grid_rule *rule, size_t out, size_t in, lq_arena *arena,
                        lq_theta *th)
{
    *th = (lq_theta){.out = out, .in = in};
    lq_grid_layout(rule, out, in, th->slot, &th->n_slots);
    for (size_t i = 0; i < th->n_slots; i++) {
        const size_t each = th->slot[i].kind == LQ_KIND_DISCRETE ? 1 : sizeof(float);
        LQ_TRY(lq_arena_zeroed(arena, th->slot[i].rows * th->slot[i].cols, each, &th->data[i]));
    }
    return LQ_OK;
}

lq_grid lq_grid_get(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group)
{
    size_t at = row * th->slot[STEP].cols + group;
    lq_grid grid = {.step = ((const float *)th->data[STEP])[at],
                    .zero = (float)((rule->q_max + 1) / 2),
                    .real_zero = rule->scheme == LQ_GRID_REAL_ZERO};
    if (grid.real_zero)
        grid.zero = ((const float *)th->data[ZERO])[at];
    else if (lq_grid_has_zero(rule))
        grid.zero = ((const uint8_t *)th->data[ZERO])[at];
    return grid;
}

void lq_grid_set(lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group, lq_grid grid)
{
    size_t at = row * th->slot[STEP].cols + group;
    ((float *)th->data[STEP])[at] = grid.step;
    if (grid.real_zero)
        ((float *)th->data[ZERO])[at] = grid.zero;
    else if (lq_grid_has_zero(rule))
        ((uint8_t *)th->data[ZERO])[at] = (uint8_t)grid.zero;
}

void lq_grid_effective(const lq_theta *th, const lq_grid_rule *rule, const float *group_of,
                       float *w_eff)
{
    size_t groups = th->slot[STEP].cols, group = groups == 1 ? th->in : rule->group;
    const uint8_t *code = th->data[CODES];
    for (size_t i = 0; i < th->out; i++, code += th->in, w_eff += th->in) {
        if (group_of != NULL) {
            for (size_t j = 0; j < th->in; j++)
                w_eff[j] = lq_grid_value(lq_grid_get(th, rule, i, (size_t)group_of[j]), code[j]);
            continue;
        }
        for (size_t g = 0; g < groups; g++) {
            lq_grid grid = lq_grid_get(th, rule, i, g);
            size_t end = th->in - g * group < group ? th->in : (g + 1) * group;
            for (size_t j = g * group; j < end; j++)
                w_eff[j] = lq_grid_value(grid, code[j]);
        }
    }
}

lq_status lq_grid_pack(const lq_theta *th, const lq_grid_rule *rule, lq_sink *bytes)
{
    size_t levels = (size_t)rule->q_max + 1, n_steps = th->slot[STEP].rows * th->slot[STEP].cols;
    LQ_TRY(lq_sink_codes(bytes, th->data[CODES], th->out, th->in, levels));
    LQ_TRY(lq_sink_f16(bytes, th->data[STEP], n_steps));
    if (rule->scheme == LQ_GRID_REAL_ZERO)
        LQ_TRY(lq_sink_f16(bytes, th->data[ZERO], n_steps));
    else if (lq_grid_has_zero(rule))
        LQ_TRY(lq_sink_codes(bytes, th->data[ZERO], 1, n_steps, levels));
    return LQ_OK;
}

lq_status lq_grid_unpack(lq_theta *th, const lq_grid_rule *rule, lq_source *bytes)
{
    size_t levels = (size_t)rule->q_max + 1, n_steps = th->slot[STEP].rows * th->slot[STEP].cols;
    float *step = th->data[STEP];
    LQ_TRY(lq_source_codes(bytes, th->data[CODES], th->out, th->in, levels));
    LQ_TRY(lq_source_f16(bytes, step, n_steps));
    for (size_t i = 0; i < n_steps; i++)
        if (step[i] == 0.0f || (step[i] < 0.0f && rule->scheme != LQ_GRID_FULLRANGE))
            return lq_fail(LQ_E_FORMAT, "%s: step %zu is %g", bytes->where, i, (double)step[i]);
    if (rule->scheme == LQ_GRID_REAL_ZERO)
        LQ_TRY(lq_source_f16(bytes, th->data[ZERO], n_steps));
    else if (lq_grid_has_zero(rule))
        LQ_TRY(lq_source_codes(bytes, th->data[ZERO], 1, n_steps, levels));
    return LQ_OK;
}
