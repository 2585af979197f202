/* Twenty training steps of every method that trains, on a tiny model, with reference kernels and plain
 * products: the losses must be those in tests/fixtures/replay.json. A change that moves them is no
 * refactor: say so in the commit, and write the file again with LQ_WRITE=1. Equal to 1e-6, not bit for
 * bit, since exp and log of different C libraries may differ in the last bit. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/quantize.h"
#include "core/train/trainer.h"
#include "experiments/methods.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 20, T = 12, N_TOKENS = 2000, N_SEQ = 16 };
static const char *const fixture = "tests/fixtures/replay.json";

static void train_method(const lq_method *method, double *loss)
{
    const lq_config c = {.arch = LQ_ARCH_QWEN3,
                         .D = 24,
                         .F = 40,
                         .L = 2,
                         .H = 2,
                         .Hkv = 1,
                         .dh = 12,
                         .V = 29,
                         .max_positions = 64,
                         .eps = 1e-5,
                         .rope_theta = 1e4,
                         .tied = true,
                         .qk_norm = true};
    lq_arena arena = {0};
    lq_rng rng = lq_rng_seed(21);
    lq_weights full;
    lq_qmodel q;
    lq_batches data;
    lq_train_result result;
    uint32_t *token;
    void *opts;
    check_ok(lq_weights_new(&c, &arena, &full));
    lq_weights_init(&full, &rng);
    for (size_t i = 0; i < full.n; i++)
        full.flat[i] *= 4;
    check_ok(lq_arena_new(&arena, &token, N_TOKENS));
    for (size_t i = 0; i < N_TOKENS; i++) /* text of a kind: the next token is often i*7+3 */
        token[i] = i > 0 && lq_rng_below(&rng, 4) > 0 ? (7 * token[i - 1] + 3) % 29
                                                      : (uint32_t)lq_rng_below(&rng, 29);
    check_ok(lq_method_options(method, NULL, "replay", &arena, &opts));
    check_ok(lq_qmodel_new(&full, method, opts, &arena, &q));
    const lq_calib_data calib = {token, N_SEQ, T};
    check_ok(lq_quantize(&q, &full, &calib, &rng));
    check_ok(lq_batches_new(token, N_TOKENS, T, &rng, &arena, &data));
    lq_train_config config = {.batch = 4,
                              .T = T,
                              .micro = 2,
                              .lanes = 2,
                              .steps = STEPS,
                              .lr = 2e-3,
                              .train_rest = true,
                              .checkpoint_s = 1e9};
    config.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1};
    config.schedule = (lq_schedule){LQ_SCHEDULE_COSINE, 2, 0};
    check_ok(lq_train(&q, &data, &config, &arena, NULL, NULL, &result));
    memcpy(loss, result.loss, STEPS * sizeof *loss);
    lq_arena_close(&arena);
}

static void write_fixture(const lq_json *all)
{
    lq_arena arena = {0};
    const char *text = lq_json_pretty(all, &arena);
    check_ok(lq_file_write_all(fixture, text, strlen(text)));
    lq_arena_close(&arena);
}

static void stored_losses_return(void **state)
{
    (void)state;
    const bool writing = getenv("LQ_WRITE") != NULL;
    lq_json *all = lq_json_object(), *stored = NULL;
    size_t methods = 0;
    if (!writing)
        check_ok(lq_json_read(fixture, &stored));
    lq_kernels_use_reference(1);
    lq_gemm_use_reference(1);
    for (size_t i = 0; i < lq_method_count; i++) {
        const lq_method *m = lq_method_table[i];
        double loss[STEPS];
        if ((m->needs & LQ_TRAINS) == 0)
            continue;
        methods++;
        train_method(m, loss);
        assert_true(loss[STEPS - 1] < loss[0]);
        lq_json *list = lq_json_array();
        for (size_t s = 0; s < STEPS; s++) {
            lq_json_append(list, lq_json_of_number(loss[s]));
            const lq_json *want = lq_json_at(lq_json_get(stored, m->name), s);
            if (!writing && !lq_close(loss[s], lq_json_number(want), 1e-6, 0))
                fail_msg("%s step %zu: loss %.12g, stored %.12g", m->name, s, loss[s],
                         lq_json_number(want));
        }
        lq_json_set(all, m->name, list);
    }
    assert_true(methods >= 2);
    if (writing)
        write_fixture(all);
    lq_json_free(all);
    lq_json_free(stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stored_losses_return)};
    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
