#!/usr/bin/env bash
# Checks the cuda backend on a machine with a GPU that has nothing but the CUDA toolkit: no packages, no network.
#   gpu_check.sh pack   builds the programs here (needs nvcc and what ./run test needs) and collects them, golden files
#                       and the small model in out/gpu-check, at most 50 MiB, to be copied to that machine
#   gpu_check.sh run    there, from the folder itself or from the checkout: kernels, ops, models and goldens against the
#                       reference, compute-sanitizer, bench. Not 0 if anything fails.
# FR_GPU_ARCHITECTURES: what to build for (default 80;90a-real;120-real). FR_GPU_SHAPES: sizes for bench.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=$here/$(basename "${BASH_SOURCE[0]}")
most_kilobytes=$((50 * 1024))

say() { printf '%s\n' "gpu-check: $*"; }
die() { say "error: $*" >&2; exit 1; }

# Models with official logits that fit, and a cases.json that names only these.
pack_goldens() {
  local from=$1 to=$2
  python3 - "$from" "$to" <<'PY'
import json, os, shutil, sys
source, target = sys.argv[1:]
cases = json.load(open(f"{source}/cases.json"))
budget = 10 << 20
chosen, expects, seen = [], set(), set()
def size(path):
    return os.path.getsize(f"{source}/{path}") if os.path.isfile(f"{source}/{path}") else budget
# In turn from every version, so that all are there.
turns = {}
for f in cases["files"]: f["turn"] = turns[f["version"]] = turns.get(f["version"], 0) + 1
for f in sorted(cases["files"], key=lambda f: f["turn"]):
    path = f["path"]
    if f["expect"] is None or (size(path) > budget and path not in seen):
        continue
    if path not in seen:
        budget -= size(path)
    seen.add(path)
    if "state_file" in f: seen.add(f["state_file"])
    chosen.append(f)
    expects.add(f["expect"])
cases["files"] = chosen
cases["expects"] = {k: v for k, v in cases["expects"].items() if k in expects}
for path in sorted(seen | {v["data"] if "/" in v["data"] else "data/" + v["data"] for v in cases["expects"].values()}):
    os.makedirs(os.path.dirname(f"{target}/{path}"), exist_ok=True)
    shutil.copyfile(f"{source}/{path}", f"{target}/{path}")
json.dump(cases, open(f"{target}/cases.json", "w"))
shutil.copytree(f"{source}/reverse", f"{target}/reverse", copy_function=shutil.copyfile)
print(f"gpu-check: {len(chosen)} golden files")
PY
}

pack() {
  cd "$here/.."
  local build=$PWD/out/gpu-build out=$PWD/out/gpu-check
  command -v python3 >/dev/null || die "pack needs python3"
  say "building in out/gpu-build (some minutes)"
  mkdir -p "$build"
  cmake --preset release -B "$build" -DFR_ENABLE_CUDA=ON -DFR_BUILD_TESTS=ON -DFR_ENABLE_PULL=OFF \
    -DFR_ENABLE_EDIT=OFF -DFR_UTF8PROC_LIBRARY="$(c++ -print-file-name=libutf8proc.a)" \
    -DCMAKE_CUDA_ARCHITECTURES="${FR_GPU_ARCHITECTURES:-80;90a-real;120-real}" \
    -DCMAKE_RUNTIME_OUTPUT_DIRECTORY="$build/bin" -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$build/lib" \
    -DCMAKE_EXE_LINKER_FLAGS="-static-libstdc++ -static-libgcc" \
    -DCMAKE_SHARED_LINKER_FLAGS="-static-libstdc++ -static-libgcc" \
    >"$build/configure.log" 2>&1 || { cat "$build/configure.log" >&2; die "cmake failed"; }
  cmake --build "$build" --target gpu_kernels_test gpu_ops_test gpu_model_test frwkv faster_rwkv_cuda >&2 ||
    die "the build failed"

  rm -rf "$out"
  mkdir -p "$out/programs" "$out/models"
  cp "$build"/gpu/gpu_*_test "$build/bin/frwkv" "$build/lib/libfaster_rwkv_cuda.so" "$out/programs/"
  strip "$out"/programs/gpu_*_test "$out/programs/frwkv" "$out/programs/libfaster_rwkv_cuda.so"
  cp models/rwkv7-story-9m.pth models/rwkv7-story-9m.vocab.txt "$out/models/"
  if [ -d ../shared/goldens ]; then
    pack_goldens ../shared/goldens "$out/shared/goldens"
  else
    say "no ../shared/goldens: packed without golden files"
  fi
  tar -C "$out" -czf "$out/programs.tar.gz" programs
  rm -r "$out/programs"
  cp "$script" "$out/gpu_check.sh"
  local size
  size=$(du -sk --apparent-size "$out" | cut -f1)
  say "out/gpu-check has $((size / 1024)) MiB: copy it to a machine with a GPU and start ./gpu_check.sh run in it"
  [ "$size" -le "$most_kilobytes" ] || die "out/gpu-check is larger than $((most_kilobytes / 1024)) MiB"
}

failed=0
summary=()
# step NAME COMMAND...: runs it with its output in a log, and notes how it went.
step() {
  local name=$1 begin=$SECONDS status=ok
  shift
  say "$name: $*"
  if "$@" >"$logs/$name.log" 2>&1; then
    grep -E '^\[  (PASSED|SKIPPED)|NOT TESTED|against cpu|fp32 logits|ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$name.log" | tail -n 60 || true
  else
    status=FAILED
    failed=1
    tail -n 60 "$logs/$name.log"
  fi
  summary+=("$(printf '%-22s %-7s %5d s' "$name" "$status" $((SECONDS - begin)))")
}
skip() {
  summary+=("$(printf '%-22s %s' "$1" "NOT RUN: $2")")
  failed=1
}

# The small model must continue a text on the GPU as on the cpu.
same_text() {
  local model=$folder/models/rwkv7-story-9m.pth common=(-p "Once upon a time" -n 32 --temperature 0) gpu cpu
  gpu=$(./frwkv generate "$model" "${common[@]}" --strategy "cuda fp16") || return 1
  cpu=$(./frwkv generate "$model" "${common[@]}" --strategy "cpu fp16") || return 1
  printf 'cuda: %s\ncpu:  %s\n' "$gpu" "$cpu"
  [ "$gpu" = "$cpu" ]
}

bench() {
  local shape
  for shape in ${FR_GPU_SHAPES:-0.1b 0.4b 1.5b}; do
    ./frwkv bench --shape "$shape" --strategy "cuda fp16" --zeros 0.86 --batch 1,8,32,128 --prompt 512 || return 1
  done
}

run() {
  folder=$here
  [ -f "$folder/programs.tar.gz" ] || folder=$here/../out/gpu-check
  [ -f "$folder/programs.tar.gz" ] || die "no programs in $folder: first ./run gpu-check pack"
  folder=$(cd "$folder" && pwd)
  tar -C "$folder" -xzf "$folder/programs.tar.gz"
  cd "$folder/programs"
  if ! compgen -G '/dev/nvidia[0-9]*' >/dev/null && ! { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }; then
    die "there is no NVIDIA GPU on this machine (no /dev/nvidia*, and nvidia-smi shows none): nothing was checked"
  fi
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || true
  logs=$folder/logs
  mkdir -p "$logs"

  step kernels ./gpu_kernels_test
  step ops-and-device ./gpu_ops_test
  step models-and-goldens ./gpu_model_test --gtest_filter='*cuda*:*Cuda*'
  step same-text same_text
  local sanitizer=compute-sanitizer
  command -v "$sanitizer" >/dev/null || sanitizer=${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer
  if [ -x "$(command -v "$sanitizer")" ]; then
    # One small net each of all fused ops, expansions and primitives; graphs; a model of every version.
    local small='CudaOps.PrimitivesEqualTheReference:CudaOps.ExpansionsEqualTheReference:CudaOps.EveryStoredFormat'
    small+=':CudaOps.EveryBlockFormat:CudaDevice.GraphsReplayWhatLaunchesDo:CudaDevice.SlotsAreIndependent'
    for tool in memcheck racecheck synccheck initcheck; do
      step "$tool-kernels" "$sanitizer" --tool "$tool" --report-api-errors no --error-exitcode 9 ./gpu_kernels_test
      step "$tool-ops" "$sanitizer" --tool "$tool" --report-api-errors no --error-exitcode 9 ./gpu_ops_test --gtest_filter="$small"
      step "$tool-sampling" "$sanitizer" --tool "$tool" --report-api-errors no --error-exitcode 9 ./gpu_ops_test \
        --gtest_filter=DeviceSampler.FollowsEveryRule
      step "$tool-models" "$sanitizer" --tool "$tool" --report-api-errors no --error-exitcode 9 ./gpu_model_test \
        --gtest_filter='Versions/Models.OneLayerRuns/cuda_*'
    done
  else
    skip memcheck "no compute-sanitizer: install the CUDA toolkit, or set CUDA_HOME"
    skip racecheck "no compute-sanitizer"
  fi
  step bench bench
  grep -v '^$' "$logs/bench.log" || true

  say "summary (logs in $logs)"
  printf '  %s\n' "${summary[@]}"
  [ "$failed" = 0 ] || die "something failed"
  say "all is well"
}

case "${1:-}" in
  pack) pack ;;
  run) run ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$script" >&2
    exit 2
    ;;
esac
