// One graph in onnxruntime, behind its C API: typed ports, metadata, runs over memory of the caller.
#pragma once
#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace fr::onnx_backend {

struct OrtRelease {
  void operator()(OrtEnv* p) const;
  void operator()(OrtSession* p) const;
};

struct Port {
  std::string name;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::int64_t> dims;  // -1: any
};

// A tensor in the caller's memory, under a port's name.
struct Binding {
  const char* name = nullptr;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  void* data = nullptr;  // inputs are not written to
  std::vector<std::int64_t> dims;
};

class Session {
 public:
  // threads: 0: onnxruntime's choice. Errors: no such file, no model, weights that are missing or too short.
  static Result<std::unique_ptr<Session>> open(const std::string& path, int threads);

  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }
  std::string metadata(const char* key) const;  // empty: none
  // Needs all inputs; computes the outputs that are named. One call at a time.
  Status run(std::span<const Binding> inputs, std::span<const Binding> outputs);

 private:
  Session() = default;
  std::string path_;
  std::unique_ptr<OrtEnv, OrtRelease> env_;
  std::unique_ptr<OrtSession, OrtRelease> session_;
  std::vector<Port> inputs_, outputs_;
};

// "onnxruntime 1.20.1"
std::string runtime_name();

}  // namespace fr::onnx_backend
