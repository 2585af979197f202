/* What was built, and on what it runs: the provenance that stands in every stored run. */
#ifndef LQ_EXPERIMENTS_VERSION_H
#define LQ_EXPERIMENTS_VERSION_H

#include "core/base/json.h"

const char *lq_version(void);      /* `git describe --always --dirty` at build time */
lq_json *lq_program_to_json(void); /* version, compiler, flags, BLAS, kernels; owned */
lq_json *lq_machine_to_json(void); /* processor, cores, memory, system; owned */

#endif
