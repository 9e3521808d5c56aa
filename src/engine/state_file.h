// States on disk: safetensors with one float32 tensor per block of the canonical form (core/state.h) and
// metadata rwkv.version, rwkv.layout, rwkv.fingerprint (of the model), rwkv.tokens_seen, rwkv.checksum.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

class Engine;
class State;

struct StateFile {
  std::vector<float> values;  // canonical form
  std::uint64_t tokens_seen = 0;
  std::map<std::string, std::string> metadata;  // what the file says beside rwkv.* ("chat.*")
};

// Replaces the file only when the new one is complete on disk. extra: more metadata, names without "rwkv.".
Status write_state_file(const std::string& path, const Engine& engine, std::span<const float> values,
                        std::uint64_t tokens_seen, const std::map<std::string, std::string>& extra = {});

// A state file of this model, a tuned initial state (.pth or .safetensors with blocks.N.att.time_state), or a
// state that faster-rwkv saved in 2023 (formats/fr_msgpack.h; it says nothing of its model but the sizes).
// Errors name what does not fit: another model or version, a missing or unknown tensor, a wrong shape, a
// wrong checksum, NaN.
Result<StateFile> read_state_file(const std::string& path, const Engine& engine);

// The same for a file that is open already; its path is for messages.
Result<StateFile> to_state(const Checkpoint& file, const Engine& engine);

// The same for the state of a sequence.
Status save_state(const State& state, const std::string& path);
Status load_state(State& state, const std::string& path);

}  // namespace fr
