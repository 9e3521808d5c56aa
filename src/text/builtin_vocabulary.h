// The World vocabulary as a file image inside the library.
#pragma once
#include <string_view>

namespace fr {

// The bytes of `tokenizer_model` in the root of the project (msgpack).
std::string_view builtin_vocabulary();

}  // namespace fr
