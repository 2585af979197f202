#include "experiments/command.h"

#include "core/quant/option.h"

#include <stdio.h>

#define LQ_COMMAND(name) extern const lq_command lq_command_##name;
#include "experiments/commands.def"
#undef LQ_COMMAND

const lq_command *const lq_command_table[] = {
#define LQ_COMMAND(name) &lq_command_##name,
#include "experiments/commands.def"
#undef LQ_COMMAND
};
const size_t lq_command_count = sizeof lq_command_table / sizeof lq_command_table[0];

void lq_print_json(lq_json *object)
{
    lq_arena scratch = {0};
    fputs(lq_json_pretty(object, &scratch), stdout);
    lq_arena_close(&scratch);
    lq_json_free(object);
}

lq_status lq_set_options(const lq_args *args, lq_json **out)
{
    const char *const *values;
    const size_t n = lq_args_list(args, "set", &values);
    lq_json *object = lq_json_object();
    for (size_t i = 0; i < n; i++) {
        lq_status status = lq_option_set_text(object, values[i]);
        if (status != LQ_OK) {
            lq_json_free(object);
            return status;
        }
    }
    *out = object;
    return LQ_OK;
}
