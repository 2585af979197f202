/* GPTQ as a method: core/quant/gptq.h on a uniform grid, by groups. */
#include "core/quant/gptq.h"

extern const lq_method lq_method_gptq;

typedef struct opts {
    lq_common_opts common;
    size_t group;
    int scheme, clip;
    double sigma_reg;
    bool act_order, static_groups, stale_groups;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"scheme", LQ_OPTION_CHOICE, offsetof(opts, scheme), 0, 0, 0, "asym|sym",
     "min-max grid with an integer zero, or symmetric (the paper's --sym)"},
    {"clip", LQ_OPTION_CHOICE, offsetof(opts, clip), 0, 0, 0, "minmax|mse",
     "range of the grid: the extremes, or the shrink of them with the least error"},
    {"sigma_reg", LQ_OPTION_REAL, offsetof(opts, sigma_reg), 0.01, 0, 1, NULL,
     "damping: this share of the mean of the gram's diagonal is added to it (percdamp)"},
    {"act_order", LQ_OPTION_BOOL, offsetof(opts, act_order), 0, 0, 0, NULL,
     "columns by falling gram diagonal; without static_groups 16 more bits a column ship"},
    {"static_groups", LQ_OPTION_BOOL, offsetof(opts, static_groups), 0, 0, 0, NULL,
     "fit all grids on the weight as it comes, before any correction"},
    {"stale_groups", LQ_OPTION_BOOL, offsetof(opts, stale_groups), 0, 0, 0, NULL,
     "as the released code: grids miss the corrections of their own block of 128"},
};

static lq_grid_rule rule_of(const opts *o)
{
    return (lq_grid_rule){.scheme = o->scheme == 1 ? LQ_GRID_SYM : LQ_GRID_ASYM,
                          .mse = o->clip == 1,
                          .q_max = (int)lq_levels_of_bits(o->common.bits) - 1,
                          .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) < 4)
        return lq_fail(LQ_E_OPTION, "gptq: bits = %g; it has 2, 3, 4 and 8", o->common.bits);
    if (o->static_groups && o->stale_groups)
        return lq_fail(LQ_E_OPTION, "gptq: static_groups are never stale; drop one of the two");
    return LQ_OK;
}

/* With act_order the groups are runs of the new order, so each column has to ship its group. */
static bool has_group_slot(const opts *o, size_t in)
{
    lq_grid_rule rule = rule_of(o);
    return o->act_order && !o->static_groups && lq_grid_groups(&rule, in) > 1;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const opts *o = options_read;
    lq_grid_rule rule = rule_of(o);
    lq_grid_layout(&rule, out, in, slot, n_slots);
    if (!has_group_slot(o, in))
        return LQ_OK;
    if (lq_grid_groups(&rule, in) > UINT16_MAX)
        return lq_fail(LQ_E_SHAPE,
                       "gptq: act_order ships the group of a column in 16 bits, but a "
                       "row of %zu has more groups of %zu",
                       in, rule.group);
    slot[*n_slots] = (lq_slot){"group", LQ_KIND_FIXED, .rows = 1, .cols = in, .grad_scale = 1};
    ++*n_slots;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)rng;
    if (calib == NULL || calib->gram == NULL)
        return lq_fail(LQ_E_MISSING, "gptq: needs the gram of the layer's inputs; run `lcqat "
                                     "calibrate` and pass its file");
    LQ_TRY(lq_check_finite("gptq", w, th->out, th->in));
    const opts *o = th->opts;
    const lq_gptq_how how = {.rule = rule_of(o),
                             .sigma_reg = o->sigma_reg,
                             .act_order = o->act_order,
                             .static_groups = o->static_groups,
                             .stale_groups = o->stale_groups};
    float *group_of = has_group_slot(o, th->in) ? lq_theta_f32(th, "group") : NULL;
    return lq_gptq(th, w, calib->gram, &how, group_of, scratch);
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    lq_grid_rule rule = rule_of(th->opts);
    const float *group_of = has_group_slot(th->opts, th->in) ? lq_theta_f32(th, "group") : NULL;
    lq_grid_effective(th, &rule, group_of, w_eff);
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    LQ_TRY(lq_grid_pack(th, &rule, bytes));
    if (!has_group_slot(th->opts, th->in))
        return LQ_OK;
    const float *group_of = lq_theta_f32(th, "group");
    for (size_t j = 0; j < th->in; j++) {
        unsigned group = (unsigned)group_of[j];
        uint8_t byte[2] = {(uint8_t)(group & 255), (uint8_t)(group >> 8)};
        LQ_TRY(lq_sink_put(bytes, byte, sizeof byte));
    }
    return LQ_OK;
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_grid_rule rule = rule_of(th->opts);
    LQ_TRY(lq_grid_unpack(th, &rule, bytes));
    if (!has_group_slot(th->opts, th->in))
        return LQ_OK;
    float *group_of = lq_theta_f32(th, "group");
    for (size_t j = 0; j < th->in; j++) {
        uint8_t byte[2];
        LQ_TRY(lq_source_take(bytes, byte, sizeof byte));
        size_t group = (size_t)(byte[0] | byte[1] << 8);
        if (group >= lq_grid_groups(&rule, th->in))
            return lq_fail(LQ_E_FORMAT, "%s: column %zu is in group %zu, which is not there",
                           bytes->where, j, group);
        group_of[j] = (float)group;
    }
    return LQ_OK;
}

const lq_method lq_method_gptq = {
    .name = "gptq",
    .source =
        "GPTQ, arXiv:2210.17323, and IST-DASLab/gptq 2d65066 gptq.py; grids are fitted on the "
        "corrected weight (docs/decisions/0012), double instead of float (0013)",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_NEEDS_QUANT_PREFIX,
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
