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
