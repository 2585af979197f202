#include "core/train/slots.h"

#include <stdio.h>
#include <string.h>

bool lq_slot_is_latent(const lq_theta *th, const lq_slot *slot)
{
    return slot->rows == th->out && slot->cols >= th->in;
}

/* Is `name` among "a,b,c"? */
static bool is_listed(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == '\0' || at[n] == ','))
            return true;
    }
    return false;
}

static bool is_word(const char *list)
{
    return strcmp(list, "all") == 0 || strcmp(list, "scales") == 0;
}

bool lq_slots_select(const char *list, const lq_theta *th, const lq_slot *slot)
{
    if (slot->kind != LQ_KIND_CONTINUOUS)
        return false;
    if (is_word(list))
        return strcmp(list, "all") == 0 || !lq_slot_is_latent(th, slot);
    return is_listed(list, slot->name);
}

lq_status lq_slots_check(const char *list, const char *where, const lq_theta *th)
{
    char known[256] = "";
    size_t n_selected = 0, n_named = 1, used = 0;
    for (const char *at = list; (at = strchr(at, ',')) != NULL; at++)
        n_named++;
    for (size_t s = 0; s < th->n_slots; s++) {
        n_selected += lq_slots_select(list, th, &th->slot[s]);
        if (th->slot[s].kind == LQ_KIND_CONTINUOUS && used < sizeof known - 32)
            used += (size_t)snprintf(known + used, sizeof known - used, " %.24s", th->slot[s].name);
    }
    if (is_word(list) || n_selected == n_named)
        return LQ_OK;
    return lq_fail(LQ_E_OPTION,
                   "%s: slots '%s': not all of them are continuous slots of %s; it has:%s", where,
                   list, th->method->name, *known ? known : " none");
}
