#!/usr/bin/env bash
# lcqat tokenize: text to ids and back, from a file and from a pipe, larger than the parts it is read in.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

tok=$PWD/datasets/teachers/tiny-llama
printf 'It is\r\n  a caf\303\251 \377\376 <|endoftext|>\0 end ' >"$here/odd.txt"
for i in $(seq 1500); do head -c $((1000 + i)) "$tok/README.md"; done >"$here/long.txt"
[ "$(wc -c <"$here/long.txt")" -gt 2200000 ] || not_ok long_text "$(wc -c <"$here/long.txt") bytes"

for text in odd long; do
    runs "ids_of_${text}" "$LCQAT" tokenize "$tok" --file "$here/$text.txt" --ids && cp "$here/out" "$here/ids"
    runs "text_of_${text}" "$LCQAT" tokenize tiny-llama --file "$here/ids" --decode
    is "${text}_comes_back" "$(sha256sum <"$here/out")" "$(sha256sum <"$here/$text.txt")"
    is "${text}_through_a_pipe" "$("$LCQAT" tokenize "$tok/tokenizer.json" --ids <"$here/$text.txt" | sha256sum)" \
        "$(sha256sum <"$here/ids")"
    runs "json_of_${text}" "$LCQAT" tokenize "$tok" --file "$here/$text.txt" --json
    is "${text}_in_json" "$(sed -n 's/^  "ids": \[\(.*\)\],$/\1/p' "$here/out" | tr -d ,)" "$(cat "$here/ids")"
    count=$(wc -w <"$here/ids")
    is "${text}_is_counted" "$("$LCQAT" tokenize "$tok" --file "$here/$text.txt")" \
        "$count tokens, $(wc -c <"$here/$text.txt") bytes"
done
is special_is_left_out "$(printf '0, [0]' | "$LCQAT" tokenize "$tok" --decode --skip-special)" ""
is special_is_found "$(printf '<|endoftext|>' | "$LCQAT" tokenize "$tok" --ids)" 0
is plain_is_text "$(printf '<|endoftext|>' | "$LCQAT" tokenize "$tok" --plain --ids |
    "$LCQAT" tokenize "$tok" --decode --skip-special)" '<|endoftext|>'

# A model of the catalog whose tokenizer is inside the one GGUF file that was fetched: the tokens "a" and "b".
u32() { printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
u64() { printf '%s\\0\\0\\0\\0' "$(u32 "$1")"; }
str() { printf '%s%s' "$(u64 ${#1})" "$1"; }
fetched=$LCQAT_CACHE/models/SmolLM2-135M
mkdir -p "$fetched"
# shellcheck disable=SC2059 # the format is the file: octal escapes
printf "GGUF$(u32 3)$(u64 0)$(u64 3)$(str tokenizer.ggml.model)$(u32 8)$(str gpt2)$(
    str tokenizer.ggml.pre)$(u32 8)$(str smollm)$(
    str tokenizer.ggml.tokens)$(u32 9)$(u32 8)$(u64 2)$(str a)$(str b)" >"$fetched/vocabulary.gguf"
printf '{"files": [{"name": "vocabulary.gguf", "bytes": %d}]}' "$(wc -c <"$fetched/vocabulary.gguf")" \
    >"$fetched/manifest.json"
is name_of_a_fetched_gguf_file "$(printf 'abba' | "$LCQAT" tokenize SmolLM2-135M --ids)" "0 1 1 0"

fails no_such_model 1 "no-such-model" "$LCQAT" tokenize no-such-model --file "$here/odd.txt"
fails no_tokenizer 1 "no tokenizer.json" "$LCQAT" tokenize "$here" --file "$here/odd.txt"
fails no_such_text 1 "no-such-text" "$LCQAT" tokenize "$tok" --file "$here/no-such-text"
echo '1 x 2' >"$here/ids"
fails no_ids 2 "byte 2" "$LCQAT" tokenize "$tok" --file "$here/ids" --decode
echo '999999' >"$here/ids"
fails unknown_id 2 "999999" "$LCQAT" tokenize "$tok" --file "$here/ids" --decode
head -c 1000 "$tok/tokenizer.json" >"$here/tokenizer.json"
fails cut_short 1 "tokenizer.json" "$LCQAT" tokenize "$here" --file "$here/odd.txt"
exit $status
