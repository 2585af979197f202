/* Round to nearest on a uniform grid of each group: no data, no training. */
#include "core/quant/grid.h"

extern const lq_method lq_method_rtn;

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int scheme, clip;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"scheme", LQ_OPTION_CHOICE, offsetof(opts, scheme), LQ_GRID_ASYM, 0, 0, LQ_GRID_SCHEMES,
     "where the levels lie (core/quant/grid.h)"},
    {"clip", LQ_OPTION_CHOICE, offsetof(opts, clip), 0, 0, 0, "minmax|mse",
     "range of the grid: the extremes, or the shrink of them with the least error"},
};

static lq_grid_rule rule_of(const void *options_read)
{
    const opts *o = options_read;
    return (lq_grid_rule){.scheme = (lq_grid_scheme)o->scheme,
                          .mse = o->clip == 1,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels < 4)
        return lq_fail(LQ_E_OPTION, "rtn: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    lq_grid_rule rule = rule_of(options_read);
    lq_grid_layout(&rule, out, in, slot, n_slots);
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    lq_grid_rule rule = rule_of(th->opts);
    size_t groups = lq_grid_groups(&rule, th->in), group = groups == 1 ? th->in : rule.group;
    uint8_t *codes = lq_theta_codes(th, "codes");
    LQ_TRY(lq_check_finite("rtn", w, th->out, th->in));
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < groups; g++) {
            size_t start = g * group, n = th->in - start < group ? th->in - start : group;
            lq_grid grid;
            if (!lq_grid_fit(&rule, w + i * th->in + start, n, &grid))
                return lq_fail(LQ_E_NUMERIC, "rtn: the step of row %zu, group %zu overflows fp16",
                               i, g);
            lq_grid_set(th, &rule, i, g, grid);
            for (size_t j = i * th->in + start; j < i * th->in + start + n; j++)
                codes[j] = (uint8_t)lq_grid_code(grid, rule.q_max, w[j]);
        }
    return LQ_OK;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    lq_grid_rule rule = rule_of(th->opts);
    lq_grid_effective(th, &rule, NULL, w_eff);
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    return lq_grid_pack(th, &rule, bytes);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    return lq_grid_unpack(th, &rule, bytes);
}

const lq_method lq_method_rtn = {
    .name = "rtn",
    .source =
        "round to nearest; grid and clip search of IST-DASLab/gptq quant.py (arXiv:2210.17323), "
        "groups along the input, steps in fp16 (docs/decisions/0010, 0011)",
    .family = LQ_FAMILY_SCALAR,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = lq_backward_none, /* nothing trains */
    .pack = pack,
    .unpack = unpack,
};
