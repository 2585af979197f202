#!/usr/bin/env bash
# Work that goes block by block, and what comes of it: Hessians to a file and back, fine-tuning of blocks, the
# layout of the released LC-QAT code.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

# As toy_teacher, but what the released layout can hold: Qwen3, every width a multiple of 128.
toy_text 200 12345 >"$here/text.txt"
cat >"$here/teacher.json" <<'JSON'
{"name": "toy",
 "model": {"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 128,
           "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
           "head_dim": 128, "vocab_size": 320, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
           "rope_theta": 10000, "tie_word_embeddings": true},
 "train": {"context": 32, "batch": 8, "micro": 2, "lanes": 2, "lr": 0.003, "weight_decay": 0.1,
           "warmup_steps": 2, "decay": 0.2, "seed": 1}}
JSON
runs teacher "$LCQAT" pretrain "$here/teacher.json" --data "$here/text.txt" --tokens 5120 \
    --out "$here/teacher" || exit 1

quantize() { # NAME OUT OPTION...
    local name=$1 out=$2
    shift 2
    runs "$name" "$LCQAT" quantize "$here/teacher" --method lcqat --bits 2 --calib "$here/text.txt" \
        --set calib.tokens=1024 --set calib.context=32 --out "$here/$out" "$@"
}
# The numbers of a series of the one record in OUT.
series() { # OUT NAME
    tr -d '\n' <"$(ls "$here/$1"/runs/*.json)" |
        sed -n "s/.*\"$2\":{\"value\":\[\([^]]*\)\].*/\1/p; s/.*\"$2\":{\"x\":\[[^]]*\],\"value\":\[\([^]]*\)\].*/\1/p" |
        tail -n 1
}

# ---- Hessians
runs calibrate "$LCQAT" calibrate "$here/teacher" --data "$here/text.txt" --tokens 1024 --context 32 \
    --out "$here/h.safetensors"
quantize collected collected
quantize read_from_a_file read --hessians "$here/h.safetensors"
is hessians_are_in_the_record "$(grep -c '"hessians":"' "$here"/read/runs/*.json)" 1
is no_hessians_no_key "$(grep -c hessians "$here"/collected/runs/*.json)" 0
fails hessians_are_missing 1 "no-such.safetensors" "$LCQAT" quantize "$here/teacher" --method lcqat \
    --out "$here/x" --hessians "$here/no-such.safetensors"
fails hessians_for_nobody 2 "rtn does not look at Hessians" "$LCQAT" quantize "$here/teacher" \
    --method rtn --out "$here/x" --hessians "$here/h.safetensors"
sed 's/"seed": 1/"seed": 2/' "$here/teacher.json" >"$here/other.json"
runs other_teacher "$LCQAT" pretrain "$here/other.json" --data "$here/text.txt" --tokens 1024 \
    --out "$here/other"
fails hessians_of_another_model 1 "another model" "$LCQAT" quantize "$here/other" --method lcqat \
    --out "$here/x" --hessians "$here/h.safetensors"

# ---- fine-tuning of blocks
for threads in 1 2; do
    OMP_NUM_THREADS=$threads quantize "tuned_with_$threads" "tuned$threads" --set blockwise.epochs=2 \
        --set blockwise.feed=quant --set blockwise.lr_scales=2e-3
done
if cmp -s "$here/tuned1/packed.safetensors" "$here/tuned2/packed.safetensors"; then
    ok threads_do_not_change_a_byte
else
    not_ok threads_do_not_change_a_byte "tuned1 and tuned2 differ"
fi
if cmp -s "$here/tuned1/packed.safetensors" "$here/collected/packed.safetensors"; then
    not_ok tuning_changes_the_model "the bytes are those without tuning"
else
    ok tuning_changes_the_model
fi
before=$(series tuned1 blockwise_mse_before) after=$(series tuned1 blockwise_mse_after)
is both_blocks_are_in_the_record "$(echo "$before,$after" | tr ',' '\n' | grep -c '[0-9]')" 4
if awk -v b="$before" -v a="$after" 'BEGIN {
        n = split(b, x, ","); split(a, y, ",")
        for (i = 1; i <= n; i++) if (!(y[i] <= x[i])) exit 1
    }'; then
    ok no_block_ends_worse
else
    not_ok no_block_ends_worse "before $before, after $after"
fi
fails unknown_slot 2 "continuous slots of lcqat; it has: u su sv affine" "$LCQAT" quantize \
    "$here/teacher" --method lcqat --calib "$here/text.txt" --set calib.tokens=1024 \
    --set blockwise.epochs=1 --set blockwise.slots=step --out "$here/x"
fails unknown_key 2 "blockwise: no option 'epoch'; did you mean 'epochs'" "$LCQAT" quantize \
    "$here/teacher" --method lcqat --set blockwise.epoch=1 --out "$here/x"

# ---- the released layout
runs export "$LCQAT" export "$here/tuned1" --format unisvq --out "$here/official"
runs export_again "$LCQAT" export "$here/official" --format unisvq --out "$here/official2"
runs export_back "$LCQAT" export "$here/official" --format packed --out "$here/back"
for pair in official/model.safetensors=official2/model.safetensors \
    official/config.json=official2/config.json tuned1/packed.safetensors=back/packed.safetensors; do
    if cmp -s "$here/${pair%=*}" "$here/${pair#*=}"; then
        ok "same_bytes_${pair%%/*}_${pair##*/}"
    else
        not_ok "same_bytes_${pair%%/*}_${pair##*/}" "$pair differ"
    fi
done
for model in tuned1 official; do
    runs "eval_$model" "$LCQAT" eval "$here/$model" --ppl "$here/text.txt" --context 32 --limit 40
    grep -E '^(perplexity|bits)' "$here/out" >"$here/$model.eval"
done
is same_perplexity_and_bits "$(cat "$here/official.eval")" "$(cat "$here/tuned1.eval")"
runs dense "$LCQAT" export "$here/official" --format dense --f32 --out "$here/dense"
fails full_precision_is_no_export 2 "not quantized" "$LCQAT" export "$here/teacher" --format unisvq \
    --out "$here/y"
runs three_bits "$LCQAT" quantize "$here/teacher" --method lcqat --bits 3 --calib "$here/text.txt" \
    --set calib.tokens=1024 --set calib.context=32 --out "$here/three"
fails three_bits_do_not_fit 2 "not 3 bits" "$LCQAT" export "$here/three" --format unisvq --out "$here/y"
is refusals_leave_nothing "$(find "$here/y" 2>/dev/null)" ""
exit $status
