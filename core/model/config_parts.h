/* Between config.c and config_keys.c. */
#ifndef LQ_MODEL_CONFIG_PARTS_H
#define LQ_MODEL_CONFIG_PARTS_H

#include "core/base/json.h"

/* LQ_E_FORMAT: the first key, not null, that is neither read nor known to change nothing. */
lq_status lq_config_check_keys(const lq_json *json, const char *where);

#endif
