/* The tiny models of LQ_SHARED: where they are, how a test lays them out as users have them, and whether the
 * logits are those that others computed (transformers, in double). Included by one test program each. */
#ifndef LQ_TESTS_TINY_H
#define LQ_TESTS_TINY_H

#include "tests/check.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/llama.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char here[64];    /* a folder of this test */
static const char *tiny; /* LQ_SHARED/data/tiny_models, absolute; NULL: absent */
static lq_arena arena;

static inline int open_here(void **state)
{
    (void)state;
    const char *shared = getenv("LQ_SHARED");
    char *real = realpath(
        lq_arena_printf(&arena, "%s/data/tiny_models", shared ? shared : "../shared"), NULL);
    tiny = real != NULL ? lq_arena_printf(&arena, "%s", real) : NULL;
    free(real);
    snprintf(here, sizeof here, P_tmpdir "/lcqat-load-XXXXXX");
    return mkdtemp(here) == NULL;
}

static inline int close_here(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return lq_path_remove_tree(here) != LQ_OK;
}

#define NEEDS_TINY()                                              \
    do {                                                          \
        (void)state;                                              \
        if (tiny == NULL) {                                       \
            print_message("skip: no tiny_models in LQ_SHARED\n"); \
            skip();                                               \
        }                                                         \
    } while (0)

/* ---- Helpers ----------------------------------------------------------------------------------- */

static inline const char *of_tiny(const char *file)
{
    return lq_arena_printf(&arena, "%s/%s", tiny, file);
}
static inline const char *of_hf(const char *name, const char *end)
{
    return lq_arena_printf(&arena, "%s/hf_tiny/%s%s", tiny, name, end);
}

static inline void place(const char *dir, const char *name, const char *from)
{
    check_ok(lq_path_make_dirs(dir));
    const char *to = lq_arena_printf(&arena, "%s/%s", dir, name);
    unlink(to);
    assert_int_equal(symlink(from, to), 0);
}

/* The tiny model `name` as a Hugging Face directory. */
static inline const char *directory(const char *name)
{
    const char *dir = lq_arena_printf(&arena, "%s/%s", here, name);
    place(dir, "config.json", of_hf(name, "_config.json"));
    place(dir, "model.safetensors", of_hf(name, ".safetensors"));
    return dir;
}

static inline void write_text(const char *dir, const char *name, const char *text)
{
    check_ok(lq_path_make_dirs(dir));
    const char *path = lq_arena_printf(&arena, "%s/%s", dir, name);
    unlink(path); /* never through a link */
    check_ok(lq_file_write_all(path, text, strlen(text)));
}

static inline float *logits_of(const lq_weights *w, const uint32_t *tokens, size_t T)
{
    lq_lane *lane;
    float *out;
    check_ok(lq_lane_new(&w->config, 1, T, false, &arena, &lane));
    check_ok(lq_arena_new(&arena, &out, T * w->config.V));
    lq_forward(w, lane, tokens, 1);
    lq_logits(w, lane, 0, T, out);
    return out;
}

/* The largest difference to the logits of a file {"sequences": [[id...]...], "logits": [[[...]]]}, over
 * the largest logit or 1: some of the models give small ones. */
static inline double worst_logit(const lq_weights *w, const char *path)
{
    lq_json *json;
    double worst = 0, largest = 0;
    check_ok(lq_json_read(path, &json));
    const lq_json *sequences = lq_json_get(json, "sequences"), *all = lq_json_get(json, "logits");
    assert_true(lq_json_count(sequences) > 0 && lq_json_count(all) == lq_json_count(sequences));
    for (size_t s = 0; s < lq_json_count(sequences); s++) {
        const lq_json *ids = lq_json_at(sequences, s), *rows = lq_json_at(all, s);
        const size_t T = lq_json_count(ids), V = w->config.V;
        uint32_t *tokens;
        float *want;
        check_ok(lq_arena_new(&arena, &tokens, T));
        check_ok(lq_arena_new(&arena, &want, T * V));
        assert_int_equal(lq_json_count(rows), T);
        for (size_t t = 0; t < T; t++) {
            tokens[t] = (uint32_t)lq_json_number(lq_json_at(ids, t));
            assert_int_equal(lq_json_count(lq_json_at(rows, t)), V);
            for (size_t v = 0; v < V; v++) {
                want[t * V + v] = (float)lq_json_number(lq_json_at(lq_json_at(rows, t), v));
                largest = fmax(largest, fabs((double)want[t * V + v]));
            }
        }
        const double d = lq_worst(logits_of(w, tokens, T), want, T * V);
        if (!(d <= worst))
            worst = d;
    }
    lq_json_free(json);
    return worst / fmin(largest, 1);
}

static inline void check_logits(const lq_weights *w, const char *name, double most)
{
    const double worst = worst_logit(w, of_hf(name, "_logits.json"));
    print_message("%s: worst logit differs by %.2e\n", name, worst);
    if (!(worst <= most))
        fail_msg("%s: a logit differs by %g", name, worst);
}

#endif
