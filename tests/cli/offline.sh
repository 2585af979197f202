#!/usr/bin/env bash
# No network, no apt-get, an empty cache: what cannot be had is named, and so is the way out.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

mkdir "$here/bin"
fails fetch_without_apt_get 1 "apt-get" env PATH="$here/bin" "$LCQAT" fetch techdocs
is fetch_leaves_no_corpus "$(find "$LCQAT_CACHE" -mindepth 1 ! -name "*.lock" ! -name debs)" ""
fails fetch_unknown_name 2 "no-such-thing" "$LCQAT" fetch no-such-thing
toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }
fails techdocs_is_not_here 1 "lcqat fetch techdocs" "$LCQAT" eval "$here/teacher"
fails unknown_split 2 "no such split" "$LCQAT" eval "$here/teacher" --ppl techdocs:trian

# An apt-get that fails, and one that brings nonsense.
printf '#!/bin/sh\necho "E: the network is down" >&2\nexit 100\n' >"$here/bin/apt-get"
chmod +x "$here/bin/apt-get"
fails fetch_when_apt_get_fails 1 "network is down" env PATH="$here/bin:/usr/bin:/bin" \
    "$LCQAT" fetch techdocs
printf '#!/bin/sh\nfor last; do :; done\necho nonsense >"${last}_1_all.deb"\n' >"$here/bin/apt-get"
fails fetch_when_apt_get_lies 1 "deb" env PATH="$here/bin:/usr/bin:/bin" "$LCQAT" fetch techdocs
is failed_fetch_leaves_no_corpus "$(find "$LCQAT_CACHE" -name 'techdocs*' ! -name '*.lock')" ""

# What needs no network works without one.
for command in methods models datasets doctor; do
    runs "${command}_offline" env PATH="$here/bin" "$LCQAT" "$command"
done
runs eval_offline env PATH="$here/bin" "$LCQAT" eval "$here/teacher" --ppl "$here/text.txt" \
    --context 32 --limit 4
fails protocol_without_its_text 1 "lcqat fetch wikitext2" "$LCQAT" eval "$here/teacher" \
    --ppl wikitext2
fails c4_is_two_protocols 2 "c4-crop or c4-new" "$LCQAT" eval "$here/teacher" --ppl c4
runs protocol_with_a_file "$LCQAT" eval "$here/teacher" --ppl "wikitext2:$here/text.txt" \
    --context 32 --limit 4 --json
is protocol_is_told "$(flat "$here/out" | grep -o '"protocol":"gptq"')" '"protocol":"gptq"'
exit $status
