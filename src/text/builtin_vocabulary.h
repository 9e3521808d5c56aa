// The vocabularies inside the library, as images of the files that ship.
#pragma once
#include <string_view>

namespace fr {

// The bytes of `tokenizer_model` in the root of the project (World, msgpack).
std::string_view builtin_vocabulary();
// The bytes of gpt_neox_20b_merges.txt: a header line, then one merge "left right" a line, in byte-level
// characters.
std::string_view builtin_20b_merges();

}  // namespace fr
