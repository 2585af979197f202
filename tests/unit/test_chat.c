/* Chat prompts of the templates that models are published with, cut to the lines that matter. */
#include "tests/check.h"

#include "core/text/chat.h"

#include <string.h>

/* HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer_config.json */
static const char smollm2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";
/* Qwen/Qwen2.5-0.5B-Instruct: the first branch builds its message from pieces */
static const char qwen25[] =
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {{- 'You are Qwen.' }}\n    {{- "
    "\"<|im_end|>\\n\" }}\n{%- else %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + "
    "'<|im_end|>\\n' }}\n    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You "
    "are a helpful assistant.<|im_end|>\\n' }}\n{%- endif %}";
/* Qwen/Qwen3-0.6B: no message of its own */
static const char qwen3[] =
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + "
    "'<|im_end|>\\n' }}{%- endif %}{{- '<|im_start|>assistant\\n' }}";
/* meta-llama/Meta-Llama-3-8B-Instruct and Llama-3.2-1B-Instruct */
static const char llama30[] =
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
    "message['content'] | trim + '<|eot_id|>' %}";
static const char llama32[] = "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}{{- "
                              "\"Cutting Knowledge Date: December 2023\\n\" }}{{- '<|eot_id|>' }}";

static void check_prompt(const char *template_text, const char *user, const char *want)
{
    lq_arena arena = {0};
    lq_chat chat;
    check_ok(lq_chat_prompt(template_text, "test", user, &arena, &chat));
    assert_string_equal(chat.prompt, want);
    assert_non_null(strstr(template_text, chat.end));
    lq_arena_close(&arena);
}

static void known_families_have_their_prompt(void **state)
{
    (void)state;
    check_prompt(smollm2, "Hi",
                 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                 "Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    check_prompt(qwen25, "Hi",
                 "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
                 "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    check_prompt(qwen3, " Hi ", "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
    check_prompt(llama30, " Hi\n",
                 "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n");
    check_prompt(llama32, "Hi",
                 "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge "
                 "Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user"
                 "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
                 "\n\n");
}

static void other_templates_are_refused(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_chat chat;
    const char mistral[] = "{{ '[INST] ' + message['content'] + ' [/INST]' }}";
    assert_int_equal(lq_chat_prompt(mistral, "m", "Hi", &arena, &chat), LQ_E_UNAVAILABLE);
    assert_non_null(strstr(lq_status_note(), "m: "));
    assert_int_equal(lq_chat_prompt("", "m", "Hi", &arena, &chat), LQ_E_UNAVAILABLE);
    lq_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_families_have_their_prompt),
        cmocka_unit_test(other_templates_are_refused),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
