#include "experiments/methods.h"

#include <string.h>

#define LQ_METHOD(name) extern const lq_method lq_method_##name;
#include "experiments/methods.def"
#undef LQ_METHOD

const lq_method *const lq_method_table[] = {
#define LQ_METHOD(name) &lq_method_##name,
#include "experiments/methods.def"
#undef LQ_METHOD
};
const size_t lq_method_count = sizeof lq_method_table / sizeof lq_method_table[0];

lq_status lq_method_find(const char *name, const lq_method **out)
{
    char known[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < lq_method_count; i++) {
        if (strcmp(name, lq_method_table[i]->name) == 0) {
            *out = lq_method_table[i];
            return LQ_OK;
        }
        size_t length = strlen(lq_method_table[i]->name);
        if (used + length + 2 < sizeof known) {
            memcpy(known + used, " ", 1);
            memcpy(known + used + 1, lq_method_table[i]->name, length + 1);
            used += length + 1;
        }
    }
    return lq_fail(LQ_E_OPTION, "method '%s' is not registered; known:%s", name, known);
}
