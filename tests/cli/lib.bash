# Shared by the tests of the command line; sourced, not run. A test prints `ok NAME`, `not ok NAME: why` or
# `skip NAME: why`, and ends with `exit $status`. LCQAT is the program, $here an empty folder of the test's
# own, LCQAT_CACHE a cache inside it.
# shellcheck shell=bash disable=SC2034 # status is the sourcing script's
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
LCQAT=${LCQAT:-build/lcqat}
[ -x "$LCQAT" ] || { echo "not ok program: no $LCQAT; type make" && exit 1; }
LCQAT=$(realpath "$LCQAT")
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
trap 'exit 143' TERM INT
export LC_ALL=C LCQAT_CACHE="$here/cache"
status=0

ok() { echo "ok $1"; }
not_ok() { # NAME WHY
    echo "not ok $1: $2"
    status=1
}
skip() { echo "skip $1: $2"; }

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', want '$3'"; fi
}

runs() { # NAME COMMAND...: ends with 0; output in $here/out, $here/err
    local name=$1 code=0
    shift
    "$@" >"$here/out" 2>"$here/err" </dev/null || code=$?
    if [ $code = 0 ]; then
        ok "$name"
    else
        not_ok "$name" "status $code: $(tail -n 1 "$here/err")"
    fi
    return $code
}

# A failure is one line on stderr that names its subject, and the status that the status list gives it. News
# of the work (a download that begins) may stand before it.
news='^(fetching|warning:|tokenizer:|chat template:) '
fails() { # NAME STATUS PATTERN COMMAND...
    local name=$1 want=$2 pattern=$3 code=0 lines
    shift 3
    "$@" >"$here/out" 2>"$here/err" </dev/null || code=$?
    lines=$(grep -cvE "$news" "$here/err")
    if [ $code != "$want" ]; then
        not_ok "$name" "status $code, want $want: $(head -n 1 "$here/err")"
    elif [ "$lines" != 1 ]; then
        not_ok "$name" "$lines lines on stderr: $(head -n 2 "$here/err" | tr '\n' '|')"
    elif ! grep -qE "^lcqat: .*($pattern)" "$here/err"; then
        not_ok "$name" "stderr has no '$pattern': $(cat "$here/err")"
    else
        ok "$name"
    fi
}

# Made-up English: the same bytes on every machine (Lehmer's generator, no rand()).
toy_text() { # KILOBYTES SEED
    awk -v bytes=$(($1 * 1000)) -v x="$2" '
        function next_below(n) { x = (x * 16807) % 2147483647; return x % n }
        BEGIN {
            split("ba ce di fo gu la me ni po ru sa te vi wo zu tra ple sti cro nde ing er", part, " ")
            for (i = 0; i < 300; i++) {
                word[i] = part[1 + next_below(22)]
                for (k = next_below(3); k > 0; k--) word[i] = word[i] part[1 + next_below(22)]
            }
            while (n < bytes) {
                line = ""
                for (k = 4 + next_below(9); k > 0; k--) {
                    i = next_below(300)
                    line = line (line == "" ? "" : " ") word[int(i * next_below(300) / 300)]
                }
                line = toupper(substr(line, 1, 1)) substr(line, 2) "."
                print line
                n += length(line) + 1
            }
        }'
}

# A two-layer teacher of width 64 in $here/teacher, with $here/text.txt that it was trained on. Widths are
# multiples of 64 and 128, so that every method takes it.
toy_teacher() {
    toy_text 200 12345 >"$here/text.txt"
    cat >"$here/teacher.json" <<'JSON'
{
  "name": "toy",
  "model": {"model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 64, "vocab_size": 320, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
            "rope_theta": 10000, "tie_word_embeddings": true},
  "train": {"context": 32, "batch": 8, "micro": 2, "lanes": 2, "lr": 0.003, "weight_decay": 0.1,
            "warmup_steps": 2, "decay": 0.2, "seed": 1}
}
JSON
    "$LCQAT" pretrain "$here/teacher.json" --data "$here/text.txt" --tokens 5120 \
        --out "$here/teacher" >"$here/out" 2>"$here/err" </dev/null
}

# One point of a sweep: METHOD-OPTIONS FRACTION SEED, for `lcqat run`. Fraction 1 is BUDGET tokens.
toy_point() { # METHOD-JSON FRACTION SEED [BUDGET]
    cat <<JSON
{"model": "$here/teacher", "method": $1, "fraction": $2, "budget_tokens": ${4:-5120}, "seed": $3,
 "train": {"data": "$here/text.txt", "batch": 8, "context": 32, "micro": 2, "lanes": 2, "lr": 1e-3},
 "calib": {"data": "$here/text.txt", "tokens": 1024, "context": 32},
 "eval": {"data": "$here/text.txt", "context": 32, "windows": 40}}
JSON
}

# A record as one line without blanks, however it is laid out.
flat() { # RECORD.json
    tr -d " \n" <"$1"
}

# What must not depend on when, where and how fast it ran: outcome, configuration, metrics, series.
metrics() { # RECORD.json
    flat "$1" | sed -nE 's/.*("outcome":.*)"program":.*/\1/p'
}

# The records of a store that hold a text, flat.
records_with() { # DIR TEXT
    local record
    for record in "$1"/*.json; do
        ! flat "$record" | grep -qF "$2" || echo "$record"
    done
}

# Everything below a folder, with sizes: nothing may be left behind.
listing() { # DIR
    (cd "$1" && find . -printf '%p %y %s\n' | sort)
}
