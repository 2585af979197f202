/* The registered methods, in the order of methods.def. */
#ifndef LQ_EXPERIMENTS_METHODS_H
#define LQ_EXPERIMENTS_METHODS_H

#include "core/quant/method.h"

extern const lq_method *const lq_method_table[];
extern const size_t lq_method_count;
/* LQ_E_OPTION: no such method; the note lists the known ones. */
lq_status lq_method_find(const char *name, const lq_method **out);

#endif
