/* lcqat: finds the command, runs it, turns a failure into one line and an exit status. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "experiments/command.h"
#include "experiments/version.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void print_usage(const lq_command *c)
{
    printf("usage: lcqat %s%s%s [options]\n%s.\n", c->name, c->positionals[0] ? " " : "",
           c->positionals, c->summary);
    if (c->n_spec > 0)
        printf("\noptions:\n");
    lq_args_help(c->spec, c->n_spec);
}

static void print_commands(void)
{
    printf("lcqat %s\nusage: lcqat COMMAND [options];  lcqat help COMMAND\n\n", lq_version());
    for (size_t i = 0; i < lq_command_count; i++)
        printf("  %-16s %s\n", lq_command_table[i]->name, lq_command_table[i]->summary);
}

static const lq_command *find(const char *name)
{
    for (size_t i = 0; i < lq_command_count; i++)
        if (strcmp(name, lq_command_table[i]->name) == 0)
            return lq_command_table[i];
    return NULL;
}

static lq_status unknown(const char *name)
{
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < lq_command_count && n < 64; i++)
        names[n++] = lq_command_table[i]->name;
    const char *near = lq_text_nearest(name, names, n);
    return lq_fail(LQ_E_OPTION, "no command '%s'%s%s%s; `lcqat help` lists them", name,
                   near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static lq_status help(int argc, char **argv)
{
    if (argc < 3) {
        print_commands();
        return LQ_OK;
    }
    const lq_command *c = find(argv[2]);
    if (c == NULL)
        return unknown(argv[2]);
    print_usage(c);
    return LQ_OK;
}

static lq_status run(int argc, char **argv)
{
    if (argc < 2) {
        print_commands();
        return lq_fail(LQ_E_OPTION, "no command given");
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return help(argc, argv);
    if (strcmp(argv[1], "--version") == 0) {
        printf("lcqat %s\n", lq_version());
        return LQ_OK;
    }
    const lq_command *c = find(argv[1]);
    if (c == NULL)
        return unknown(argv[1]);
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0) {
            print_usage(c);
            return LQ_OK;
        }
    lq_args *args;
    LQ_TRY(lq_args_parse(argc - 2, argv + 2, c->spec, c->n_spec, c->lowest, c->highest, &args));
    lq_arena arena = {0};
    lq_status status = c->run(args, &arena);
    lq_arena_close(&arena);
    lq_args_free(args);
    return status;
}

int main(int argc, char **argv)
{
    lq_stop_on_signals();
    lq_status status = run(argc, argv);
    if (fflush(stdout) != 0 && status == LQ_OK)
        status = lq_fail(LQ_E_IO, "standard output: %s", strerror(errno));
    if (status != LQ_OK)
        fprintf(stderr, "lcqat: %s\n", lq_status_note());
    return lq_status_exit(status);
}
