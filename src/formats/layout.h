// From the names and shapes that other programs give RWKV weights to the official ones (BlinkDL's .pth), as
// views of the same numbers. A new layout is one file and one line in the table in layout.cpp.
//
// The official form: "emb.weight" [V, D], "blocks.N.ln0/ln1/ln2", "blocks.N.att.*", "blocks.N.ffn.*",
// "ln_out.*", "head.weight" [V, D]; matrices X.weight [out, in]; low-rank factors w1, time_maa_w1, ... [in,
// out]; vectors [1, 1, D]; r_k, time_faaaa [H, N]; v5's time_decay [H] or [H, N], time_first [H].
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

struct Layout {
  std::string_view name;  // Checkpoint::layout
  // By names, metadata and container; cheap. Not asked for files with official names.
  bool (*recognises)(const Checkpoint&);
  // Renames, transposes, slices and marks (TensorView::processed, Checkpoint::rescale_every); calls index().
  // Errors name the tensor whose shape is impossible.
  Status (*apply)(Checkpoint&);
};

extern const Layout layout_chatrwkv;  // ChatRWKV's convert_model .pth, and .fr
extern const Layout layout_web_rwkv;  // web-rwkv .st
extern const Layout layout_fla;       // flash-linear-attention on Hugging Face
extern const Layout layout_transformers;
extern const Layout layout_rosa;       // "reverse the digits"
extern const Layout layout_rwkv_cpp;   // .bin
extern const Layout layout_gguf;       // llama.cpp
extern const Layout layout_converted;  // our own safetensors of files that were processed already

// What a safetensors file must say of tensors that are processed (TensorView::processed, rescale_every), so
// that layout_converted marks them again; empty for official ones.
std::map<std::string, std::string> converted_metadata(const Checkpoint& file);

// Applies the layout that recognises the file, if any. What no layout knows stays as it is.
Status to_official_layout(Checkpoint& file);

}  // namespace fr
