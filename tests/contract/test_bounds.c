/* The comparisons and the table of bounds of the contract suite, each fed a wrong answer. */
#include "tests/contract/bounds.h"

#include "experiments/methods.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

extern const lq_method lq_method_template;

static void comparisons_refuse_a_wrong_answer_and_a_nan(void **state)
{
    (void)state;
    assert_true(gradient_agrees(1.001, 1, 1e-3, 1, 0));
    assert_false(gradient_agrees(1.01, 1, 1e-3, 1, 1e-3));
    assert_false(gradient_agrees(0, 1, 1e-3, 1, 0));
    assert_false(gradient_agrees((double)NAN, 1, 1, 1, 1));
    assert_false(gradient_agrees(1, (double)NAN, 1, 1, 1));
    assert_false(near((double)NAN, (double)NAN, 1));
}

/* Each bound lets through what its number format does, and nothing twice as far away. */
static void bounds_refuse_a_weight_that_is_off(void **state)
{
    (void)state;
    const float w[] = {0.75f, 3, 0};
    const struct {
        bound b;
        size_t levels;
        float after[3];
        size_t first;
    } list[] = {
        {{"", SHIPS_AS_IT_IS, 0, "", 1}, 4, {0.75f, 3, 0}, 3},
        {{"", SHIPS_AS_IT_IS, 0, "", 1}, 4, {0.75f, 3.0000002f, 0}, 1},
        {{"", SHIPS_SLOTS, 0, "", 1}, 4, {0.75000006f, 3, 0}, 0},
        {{"", SHIPS_FP16_STEP, 0, "", 1}, 4, {0.75f * (1 + 0x1p-11f), 3 * (1 - 0x1p-11f), 0}, 3},
        {{"", SHIPS_FP16_STEP, 0, "", 1}, 4, {0.75f, 3 * (1 - 0x1p-10f), 0}, 1},
        {{"", SHIPS_FP16_STEP, 0, "", 1}, 4, {0.75f, 3, 5 * 0x1p-24f}, 2},
        {{"", SHIPS_FP16_STEP, 0, "", 1}, 2, {0.75f, 3, 1e-5f}, 2},
        {{"", SHIPS_FP16_STEP, 1e-5, "", 1}, 2, {0.75f, 3, 1e-5f}, 3},
        {{"", SHIPS_FP16_STEP, 1e-5, "", 1}, 2, {0.75f, NAN, 1e-5f}, 1},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        assert_int_equal(first_off(&list[i].b, list[i].levels, w, list[i].after, 3), list[i].first);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0];
         i++) { /* no line is of a method that is gone */
        const lq_method *m = &lq_method_template;
        if (strcmp(bounds[i].method, m->name) != 0)
            assert_int_equal(lq_method_find(bounds[i].method, &m), LQ_OK);
        assert_true(learns(m));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparisons_refuse_a_wrong_answer_and_a_nan),
        cmocka_unit_test(bounds_refuse_a_weight_that_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
