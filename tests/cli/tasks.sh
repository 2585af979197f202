#!/usr/bin/env bash
# lcqat eval --tasks: files of one's own and of the cache, what is printed, what is refused.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

cat >"$here/piqa.jsonl" <<'JSON'
{"goal": "Read a file", "sol1": "Open the file and read from it.", "sol2": "Zebra quilt ox fjord vex.", "label": 0}
{"goal": "Stop a process", "sol1": "Qux zyzzyva pygmy jinx.", "sol2": "Send a signal to the process.", "label": 1}
{"goal": "Count the lines", "sol1": "Use the number of lines.", "sol2": "xq zj kv wp", "label": 1}
JSON
cat >"$here/lambada.jsonl" <<'JSON'
{"text": "The kernel is a part of the kernel"}
{"text": "This is the name of the file"}
JSON
value() { # KEY: of the JSON in $here/out
    flat "$here/out" | grep -oE "\"$1\":[^,}]*" | head -n 1 | cut -d: -f2-
}

runs tasks "$LCQAT" eval tiny-llama --tasks "piqa:$here/piqa.jsonl,lambada:$here/lambada.jsonl" --json \
    --samples "$here/samples.jsonl"
cp "$here/out" "$here/both"
is tasks_have_their_questions "$(flat "$here/out" | grep -o '"questions":[0-9]*' | tr '\n' ' ')" \
    '"questions":3 "questions":2 '
is likelier_is_chosen "$(value acc | cut -c 1-6)" 0.6666
is error_stands_beside "$(value acc_stderr | cut -c 1-6)" 0.3333
is samples_are_all_there "$(wc -l <"$here/samples.jsonl")" 5
is samples_know_the_context "$(grep -cF '"context":"Question: Read a file\nAnswer:"' "$here/samples.jsonl")" 1
is samples_know_the_right_one "$(grep -cF '"continuation":" Send a signal to the process."' "$here/samples.jsonl")" 1
is no_perplexity_unasked "$(value window_nats)" ""
runs tasks_on_one_thread env OMP_NUM_THREADS=1 "$LCQAT" eval tiny-llama --json \
    --tasks "piqa:$here/piqa.jsonl,lambada:$here/lambada.jsonl"
is threads_do_not_show "$(cat "$here/out")" "$(cat "$here/both")"
runs tasks_in_words "$LCQAT" eval tiny-llama --tasks "piqa:$here/piqa.jsonl" --limit 2
is tasks_in_words_have_a_row "$(grep -cE '^piqa +2 +1\.0000 \+- 0\.0000 ' "$here/out")" 1
is tasks_in_words_have_their_data "$(grep -c "^data       $here/piqa.jsonl, sha256 " "$here/out")" 1
toy_text 4 7 >"$here/text.txt"
runs both_kinds "$LCQAT" eval tiny-llama --tasks "piqa:$here/piqa.jsonl" --ppl "$here/text.txt" --limit 1 --json
is both_kinds_are_there "$(value windows) $(value acc) $(value acc_stderr)" '1 1 "N/A"'

# ---- From the cache, as fetch leaves it
mkdir -p "$LCQAT_CACHE/datasets/piqa"
sed 's/, "label": .}/}/' "$here/piqa.jsonl" >"$LCQAT_CACHE/datasets/piqa/valid.jsonl"
printf '0\n1\n1\n' >"$LCQAT_CACHE/datasets/piqa/valid-labels.lst"
fails not_fetched 1 "type .lcqat fetch piqa" "$LCQAT" eval tiny-llama --tasks piqa
printf '{"files": [{"name": "valid.jsonl", "bytes": %d}, {"name": "valid-labels.lst", "bytes": 6}]}' \
    "$(wc -c <"$LCQAT_CACHE/datasets/piqa/valid.jsonl")" >"$LCQAT_CACHE/datasets/piqa/manifest.json"
runs from_the_cache "$LCQAT" eval tiny-llama --tasks PIQA --json
is from_the_cache_is_the_same "$(value acc_norm) $(value acc)" \
    "$(cp "$here/both" "$here/out" && value acc_norm) $(value acc)"

# ---- What is refused
fails no_such_task 2 "did you mean piqa" "$LCQAT" eval tiny-llama --tasks pika
fails group_is_no_task 2 "there are arc_easy, arc_challenge" "$LCQAT" eval tiny-llama --tasks arc
fails empty_list 2 "no task ''" "$LCQAT" eval tiny-llama --tasks ""
fails task_twice 2 "piqa twice" "$LCQAT" eval tiny-llama --tasks "piqa:$here/piqa.jsonl,piqa"
fails no_such_file 1 "no-such-file" "$LCQAT" eval tiny-llama --tasks "boolq:$here/no-such-file"
fails another_tasks_file 1 "line 1: boolq: no passage" "$LCQAT" eval tiny-llama --tasks "boolq:$here/piqa.jsonl"
printf 'PAR1\0\377\1' >"$here/rows.parquet"
fails parquet 1 "rows.parquet: .*Parquet" "$LCQAT" eval tiny-llama --tasks "boolq:$here/rows.parquet"
fails samples_alone 2 "go with --tasks" "$LCQAT" eval tiny-llama --samples "$here/samples.jsonl"
fails bos_is_none 2 "tokenizer, never or always" "$LCQAT" eval tiny-llama --tasks "piqa:$here/piqa.jsonl" --bos x
exit $status
