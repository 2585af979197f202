/* lcqat quantize: post-training quantization, which is also the start of a QAT method. */
#include "experiments/single.h"

static lq_status run(const lq_args *args, lq_arena *arena)
{
    return lq_single_run(args, NULL, 0, arena);
}

static const lq_arg_spec spec[] = {LQ_SINGLE_ARGS};
const lq_command lq_command_quantize = {
    .name = "quantize",
    .summary = "quantizes a model after training (PTQ), and packs it",
    .positionals = "MODEL --method M --bits B --out DIR",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
