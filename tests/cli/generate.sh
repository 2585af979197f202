#!/usr/bin/env bash
# lcqat generate: a known story, draws, edges of the prompt, characters that end between tokens.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

is_utf8() { # NAME FILE
    if iconv -f UTF-8 -t UTF-8 "$2" >/dev/null 2>&1; then ok "$1"; else not_ok "$1" "no UTF-8"; fi
}
ids_of() { sed -n 's/^  "ids": \[\(.*\)\],$/\1/p' "$1"; }

# ---- The story of stories260K.md, by llama2.c's own program at temperature 0: 256 tokens
stories=${LQ_SHARED:-../shared}/data/tiny_models/stories260K
if [ -f "$stories/stories260K.bin" ]; then
    awk '/-t 0.0$/ { on = 1; next } on && /^```/ { exit } on' "$stories/stories260K.md" >"$here/want"
    runs story "$LCQAT" generate "$stories/stories260K.bin" --prompt "" -n 256
    is story_is_known "$(sha256sum <"$here/out")" "$(sha256sum <"$here/want")"
    is story_has_its_tokenizer "$(grep -c "^tokenizer: $stories/tok512.bin; " "$here/err")" 1
    runs story_told_which "$LCQAT" generate "$stories/stories260K.bin" --prompt "" -n 256 \
        --tokenizer "$stories/tok512.bin"
    is story_told_which_is_known "$(sha256sum <"$here/out")" "$(sha256sum <"$here/want")"
    is story_told_which_is_not_news "$(grep -c "^tokenizer:" "$here/err")" 0
    runs story_goes_on "$LCQAT" generate "$stories/stories260K.bin" --prompt "Once upon a time" -n 4
    is story_goes_on_where_the_prompt_ends "$(cat "$here/out")" ", there was a"
    mkdir "$here/one"
    cp "$stories/stories260K.bin" "$here/one/"
    cp "$stories/tok512.bin" "$here/one/tokenizer.bin"
    runs story_of_a_folder "$LCQAT" generate "$here/one/stories260K.bin" --prompt "" -n 256
    is story_of_a_folder_is_known "$(sha256sum <"$here/out")" "$(sha256sum <"$here/want")"
    mv "$here/one/tokenizer.bin" "$here/one/tok512.bin"
    head -c 100 "$here/one/tok512.bin" >"$here/one/tokenizer.bin"
    runs named_by_size_comes_first "$LCQAT" generate "$here/one/stories260K.bin" --prompt "" -n 4
    fails story_is_too_long 2 "512 positions" "$LCQAT" generate "$stories/stories260K.bin" \
        --prompt "$(head -c 4000 "$stories/stories260K.md")"
else
    skip story "no $stories"
fi

# ---- An instruct model inside a GGUF file, where somebody fetched it
smollm2=$HOME/.cache/lcqat/models/SmolLM2-135M/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -f "$smollm2" ]; then
    runs answer "$LCQAT" generate "$smollm2" --prompt "What is the capital of France?" -n 40
    is answer_is_right "$(cat "$here/out")" "The capital of France is Paris."
    is answer_ends "$(grep -c ', ended$' "$here/err")" 1
    is answer_says_its_template "$(grep -c '^chat template: ChatML, of ' "$here/err")" 1
else
    skip answer "SmolLM2-135M-Instruct is not fetched"
fi

# ---- Draws
draw() { "$LCQAT" generate tiny-llama --prompt "The kernel" -n 40 --temperature 1 --top-p 0.95 "$@" 2>/dev/null; }
first=$(draw --seed 7)
is draws_repeat "$(draw --seed 7)" "$first"
is draws_do_not_see_threads "$(OMP_NUM_THREADS=1 draw --seed 7)" "$first"
is draws_have_a_seed "$([ "$(draw --seed 8)" = "$first" ] && echo same)" ""
greedy=$("$LCQAT" generate tiny-llama --prompt "The kernel" -n 40 2>/dev/null)
is nucleus_of_one_is_greedy "$("$LCQAT" generate tiny-llama --prompt "The kernel" -n 40 --temperature 1 \
    --top-p 1e-6 --seed 9 2>/dev/null)" "$greedy"
runs top_p_alone "$LCQAT" generate tiny-llama --prompt "The kernel" -n 40 --top-p 0.5
is top_p_alone_is_greedy "$(cat "$here/out")" "$greedy"
is top_p_alone_is_said "$(grep -c '^warning: --top-p' "$here/err")" 1

# ---- Edges of the prompt
runs nothing_new "$LCQAT" generate tiny-llama --prompt x -n 0
is nothing_new_is_nothing "$(od -An -c "$here/out" | tr -d ' ')" '\n'
runs nothing_new_json "$LCQAT" generate tiny-llama --prompt x -n 0 --json
is nothing_new_in_json "$(flat "$here/out" | grep -o '"text":"","ids":\[\],"prompt_tokens":1,"tokens":0')" \
    '"text":"","ids":[],"prompt_tokens":1,"tokens":0'
runs empty_prompt "$LCQAT" generate tiny-llama --prompt "" -n 4 --json
is empty_prompt_is_an_end_of_text "$(grep -c '"prompt_tokens": 1,' "$here/out")" 1
fails prompt_is_too_long 2 "2048 positions of tiny-llama; shorten the prompt$" \
    "$LCQAT" generate tiny-llama --prompt "$(head -c 60000 docs/formats.md docs/metrics.md docs/recipes.md)"
fails too_many_new 2 "1 tokens of prompt and 2048 new .* lower -n" "$LCQAT" generate tiny-llama --prompt x -n 2048
fails chat_and_not 2 "not both" "$LCQAT" generate tiny-llama --prompt x --chat --no-chat
fails temperature_is_none 2 "temperature" "$LCQAT" generate tiny-llama --prompt x --temperature nan
fails top_p_is_none 2 "top-p" "$LCQAT" generate tiny-llama --prompt x --temperature 1 --top-p 0

# ---- Bytes that are no characters: in the prompt, and drawn hot enough that every token comes
runs broken_prompt "$LCQAT" generate tiny-llama --prompt "$(printf 'caf\303 \377\376\342\202')" -n 8 --json
is_utf8 broken_prompt_is_utf8 "$here/out"
broken=0
for seed in 1 2 3; do
    hot=("$LCQAT" generate tiny-llama --prompt x -n 60 --temperature 100 --seed "$seed")
    runs "hot_$seed" "${hot[@]}"
    cp "$here/out" "$here/text"
    is_utf8 "hot_${seed}_is_utf8" "$here/text"
    runs "hot_${seed}_json" "${hot[@]}" --json
    is_utf8 "hot_${seed}_json_is_utf8" "$here/out"
    ids_of "$here/out" >"$here/ids"
    "$LCQAT" tokenize tiny-llama --file "$here/ids" --decode --skip-special >"$here/raw"
    iconv -f UTF-8 -t UTF-8 "$here/raw" >/dev/null 2>&1 || broken=$((broken + 1))
    # whole characters are the same on both sides
    is "hot_${seed}_is_all_there" "$(tr -d '\n\200-\377' <"$here/text")" "$(tr -d '\n\200-\377' <"$here/raw" | tr -d '\000')"
done
is hot_draws_hold_broken_bytes "$([ $broken -gt 0 ] && echo yes)" yes
exit $status
