#!/usr/bin/env bash
# The command lines of the first faster-rwkv's README (2023), one after the other, in a clean clone: convert, build,
# chat, export to ncnn, configure for Android, chat on (emulated) arm64. The model is a small random one in the form that
# ChatRWKV's convert_model.py saves. Needs the packages of `./run test full`; CUDA is built where nvcc is, and used where
# a GPU is. SEED_FOLDER: where to work (out/seed); emptied first, kept afterwards.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${SEED_FOLDER:-$here/out/seed}
rm -rf "$work"
mkdir -p "$work"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'seed_commands: error: %s\n' "$*" >&2; exit 1; }
# answers FILE: two turns, each with a reply and a blank line after it.
answers() {
  [ -s "$1" ] || die "the chat said nothing ($1)"
  local turns
  turns=$(grep -c '^$' "$1") || true
  [ "$turns" -ge 2 ] || die "the chat did not answer two turns ($1 has $turns blank lines)"
  printf 'answered: %s bytes\n' "$(stat -c %s "$1")"
}
# A long reply of a random model says nothing more than a short one.
questions() { printf '/set max_tokens 12\n/set seed 1\nHello\nAnd who are you?\n'; }

say "a clean clone"
git clone --quiet "$here" "$work/faster-rwkv"
cd "$work/faster-rwkv"

say "models as convert_model.py of ChatRWKV makes them, with strategies 'cuda fp16' and 'cpu fp32'"
python=python3  # one that has numpy: Debian's, where another stands before it in the path
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3
PYTHONPATH=tools "$python" - <<'PY'
import make_chatrwkv_fixtures as made
from pathlib import Path

made.V, made.D, made.F = 65536, 64, 256
for name, dtype, rescale in [("RWKV-4-World-CHNtuned-1.5B-v1-20230620-ctx4096-converted-fp16.pth", "f16", 6),
                             ("rwkv-4-chntuned-1.5b-fp32.pth", "f32", 0)]:
    tensors = made.convert(made.official("4", 7, seed=5), "4", [(dtype, dtype)] * 8, rescale)
    Path(name).write_bytes(made.pth(tensors, "cuda fp16" if rescale else "cpu fp32", rescale))
PY
ls -l ./*.pth

cuda=OFF
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then cuda=ON; fi
device=cpu
if [ "$cuda" = ON ] && command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then device=cuda; fi

say "mkdir build; cd build; cmake -DFR_ENABLE_CUDA=$cuda -DCMAKE_BUILD_TYPE=Release -GNinja ..; ninja"
mkdir build
cd build
cmake -DFR_ENABLE_CUDA=$cuda -DCMAKE_BUILD_TYPE=Release -GNinja .. >"$work/cmake.log" || die "cmake failed, see $work/cmake.log"
ninja >"$work/ninja.log" || die "ninja failed, see $work/ninja.log"
cd ..

say "python3 tools/convert_weight.py ...converted-fp16.pth rwkv-4-1.5b-chntuned-fp16.fr"
python3 tools/convert_weight.py RWKV-4-World-CHNtuned-1.5B-v1-20230620-ctx4096-converted-fp16.pth rwkv-4-1.5b-chntuned-fp16.fr
python3 tools/convert_weight.py rwkv-4-chntuned-1.5b-fp32.pth rwkv-4-chntuned-1.5b-fp32.fr
cd build

say "./chat ../tokenizer_model ../rwkv-4-1.5b-chntuned-fp16.fr \"$device fp16\""
questions | ./chat ../tokenizer_model ../rwkv-4-1.5b-chntuned-fp16.fr "$device fp16" >"$work/chat.txt"
answers "$work/chat.txt"

say "./export_ncnn ../rwkv-4-chntuned-1.5b-fp32.fr rwkv-4-chntuned-1.5b"
./export_ncnn ../rwkv-4-chntuned-1.5b-fp32.fr rwkv-4-chntuned-1.5b
ls -l rwkv-4-chntuned-1.5b.*
cd ..

say "the Android build: cmake -DFR_ENABLE_NCNN=ON -DANDROID_ABI=arm64-v8a ... -GNinja ..; ninja"
mv build build-host
mkdir build
cd build
cmake -DFR_ENABLE_NCNN=ON -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-28 -DANDROID_NDK=/no/ndk \
  -DCMAKE_TOOLCHAIN_FILE="$PWD/../tests/android_stand_in.cmake" -DCMAKE_BUILD_TYPE=Release \
  -DFR_NCNN_CACHE_DIR="$here/out/downloads" -GNinja .. >"$work/cmake_android.log" 2>&1 ||
  die "cmake for Android failed, see $work/cmake_android.log"
ninja >"$work/ninja_android.log" || die "ninja for Android failed, see $work/ninja_android.log"
for file in chat libfaster_rwkv.so; do
  aarch64-linux-gnu-readelf -d "$file" | grep NEEDED | grep -vE 'libfaster_rwkv\.so|libc\.so|libm\.so|libdl|libpthread|ld-linux' &&
    die "$file needs a library that a phone does not have"
  aarch64-linux-gnu-readelf -lW "$file" | awk '$1 == "LOAD" && $NF != "0x4000" { exit 1 }' ||
    die "$file cannot be mapped in pages of 16 KB"
done

say "on the phone: LD_LIBRARY_PATH=\`pwd\` ./chat tokenizer_model rwkv-4-chntuned-1.5b \"ncnn fp16\""
mkdir phone
cp chat libfaster_rwkv.so* ../tokenizer_model ../build-host/rwkv-4-chntuned-1.5b.* phone/
cd phone
questions | LD_LIBRARY_PATH=$(pwd) qemu-aarch64-static -L /usr/aarch64-linux-gnu \
  ./chat tokenizer_model rwkv-4-chntuned-1.5b "ncnn fp16" >"$work/chat_phone.txt"
answers "$work/chat_phone.txt"
say "all commands of 2023 work"
