// The .bin of an ncnn export: numbers in the order in which the layers of the .param read them.
#pragma once
#include "base/atomic_file.h"
#include "base/log.h"
#include "export/ncnn_lower.h"

namespace fr {

// Inputs that share a scale in ncnn's block formats.
inline constexpr int ncnn_block = 32;

// One block of 32 numbers to 8 or 4 bits, symmetric: x = q / scale. q is -127..127 or -8..7; an empty block
// has scale 1. Of 4 bits, the scale with the least squared error of a few.
float quantise_ncnn_block8(std::span<const float> x, std::int8_t* q);
float quantise_ncnn_block4(std::span<const float> x, std::int8_t* q);

// Writes all weights of the graph, a piece of a matrix at a time. Errors: a number that is not finite, or too
// large for fp16; the disk's; that `progress` said stop.
Status write_ncnn_weights(AtomicFile& out, const NcnnGraph& graph, const TraceWeights& weights,
                          const Checkpoint& file, const Progress& progress);

}  // namespace fr
