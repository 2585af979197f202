#include "core/base/arena.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define LQ_ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LQ_ARENA_ASAN 1
#endif
#endif
#ifdef LQ_ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGNMENT = 64, FIRST_BLOCK = 64 << 10, LARGEST_STEP = 64 << 20, HUGE_PAGE = 2 << 20 };

/* Blocks up to `current` are in use, those after it are kept, empty, for the next use.
 *     first -> ... -> current -> kept -> kept -> NULL */
struct lq_arena_block {
    lq_arena_block *next;
    size_t capacity;
    size_t used;   /* bytes of data given out, alignment gaps included */
    size_t before; /* `used` of all earlier blocks together */
    _Alignas(ALIGNMENT) unsigned char data[];
};

static _Atomic size_t blocks_until_failure = SIZE_MAX;

/* One-shot: the failure disarms itself, so that a test also sees how the caller recovers. */
void lq_arena_fail_after(size_t n) { blocks_until_failure = n; }

static bool failure_is_due(void)
{
    size_t left = blocks_until_failure;
    if (left == SIZE_MAX)
        return false;
    blocks_until_failure = left == 0 ? SIZE_MAX : left - 1;
    return left == 0;
}

/* Large blocks ask for huge pages: the gigabytes of a model's training are touched in a five-hundredth of the
 * page faults. Where there are none, the advice changes nothing. */
static void *new_bytes(size_t bytes)
{
    if (bytes < 2 * (size_t)HUGE_PAGE)
        return aligned_alloc(ALIGNMENT, bytes);
    void *p = NULL;
    if (posix_memalign(&p, HUGE_PAGE, bytes) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    (void)madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return p;
}

static lq_arena_block *new_block(size_t capacity)
{
    lq_arena_block *block = NULL;
    if (!failure_is_due())
        block = new_bytes(sizeof *block + capacity);
    if (!block)
        return NULL;
    *block = (lq_arena_block){.capacity = capacity};
    POISON(block->data, capacity);
    return block;
}

/* The first kept block with room for `bytes`, taken out of the list, or NULL. */
static lq_arena_block *take_kept(lq_arena_block *current, size_t bytes)
{
    for (lq_arena_block **link = current ? &current->next : NULL; link && *link;
         link = &(*link)->next) {
        lq_arena_block *block = *link;
        if (block->capacity >= bytes) {
            *link = block->next;
            return block;
        }
    }
    return NULL;
}

/* Makes a block with room for `bytes` (a multiple of 64) the current one. */
static bool advance(lq_arena *arena, size_t bytes)
{
    lq_arena_block *current = arena->current;
    lq_arena_block *block = take_kept(current, bytes);
    if (!block) {
        size_t capacity = FIRST_BLOCK;
        if (current)
            capacity = current->capacity < LARGEST_STEP / 2 ? 2 * current->capacity : LARGEST_STEP;
        block = new_block(capacity > bytes ? capacity : bytes);
        if (!block)
            return false;
    }
    if (current) {
        block->next = current->next;
        current->next = block;
        block->before = current->before + current->used;
    } else {
        arena->first = block;
    }
    arena->current = block;
    return true;
}

void *lq_arena_alloc(lq_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) {
        (void)lq_fail(LQ_E_MEMORY, "out of memory: %zu bytes asked for", bytes);
        return NULL;
    }
    size_t rounded = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
    lq_arena_block *block = arena->current;
    if (!block || rounded > block->capacity - block->used) {
        if (!advance(arena, rounded)) {
            (void)lq_fail(LQ_E_MEMORY,
                          "out of memory: %zu bytes asked for; close other programs "
                          "or choose a smaller model, batch or context",
                          bytes);
            return NULL;
        }
        block = arena->current;
    }
    unsigned char *p = block->data + block->used;
    block->used += rounded;
    if (block->before + block->used > arena->peak_bytes)
        arena->peak_bytes = block->before + block->used;
    UNPOISON(p, bytes); /* the bytes up to the next multiple of 64 stay poisoned */
    return p;
}

lq_status lq_arena_zeroed(lq_arena *arena, size_t count, size_t size, void **out)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return lq_fail(LQ_E_MEMORY, "out of memory: %zu values of %zu bytes asked for", count,
                       size);
    void *p = lq_arena_alloc(arena, bytes);
    if (!p)
        return LQ_E_MEMORY;
    memset(p, 0, bytes);
    /* `out` is really the address of a float * or the like: copied as bytes, not as a void *. */
    memcpy(out, &p, sizeof p);
    return LQ_OK;
}

static void *scratch(lq_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    void *p = __builtin_mul_overflow(n, size, &bytes) ? NULL : lq_arena_alloc(arena, bytes);
    if (!p) {
        fprintf(stderr, "lcqat: out of memory: %zu values of %zu bytes asked for\n", n, size);
        abort();
    }
    return p;
}

float *lq_arena_f32(lq_arena *arena, size_t n) { return scratch(arena, n, sizeof(float)); }
double *lq_arena_f64(lq_arena *arena, size_t n) { return scratch(arena, n, sizeof(double)); }

char *lq_arena_printf(lq_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    LQ_ASSERT(length >= 0);
    char *text = scratch(arena, (size_t)length + 1, 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

lq_mark lq_arena_mark(const lq_arena *arena)
{
    return (lq_mark){arena->current, arena->current ? arena->current->used : 0};
}

/* Bytes of `block` from `from` on are given back: whoever still reads them gets NaN or a report. */
static void give_back(lq_arena_block *block, size_t from)
{
    LQ_ASSERT(from <= block->used);
#ifdef LQ_DEBUG
    UNPOISON(block->data + from, block->used - from);
    memset(block->data + from, 0xff, block->used - from); /* NaN as float and as double */
#endif
    POISON(block->data + from, block->used - from);
    block->used = from;
}

void lq_arena_release(lq_arena *arena, lq_mark mark)
{
    lq_arena_block *keep = mark.block ? mark.block : arena->first;
    if (!keep)
        return;
    for (lq_arena_block *block = keep; block != arena->current;) {
        block = block->next;
        LQ_ASSERT(block); /* else the mark is from another arena, or was released already */
        give_back(block, 0);
    }
    give_back(keep, mark.block ? mark.used : 0);
    arena->current = keep;
}

void lq_arena_close(lq_arena *arena)
{
    for (lq_arena_block *block = arena->first; block;) {
        lq_arena_block *next = block->next;
        UNPOISON(block->data, block->capacity);
        free(block);
        block = next;
    }
    *arena = (lq_arena){0};
}
