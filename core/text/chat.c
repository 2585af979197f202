#include "core/text/chat.h"

#include <ctype.h>
#include <string.h>

/* The message that a ChatML template puts first when none is given: a literal of its own, as in
 *     '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
 * with the line feed as Jinja's two characters, or as itself. Where the literal ends before <|im_end|>, the
 * template only passes on what it is given. NULL: none. */
static const char *system_message(const char *template_text, lq_arena *arena)
{
    static const char start[] = "<|im_start|>system", end[] = "<|im_end|>";
    for (const char *at = template_text; (at = strstr(at, start)) != NULL;) {
        at += strlen(start);
        if (*at == '\n')
            at++;
        else if (strncmp(at, "\\n", 2) == 0)
            at += 2;
        else
            continue;
        const size_t n = strcspn(at, "'\"{<");
        if (n > 0 && strncmp(at + n, end, strlen(end)) == 0)
            return lq_arena_printf(arena, "%.*s", (int)n, at);
    }
    return NULL;
}

static void chatml(const char *template_text, const char *user, lq_arena *arena, lq_chat *out)
{
    const char *message = system_message(template_text, arena);
    const char *first = message == NULL
                            ? ""
                            : lq_arena_printf(arena, "<|im_start|>system\n%s<|im_end|>\n", message);
    out->family = "ChatML";
    out->start = "<|im_start|>";
    out->end = "<|im_end|>";
    out->prompt = lq_arena_printf(
        arena, "%s<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n", first, user);
}

/* Llama 3 trims messages. From 3.1 on a system message states two dates; "26 Jul 2024" is the template's
 * own word where no clock is at hand, and keeps the prompt the same on every day. */
static void llama3(const char *template_text, const char *user, lq_arena *arena, lq_chat *out)
{
    static const char dates[] = "<|start_header_id|>system<|end_header_id|>\n\n"
                                "Cutting Knowledge Date: December 2023\n"
                                "Today Date: 26 Jul 2024\n\n<|eot_id|>";
    size_t n;
    while (isspace((unsigned char)*user))
        user++;
    for (n = strlen(user); n > 0 && isspace((unsigned char)user[n - 1]);)
        n--;
    out->family = "Llama 3";
    out->start = "<|start_header_id|>";
    out->end = "<|eot_id|>";
    out->prompt = lq_arena_printf(
        arena,
        "<|begin_of_text|>%s<|start_header_id|>user<|end_header_id|>\n\n%.*s<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        strstr(template_text, "Cutting Knowledge Date") != NULL ? dates : "", (int)n, user);
}

lq_status lq_chat_prompt(const char *template_text, const char *where, const char *user,
                         lq_arena *arena, lq_chat *out)
{
    *out = (lq_chat){.family = NULL};
    if (strstr(template_text, "<|im_start|>") != NULL &&
        strstr(template_text, "<|im_end|>") != NULL)
        chatml(template_text, user, arena, out);
    else if (strstr(template_text, "<|start_header_id|>") != NULL &&
             strstr(template_text, "<|eot_id|>") != NULL)
        llama3(template_text, user, arena, out);
    else
        return lq_fail(LQ_E_UNAVAILABLE,
                       "%s: the chat template is neither ChatML nor Llama 3; write the prompt out "
                       "and leave --chat away",
                       where);
    return LQ_OK;
}
