// What this machine offers, what the build uses of it, and what stands in the way: the answer to `frwkv
// doctor`.
#pragma once
#include <string>

#include "base/result.h"

namespace fr {

struct DoctorOptions {
  std::string model;  // a model file whose need of memory is compared; empty: none
  std::string cache;  // the folder of downloads; its disk is looked at
};

// One JSON object: build, cpu {model, processors, cores, found [...], amx}, backends [...], gpu {driver,
// cuda, devices [{name, memory}], problem}, memory {total, limit, available} and cache {path, free, total} in
// bytes (null: not known), huge_pages, shipped_model (path or null), advice [one line for each problem]. With
// a model also model {path, n_parameters, weights [{dtype, bytes, verdict}]}: bytes of the weights in memory,
// an estimate; verdict "fits" (at most 70 % of the available memory), "tight" or "too large". Errors: those
// of reading the model. A bad machine is no error.
Result<std::string> doctor_json(const DoctorOptions& options);

}  // namespace fr
