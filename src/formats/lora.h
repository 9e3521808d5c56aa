// LoRA adapters: the low-rank changes of matrices that training with LoRA leaves in a file of their own.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

struct LoraReport {
  std::size_t merged = 0;    // matrices that got a change
  std::size_t replaced = 0;  // tensors that training stored whole (layer norms, time mixes)
  std::size_t rank = 0;      // of the last one
  double alpha = 0;
};

// Adds the adapter in `path` to the matrices of `model` (TensorView::delta; nothing is computed before a
// matrix is read): W += alpha / rank * B A, with "<matrix>.lora_A" [rank, in] and "<matrix>.lora_B" [out,
// rank] as Blealtan's RWKV-LM-LoRA and RWKV-PEFT write them (with or without ".weight", "base_model.model."
// before the name). Tensors that the adapter stores whole replace those of the model. alpha: the file does
// not hold it; without it "lora_alpha" of an adapter_config.json beside the file. `model` keeps the adapter's
// file open. Errors: no alpha, an A without its B, a rank or shape that does not fit, names that the model
// does not have, a model that was processed by a converter; PiSSA and Bone adapters, which need more than
// this.
Result<LoraReport> add_lora(Checkpoint& model, const std::string& path, std::optional<double> alpha);

}  // namespace fr
