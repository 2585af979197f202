/* What a run costs, relative to others: by tokens, by the parts of its work, by the size of its model. */
#include "tests/check.h"

#include "core/base/file.h"
#include "experiments/cost.h"

#include <stdlib.h>
#include <string.h>

static double cost(const char *point, double per_token, lq_job_part part[LQ_JOB_PARTS])
{
    lq_json *json;
    check_ok(lq_json_parse(point, strlen(point), "test", &json));
    const double sum = lq_cost_of(json, per_token, part);
    lq_json_free(json);
    return sum;
}

static void parts_add_up_and_follow_the_tokens(void **state)
{
    (void)state;
    static const char *const trained = "{\"fraction\":0.1,\"budget_tokens\":4e6,"
                                       "\"calib\":{\"tokens\":65536,\"context\":128}}";
    static const char *const tuned = "{\"fraction\":0,\"budget_tokens\":4e6,"
                                     "\"calib\":{\"tokens\":65536,\"context\":128},"
                                     "\"blockwise\":{\"iterations\":100,\"batch\":8}}";
    lq_job_part part[LQ_JOB_PARTS];
    check_close(cost(trained, 1, part), 65536 + 3 * 4e5 + 2e5, 1e-12, 0);
    assert_string_equal(part[0].what, "quantizing");
    check_close(part[0].cost, 65536, 1e-12, 0);
    assert_string_equal(part[1].what, "training");
    check_close(part[1].cost, 1.2e6, 1e-12, 0);
    assert_string_equal(part[2].what, "perplexity");
    assert_null(part[3].what);
    check_close(cost(trained, 7, part), 7 * cost(trained, 1, part), 1e-12, 0);
    check_close(cost(tuned, 1, part), 65536 + 3 * 100 * 8 * 128 + 2e5, 1e-12, 0);
    check_close(part[1].cost, 0, 0, 0);
    check_close(cost("{}", 1, part), 2e5, 1e-12, 0); /* evaluation alone */
}

/* By hand: a block of width 4, 2 heads of 4, one of keys and values, an MLP of 5, and 10 tokens. */
static void a_model_weighs_what_its_config_says(void **state)
{
    (void)state;
    static const char config[] =
        "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":5,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
        "\"head_dim\":4,\"vocab_size\":10,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true}";
    char dir[] = "/tmp/lcqat-test-XXXXXX";
    lq_arena a = {0};
    assert_non_null(mkdtemp(dir));
    const char *gguf = lq_arena_printf(&a, "%s/model.gguf", dir);
    check_ok(lq_file_write_all(gguf, config, 77));
    check_ok(lq_file_write_all(lq_arena_printf(&a, "%s/notes.txt", dir), config, 9));
    check_close(lq_cost_parameters(gguf), 77, 0, 0);
    check_close(lq_cost_parameters(dir), 77, 0, 0);
    check_ok(lq_file_write_all(lq_arena_printf(&a, "%s/config.json", dir), config, strlen(config)));
    check_close(lq_cost_parameters(dir), 4 * (2 + 1) * 2 * 4 + 3 * 4 * 5 + 10 * 4, 0, 0);
    check_close(lq_cost_parameters("/nowhere/at/all"), 1, 0, 0);
    check_ok(lq_path_remove_tree(dir));
    lq_arena_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up_and_follow_the_tokens),
        cmocka_unit_test(a_model_weighs_what_its_config_says),
    };
    return cmocka_run_group_tests_name("cost", tests, NULL, NULL);
}
