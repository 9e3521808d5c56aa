// The device behind an ONNX export: states in host memory, steps by the export's two graphs.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/onnx/onnx_session.h"

namespace fr::onnx_backend {

struct OnnxModel {
  std::string path;  // NAME.onnx, the sequence graph
  ModelInfo info;
  StateSpec state;
  DType dtype = DType::f32;
  int threads = 0;
  MemoryUse memory;                 // of the weights
  std::unique_ptr<Session> decode;  // its ports were checked
};

std::unique_ptr<Device> make_device(OnnxModel model);

// Whether the graph has the ports of an export of these sizes; decode: one row and no `wanted`.
bool has_ports(const Session& session, const ModelInfo& info, const StateSpec& state, bool decode);

}  // namespace fr::onnx_backend
