// Tells models apart: a state belongs to the weights that made it.
#pragma once
#include <string>

#include "base/checkpoint.h"

namespace fr {

// 32 hex digits: XXH3-128 over names, shapes (dimensions of size 1 left out) and up to 64 evenly spaced
// numbers of every tensor, as float32, in the order of names. The same for every file format that holds the
// same numbers.
std::string model_fingerprint(const Checkpoint& file);

}  // namespace fr
