#!/usr/bin/env bash
# The world at its worst: files missing, cut off, lying; places that cannot be written. One line on stderr,
# status 1 or 2, and nothing half-written left behind.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }
toy_point '{"name": "rtn", "bits": 2}' 0 1 >"$here/point.json"
runs point_is_sound "$LCQAT" run "$here/point.json" --store "$here/runs"
store=$here/store/runs

# A failure that leaves the test's folder, its store and its cache as they were.
leaves_nothing() { # NAME STATUS PATTERN COMMAND...
    rm -f "$here/out" "$here/err"
    listing "$here" >"$here.before"
    fails "$@"
    rm -f "$here/out" "$here/err"
    # An empty folder is not half a result, and tokens in the cache are whole.
    listing "$here" | diff "$here.before" - | grep '^[<>]' | grep -vE ' d |/cache/tokens/' >"$here.after"
    is "${1}_leaves_nothing" "$(cat "$here.after")" ""
    rm -f "$here.before" "$here.after"
}

# ---- files that are not there, or not what they say
leaves_nothing missing_point 1 "nowhere.json" "$LCQAT" run "$here/nowhere.json" --store "$store"
leaves_nothing missing_model 1 "no-such-model" "$LCQAT" eval no-such-model
leaves_nothing missing_text 1 "no-such-text" "$LCQAT" eval "$here/teacher" --ppl "$here/no-such-text"
leaves_nothing nothing_to_resume 1 "no checkpoint to resume" "$LCQAT" train "$here/teacher" \
    --method paretoq --data "$here/text.txt" --tokens 1k --out "$here/fresh" --resume
leaves_nothing missing_config 1 "nowhere.json" "$LCQAT" pretrain "$here/nowhere.json" \
    --data "$here/text.txt" --tokens 100 --out "$here/other"

broken=$here/broken
damage() { # makes $broken a sound copy of the teacher, to be damaged
    rm -rf "$broken"
    cp -r "$here/teacher" "$broken"
}
model=$broken/model.safetensors
bytes=$(wc -c <"$here/teacher/model.safetensors")
for keep in 0 4 8 100 $((bytes / 2)) $((bytes - 1)); do
    damage
    head -c "$keep" "$here/teacher/model.safetensors" >"$model"
    leaves_nothing "model_cut_after_$keep" 1 "model.safetensors" "$LCQAT" eval "$broken" \
        --ppl "$here/text.txt" --limit 2
done
damage
printf '\377\377\377\377\377\377\377\177' | dd of="$model" conv=notrunc status=none
leaves_nothing model_header_of_9_exabytes 1 "model.safetensors" "$LCQAT" eval "$broken" \
    --ppl "$here/text.txt"
damage
sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' "$broken/config.json"
leaves_nothing a_layer_is_missing 1 "layers.2" "$LCQAT" eval "$broken" --ppl "$here/text.txt"
damage
sed -i 's/"hidden_size": 128/"hidden_size": 4294967296000/' "$broken/config.json"
leaves_nothing width_of_the_moon 2 "config.json|hidden_size" "$LCQAT" eval "$broken" \
    --ppl "$here/text.txt"
damage
echo '{"model": ' >"$broken/tokenizer.json"
leaves_nothing tokenizer_is_no_json 1 "tokenizer.json" "$LCQAT" eval "$broken" --ppl "$here/text.txt"
damage
rm "$broken/tokenizer.json"
leaves_nothing tokenizer_is_missing 1 "tokenizer.json" "$LCQAT" eval "$broken" --ppl "$here/text.txt"
rm -rf "$broken"
printf 'x' >"$here/short.txt"
leaves_nothing text_is_too_short 1 "window|token" "$LCQAT" eval "$here/teacher" \
    --ppl "$here/short.txt" --context 64
rm -rf "$here/short.txt"

# ---- points that say what no run can do
wrong() { # NAME PATTERN SED-SCRIPT: the point, changed
    sed "$3" "$here/point.json" >"$here/wrong.json"
    leaves_nothing "$1" 2 "$2" "$LCQAT" run "$here/wrong.json" --store "$store"
}
wrong unknown_key "modle" 's/"model"/"modle"/'
wrong unknown_train_key "train.*contxt" 's/"context": 32, "micro"/"contxt": 32, "micro"/'
wrong unknown_method_option "bist" 's/"bits"/"bist"/'
wrong unknown_method "rtx" 's/"rtn"/"rtx"/'
wrong text_for_a_number "seed" 's/"seed": 1/"seed": "one"/'
wrong number_for_a_text "model" 's/"model": "[^"]*"/"model": 7/'
wrong negative_seed "seed" 's/"seed": 1/"seed": -1/'
wrong half_a_batch "batch" 's/"batch": 8/"batch": 7.5/'
wrong bits_that_nobody_has "bits" 's/"bits": 2/"bits": 2.5/'
wrong array_for_train "train" 's/"train": {[^}]*}/"train": []/'
wrong fraction_above_one "fraction" 's/"fraction": 0/"fraction": 1.5/'
echo '{"model": "a", "model": "b"}' >"$here/wrong.json"
leaves_nothing key_twice 1 "wrong.json" "$LCQAT" run "$here/wrong.json" --store "$store"
echo '[1, 2' >"$here/wrong.json"
leaves_nothing no_json 1 "wrong.json" "$LCQAT" run "$here/wrong.json" --store "$store"
rm -f "$here/wrong.json"

# ---- places that cannot be written; root may write anywhere, so the path leads through a file
: >"$here/file"
leaves_nothing store_below_a_file 1 "file" "$LCQAT" run "$here/point.json" --store "$here/file/runs"
leaves_nothing cache_below_a_file 1 "LCQAT_CACHE" env LCQAT_CACHE="$here/file/cache" \
    "$LCQAT" run "$here/point.json" --store "$store"
leaves_nothing out_below_a_file 1 "file" "$LCQAT" quantize "$here/teacher" --method rtn --bits 2 \
    --out "$here/file/out"

# A disk that fills: a tiny tmpfs where mounting is allowed, else a limit on the size of a file.
small=$here/small
mkdir "$small"
if mount -t tmpfs -o size=64k tmpfs "$small" 2>/dev/null; then
    trap 'umount "$small"; rm -rf "$here"' EXIT
    limited() { "$@"; }
else
    skip full_tmpfs "may not mount; a limit on the size of a file stands in"
    # shellcheck disable=SC2064 # ignored, the signal becomes an error that the program sees
    limited() { (trap '' XFSZ && ulimit -f 32 && "$@"); }
fi
leaves_nothing full_disk_packed 1 "small" limited "$LCQAT" quantize "$here/teacher" --method rtn \
    --bits 4 --out "$small/out"
leaves_nothing full_disk_dense 1 "small" limited "$LCQAT" export "$here/teacher" --format dense \
    --out "$small/dense"
leaves_nothing full_disk_cache 1 "small" limited env LCQAT_CACHE="$small" \
    "$LCQAT" eval "$here/teacher" --ppl "$here/text.txt"
exit $status
