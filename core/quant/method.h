/* A method is a map theta -> W: parameters in, effective weight out, a gradient back. The trainer, the
 * evaluator and the store never learn a method's name. docs/add-a-method.md walks through a new one.
 *
 * W is (out,in), row-major, y = x W'. A group runs along `in`. */
#ifndef LQ_QUANT_METHOD_H
#define LQ_QUANT_METHOD_H

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/quant/option.h"

#include <stdint.h>

typedef enum lq_slot_kind {
    LQ_KIND_CONTINUOUS, /* float; moved by the optimizer along the gradient ->backward adds up */
    LQ_KIND_DISCRETE,   /* uint8_t codes: written by ->init */
    LQ_KIND_FIXED       /* float; written once by ->init, never trained */
} lq_slot_kind;

enum { LQ_MAX_SLOTS = 8 };
typedef struct lq_slot { /* one tensor of theta, as ->layout declares it */
    const char *name;    /* "latent", "step", "zero", "codes", "affine", "su", "sv" */
    lq_slot_kind kind;
    size_t rows, cols;
    bool train;          /* continuous slots only: does the QAT recipe move it? */
    double grad_scale;   /* the trainer multiplies the gradient by it; 1 unless the paper scales */
    double lr;           /* peak learning rate of its own, in units of the slot; 0: the run's lr */
    double lr_scale;     /* times that the stage's lr, where the slot has none of its own; 0: 1 */
    double weight_decay; /* towards decay_centre */
    double decay_centre;
    double lowest, highest; /* block-wise tuning keeps its values within; both 0: anywhere */
} lq_slot;

/* Where training stands. The trainer writes it into each theta before it asks for effective weights; a
 * method whose map depends on it (a temperature, a mixture, noise) reads it in ->effective and ->backward.
 * All zeros, as in a fresh or unpacked theta: training is over, the weights are those that ship. */
typedef enum lq_stage { LQ_STAGE_DONE, LQ_STAGE_BLOCKWISE, LQ_STAGE_END_TO_END } lq_stage;
typedef struct lq_when {
    lq_stage stage;
    double progress; /* of the stage, in [0,1): steps done / steps */
    uint64_t seed; /* of this step and this theta: noise drawn from it is the same in ->backward */
} lq_when;

struct lq_method;
struct lq_step_grid;      /* core/quant/step.h */
struct lq_tuned_map;      /* core/quant/tuned_grid.h */
typedef struct lq_theta { /* the parameters of one linear layer; an arena owns the memory */
    const struct lq_method *method;
    const void *opts;   /* borrowed; outlives theta */
    size_t out, in;     /* shape of the effective weight */
    const char *linear; /* its name in the checkpoint, or NULL: papers treat q and k apart */
    lq_when now;        /* where training stands */
    lq_laps *laps;      /* NULL, or where ->init adds the seconds of its stages, for studies */
    size_t n_slots;
    lq_slot slot[LQ_MAX_SLOTS];
    void *
        data[LQ_MAX_SLOTS]; /* (rows,cols): float, or uint8_t for discrete slots; 64-byte aligned */
} lq_theta;

typedef struct lq_calib { /* what calibration collected at the input of one linear layer */
    const double *gram;   /* (in,in) E[x' x], uncentred; NULL when the method does not need it */
    size_t n_tokens;
    const double *mean_abs; /* (in) E|x|; NULL when the method does not need it */
} lq_calib;

typedef enum lq_family { LQ_FAMILY_NONE, LQ_FAMILY_SCALAR, LQ_FAMILY_VECTOR } lq_family;
enum {
    LQ_NEEDS_GRAM = 1,         /* calibration has to collect E[x' x] */
    LQ_NEEDS_QUANT_PREFIX = 2, /* calibration inputs come from the already quantized blocks */
    LQ_TRAINS = 4,             /* a QAT method: it has a training stage after ->init */
    LQ_NEEDS_MEAN_ABS = 8,     /* calibration has to collect E|x| */
    LQ_NEEDS_FEATURES =
        16 /* ->init_block asks for errors: calibration text, whatever a file holds */
};

/* The linears of one transformer block, for a method that fits them together. An input is what linears
 * read: q, k and v share one. */
enum { LQ_BLOCK_LINEARS = 7 };
enum { LQ_FED_BY_NORM = -1, LQ_FED_BY_MANY = -2 };
typedef struct lq_block {
    size_t n;                           /* linears, <= LQ_BLOCK_LINEARS */
    lq_theta *theta[LQ_BLOCK_LINEARS];  /* to be filled */
    const char *name[LQ_BLOCK_LINEARS]; /* "q_proj", ... */
    const float *w[LQ_BLOCK_LINEARS];   /* full-precision weights */
    lq_calib calib[LQ_BLOCK_LINEARS];   /* of full-precision inputs */
    size_t input[LQ_BLOCK_LINEARS]; /* the number of the input that a linear reads, < n_inputs */
    size_t n_inputs;
    int fed_by
        [LQ_BLOCK_LINEARS]; /* of an input: the gains of a norm, the linear whose rows reach its
                                     columns one by one, or neither: it cannot be rescaled */
    /* Mean squared error on full-precision features, with weights candidate[i] where it is not NULL, at
     * the output of the module that reads the input: attention for q, k, v; the MLP for gate and up; else
     * the linear alone. */
    double (*error)(void *context, size_t input, const float *const *candidate);
    /* From here on the model divides this input by t: gains of the norm that feeds it, or the bias of the
     * linear that does; the rows of that linear are the method's own. */
    void (*divide)(void *context, size_t input, const float *t);
    void *context;
} lq_block;

typedef struct lq_sink { /* growing bytes; start with {0} and an arena */
    lq_arena *arena;
    uint8_t *data;
    size_t bytes, room;
} lq_sink;
typedef struct lq_source {
    const uint8_t *data;
    size_t bytes, at;
    const char *where; /* for notes */
} lq_source;

typedef struct lq_method {
    const char *name;   /* registry key and file name */
    const char *source; /* paper, version, equations; where its released code differs, how */
    lq_family family;
    unsigned needs; /* LQ_NEEDS_GRAM | ... */

    const lq_option
        *options; /* the table; the first member of every option struct is lq_common_opts */
    size_t n_options, opts_bytes;
    const lq_preset *presets; /* optional: for the words of its option "preset" */
    size_t n_presets;
    /* Optional: refuses combinations of options (which bits are supported, ...). LQ_E_OPTION. */
    lq_status (*check)(const void *opts);
    /* Slots for a weight of this shape. LQ_E_SHAPE: e.g. in is no multiple of the group. */
    lq_status (*layout)(const void *opts, size_t out, size_t in, lq_slot *slot, size_t *n_slots);
    /* theta from full-precision w (out,in) and, if asked for, calib->gram. The slots are zeroed, or
     * hold what a study wants it to begin from (signs, in the slots of scales).
     * LQ_E_NUMERIC: w or gram not finite, or gram not positive definite after the largest damping
     * tried (the note says which). */
    lq_status (*init)(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch);
    /* Optional: in place of ->init where whole blocks are quantized. Weights are wanted in the basis that
     * ->divide left. Errors as ->init, with the linear's name in the note. */
    lq_status (*init_block)(lq_block *block, const lq_rng *rng, lq_arena *scratch);
    /* Optional: the block-wise stage that is a part of the method, as settings "key=value ..." of a run's
     * member "blockwise"; they fill what the run leaves open, and the stage cannot be left out. */
    const char *(*blockwise)(const void *opts);
    /* Optional: a stage of training is about to begin, for the first time or after a resume (->init has
     * run again, too). The method may rewrite its slots (freeze codes) and say anew which of them train. */
    lq_status (*begin)(lq_theta *th, lq_stage stage, lq_arena *scratch);
    /* The definition: theta -> w_eff (out,in), in the model's own basis. Pure; cannot fail. */
    void (*effective)(const lq_theta *th, float *w_eff, lq_arena *scratch);
    /* Adds dL/d(slot) to grad[slot] (same shape as the slot; NULL where frozen), given dL/d(w_eff). */
    void (*backward)(const lq_theta *th, const float *dw_eff, float *const *grad,
                     lq_arena *scratch);
    lq_status (*pack)(const lq_theta *th, lq_sink *bytes); /* all that ships */
    lq_status (*unpack)(lq_theta *th, lq_source *bytes);   /* LQ_E_FORMAT on any odd byte */
    /* Optional, for the gradient test: the smooth function of theta `at` whose true gradient at `base`
     * ->backward claims to be. NULL: ->effective is smooth itself, or nothing trains. */
    void (*surrogate)(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch);

    /* What the functions of a shared piece ask the method that has them in this table. */
    struct lq_step_grid (*step_grid)(const void *opts); /* core/quant/step.h */
    const struct lq_tuned_map *tuned_map;               /* core/quant/tuned_grid.h */
} lq_method;

/* Every option struct begins with this; every table with LQ_COMMON_OPTIONS(type). */
typedef struct lq_common_opts {
    double bits; /* 1, 1.58 (three levels), 2, 3, 4, 16 */
} lq_common_opts;
#define LQ_BITS_OPTION(default_bits)                            \
    {                                                           \
        "bits", LQ_OPTION_REAL, 0, (default_bits), 1, 16, NULL, \
            "nominal bits a weight; 1.58 means three levels"    \
    }
/* 2 -> 4 levels, 1.58 -> 3; 0 when `bits` is none of 1, 1.58, 2, 3, 4, 8. */
size_t lq_levels_of_bits(double bits);

/* Reads the options of a method from a JSON object (NULL = defaults) into memory of the arena, and
 * checks them. */
lq_status lq_method_options(const lq_method *method, const lq_json *spec, const char *where,
                            lq_arena *keep, void **opts);
/* Lays theta out, zeroed, in the arena. */
lq_status lq_theta_new(const lq_method *method, const void *opts, size_t out, size_t in,
                       lq_arena *keep, lq_theta *th);
double lq_slot_lr_scale(const lq_slot *slot);               /* 1 when it says nothing */
size_t lq_theta_find(const lq_theta *th, const char *slot); /* SIZE_MAX: no such slot */
float *lq_theta_f32(const lq_theta *th, const char *slot);  /* asserts that it is there */
uint8_t *lq_theta_codes(const lq_theta *th, const char *slot);
/* Packs th, unpacks the bytes into a fresh theta (in the arena), and says how many bytes there were. */
lq_status lq_theta_through_bytes(const lq_theta *th, lq_arena *arena, lq_theta *shipped,
                                 size_t *bytes);

/* Bytes. Integers are little-endian. Source functions: LQ_E_FORMAT when too few bytes are left, or a
 * float is not finite; a float that would not be finite in 16 bits is LQ_E_NUMERIC when packed. */
lq_status lq_sink_put(lq_sink *sink, const void *data, size_t bytes);
lq_status lq_sink_bf16(lq_sink *sink, const float *x, size_t n);
lq_status lq_sink_f16(lq_sink *sink, const float *x, size_t n);
lq_status lq_source_take(lq_source *source, void *data, size_t bytes);
lq_status lq_source_bf16(lq_source *source, float *x, size_t n);
lq_status lq_source_f16(lq_source *source, float *x, size_t n);
lq_status lq_source_end(const lq_source *source); /* LQ_E_FORMAT when bytes are left over */
/* Codes (rows,cols) of `levels` levels, each row padded to whole bytes. 4 levels: four a byte, first in
 * the high bits (LC-QAT's layout); 3: five trits a byte, first most significant; 2: eight a byte, first
 * in the high bit; 8: 3 bits, low bits first; 16: two a byte, first in the high nibble; 256: one. */
size_t lq_codes_bytes(size_t rows, size_t cols, size_t levels);
lq_status lq_sink_codes(lq_sink *sink, const uint8_t *code, size_t rows, size_t cols,
                        size_t levels);
lq_status
lq_source_codes(lq_source *source, uint8_t *code, size_t rows, size_t cols,
                size_t levels); /* LQ_E_FORMAT also for a code out of range, odd padding */

/* LQ_E_NUMERIC, naming the first weight of w (out,in) that is not finite: the first line of an init. */
lq_status lq_check_finite(const char *who, const float *w, size_t out, size_t in);
/* Shared pieces of methods that train nothing: */
void lq_backward_none(const lq_theta *th, const float *dw_eff, float *const *grad,
                      lq_arena *scratch);

#endif
