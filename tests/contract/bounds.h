/* How far the numbers of a method may be off, and why no further: one line a method that learns. A method that
 * is not here is held to fp16 steps and a curved map; one that learns nothing ships to the bit. */
#ifndef LQ_TESTS_CONTRACT_BOUNDS_H
#define LQ_TESTS_CONTRACT_BOUNDS_H

#include "tests/contract/numbers.h"

#include "core/data/safetensors.h"
#include "core/quant/method.h"

typedef enum shipping {
    SHIPS_AS_IT_IS,  /* in 16 bits wherever it is used: the weight ships to the bit */
    SHIPS_FP16_STEP, /* codes, and steps in fp16: within 2^-11 of each weight */
    SHIPS_SLOTS, /* codes, and the slots below: the weight that they give when rounded, to the bit */
} shipping;

typedef struct bound {
    const char *method;
    shipping ships;
    double least;       /* step of a weight of 0 that ships as plus: docs/decisions/0017 */
    const char *curved; /* the slots in which its map is not linear; "*": any */
    double roundings;   /* on the way from a slot to a weight, each of 2^-24 */
} bound;

static const bound bounds[] = {
    {"lcqat", SHIPS_SLOTS, 0, "", 18}, /* blocks of 2^7 on both sides, s, o, su, sv */
    {"paretoq", SHIPS_FP16_STEP, 1e-5, "", 1},
    {"lsq", SHIPS_FP16_STEP, 0, "", 1},
    {"stableqat", SHIPS_FP16_STEP, 0, "", 1},
    {"upq", SHIPS_FP16_STEP, 0, "", 1},
    {"llmqat", SHIPS_FP16_STEP, 0, "", 1},
    {"bitnet", SHIPS_FP16_STEP, 0, "", 1},
    {"efficientqat", SHIPS_FP16_STEP, 0, "", 1},
    {"bitdistiller", SHIPS_FP16_STEP, 0, "", 1},
    {"omniquant", SHIPS_AS_IT_IS, 0, "gamma_hi gamma_lo", 1}, /* sigmoid */
    {"autoround", SHIPS_AS_IT_IS, 0, "a_hi a_lo", 1},         /* w / s */
    {"gsq", SHIPS_AS_IT_IS, 0, "logits", 1},                  /* softmax */
    {"template", SHIPS_AS_IT_IS, 0, "", 1},                   /* its step stands still */
};
static const bound bound_of_others = {"", SHIPS_FP16_STEP, 0, "*", 1};
static const bound bound_of_nothing = {"", SHIPS_AS_IT_IS, 0, "", 1};

static const struct {
    const char *slot;
    bool bf16; /* else fp16 */
} shipped_slots[] = {{"su", true}, {"sv", true}, {"affine", true}, {"A", false}, {"B", false}};

/* Something trains: end to end, or in the block-wise stage that is part of the method. */
static inline bool learns(const lq_method *m)
{
    return (m->needs & LQ_TRAINS) != 0 || m->blockwise != NULL;
}

static inline const bound *bound_of(const lq_method *method)
{
    if (!learns(method))
        return &bound_of_nothing;
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
        if (strcmp(bounds[i].method, method->name) == 0)
            return &bounds[i];
    return &bound_of_others;
}

/* th with its slots as they ship; what is not rounded is th's own. */
static inline lq_theta with_shipped_slots(const lq_theta *th, lq_arena *arena)
{
    lq_theta copy = *th;
    for (size_t k = 0; k < sizeof shipped_slots / sizeof shipped_slots[0]; k++) {
        const size_t i = lq_theta_find(th, shipped_slots[k].slot);
        if (i == SIZE_MAX)
            continue;
        const size_t n = th->slot[i].rows * th->slot[i].cols;
        const float *x = th->data[i];
        float *y = copy.data[i] = lq_arena_f32(arena, n);
        for (size_t j = 0; j < n; j++)
            y[j] = shipped_slots[k].bf16 ? lq_bf16_to_f32(lq_f32_to_bf16(x[j]))
                                         : lq_f16_to_f32(lq_f32_to_f16(x[j]));
    }
    return copy;
}

/* The first weight that ships further away than it may, or n. A step w / level has an error of 2^-11 in fp16,
 * below 2^-14 one of 2^-25, and is at least 2^-24; no level is above `levels`. 2^-22: the products are floats. */
static inline size_t first_off(const bound *b, size_t levels, const float *before,
                               const float *after, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double w = fabs((double)before[i]), off = (double)after[i] - (double)before[i];
        double allowed = 0;
        if (b->ships == SHIPS_FP16_STEP)
            allowed = w > 0 || levels > 2 ? (0x1p-11 + 0x1p-22) * w + 0x1p-24 * (double)levels
                                          : (1 + 0x1p-11) * b->least + 0x1p-24;
        if (!near(off, 0, allowed))
            return i;
    }
    return n;
}

/* How the gradient of a slot is compared with differences: over steps of `step` times the slot's size, to
 * `share` of its own size. Linear: there is no error but that of float sums, over up to 2^12 weights. Curved:
 * h^2/6 times the third derivative, which of sigmoid(4), h = 4 %, is 2.4e-4 of the first. */
typedef struct comparison {
    double step, share;
} comparison;
static inline comparison comparison_of(const bound *b, const char *slot)
{
    const bool curved = strcmp(b->curved, "*") == 0 || strstr(b->curved, slot) != NULL;
    return curved ? (comparison){1e-2, 0x1p-12} : (comparison){0.25, 0x1p-18};
}

#endif
