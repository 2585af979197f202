#!/usr/bin/env bash
# Help, usage errors, commands of later versions: what a user meets first.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

commands=$(sed -n 's/^LQ_COMMAND(\(.*\)).*/\1/p' experiments/commands.def | tr '_\n' '- ')
runs help "$LCQAT" help
cp "$here/out" "$here/help"
for command in $commands; do
    if grep -qE "^  $command +[a-z]" "$here/help"; then
        ok "help_lists_$command"
    else
        not_ok "help_lists_$command" "not in lcqat help"
    fi
    runs "help_of_$command" "$LCQAT" "$command" --help
    grep -q "^usage: lcqat $command" "$here/out" ||
        not_ok "usage_of_$command" "no usage line: $(head -n 1 "$here/out")"
    runs "help_$command" "$LCQAT" help "$command"
    fails "unknown_option_of_$command" 2 no-such-option "$LCQAT" "$command" --no-such-option
done
runs version "$LCQAT" --version
fails no_command 2 "no command" "$LCQAT"
fails unknown_command 2 "did you mean train" "$LCQAT" trian
fails help_of_unknown_command 2 "no command" "$LCQAT" help nothing
fails generate_without_prompt 2 "--prompt" "$LCQAT" generate tiny-llama
fails generate_without_template 1 "no chat template" "$LCQAT" generate tiny-llama -p x --chat
runs generate "$LCQAT" generate tiny-llama -p "The kernel" -n 8
mv "$here/out" "$here/alone"
runs generate_drawn "$LCQAT" generate tiny-llama -p "The kernel" -n 8 --temperature 1 --seed 2
is generate_draws "$(cmp -s "$here/out" "$here/alone" && echo same)" ""
fails no_such_gguf 1 "no such directory or file" "$LCQAT" eval model.gguf
fails run_without_point 2 "" "$LCQAT" run
fails value_is_missing 2 "store" "$LCQAT" run x.json --store
fails number_is_none 2 "tokens" "$LCQAT" pretrain datasets/teachers/tiny-llama.json --data x \
    --out "$here/t" --tokens many
for command in methods models datasets doctor; do
    runs "$command" "$LCQAT" "$command"
    runs "${command}_json" "$LCQAT" "$command" --json
    is "${command}_json_is_one_object" "$(head -c 1 "$here/out")$(tail -n 1 "$here/out")" "{}"
    is "${command}_json_is_quiet" "$(cat "$here/err")" ""
done
"$LCQAT" methods >/dev/full 2>"$here/err"
is full_standard_output_is_status_1 $? 1
is full_standard_output_is_one_line "$(wc -l <"$here/err")" 1
exit $status
