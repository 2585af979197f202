/* Memory by lifetime: a run's arena, a step's arena, a function's scratch.
 *
 *     lq_arena arena = {0};
 *     float *w;
 *     LQ_TRY(lq_arena_new(&arena, &w, n));        // 64-byte aligned, zeroed
 *     lq_mark mark = lq_arena_mark(&arena);
 *     float *tmp = lq_arena_f32(&arena, n);       // scratch: not zeroed, aborts when memory is out
 *     lq_arena_release(&arena, mark);             // tmp is gone, w stays
 *     lq_arena_close(&arena);
 *
 * An arena is a list of blocks that grows; a released block is kept for the next use. Not thread
 * safe: a thread has its own. */
#ifndef LQ_BASE_ARENA_H
#define LQ_BASE_ARENA_H

#include "core/base/status.h"

#include <stdint.h>

typedef struct lq_arena_block lq_arena_block;
typedef struct lq_arena {
    lq_arena_block *first, *current; /* owned list of blocks */
    size_t peak_bytes;               /* most bytes in use at once */
} lq_arena;
typedef struct lq_mark {
    lq_arena_block *block;
    size_t used;
} lq_mark;

/* 64-byte aligned, not zeroed; NULL (and a note) when memory is out. bytes may be 0. */
void *lq_arena_alloc(lq_arena *arena, size_t bytes);
/* count * size bytes, zeroed, or LQ_E_MEMORY (also when the product overflows). */
lq_status lq_arena_zeroed(lq_arena *arena, size_t count, size_t size, void **out);
#define lq_arena_new(arena, pointer, count) \
    lq_arena_zeroed((arena), (count), sizeof **(pointer), (void **)(pointer))
/* Scratch of n values, not zeroed; aborts with a message when memory is out, since the functions
 * that use it cannot fail. */
float *lq_arena_f32(lq_arena *arena, size_t n);
double *lq_arena_f64(lq_arena *arena, size_t n);
char *lq_arena_printf(lq_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* aborts when memory is out */

lq_mark lq_arena_mark(const lq_arena *arena);
void lq_arena_release(lq_arena *arena,
                      lq_mark mark);  /* debug builds fill what is released with NaN */
void lq_arena_close(lq_arena *arena); /* frees all; the arena is empty and usable again */

/* Tests: after `n` more block allocations, the next fails; SIZE_MAX = never. */
void lq_arena_fail_after(size_t n);

#endif
