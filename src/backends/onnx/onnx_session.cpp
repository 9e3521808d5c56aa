#include "backends/onnx/onnx_session.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace fr::onnx_backend {
namespace {

// The API of onnxruntime 1.12, the first with opset 17; later versions keep it. Null: an older library.
const OrtApi* api() {
  static const OrtApi* const found = OrtGetApiBase()->GetApi(12);
  return found;
}

void ORT_API_CALL log_message(void*, OrtLoggingLevel, const char*, const char*, const char*,
                              const char* message) {
  log(LogLevel::debug, message);
}

// onnxruntime's words on one line; of long ones the end, where it says why.
Error ort_error(OrtStatus* status, const std::string& path, const char* what_to_do) {
  std::string words = api()->GetErrorMessage(status);
  api()->ReleaseStatus(status);
  constexpr std::size_t most = 200;
  if (words.size() > most) words.replace(0, words.size() - most, "...");
  std::replace_if(
      words.begin(), words.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, ' ');
  return file_error("onnxruntime: " + words + " (" + path + "): " + what_to_do);
}
constexpr const char* damaged = "the file is damaged or incomplete, export the model again";

#define FR_ORT(call) \
  if (OrtStatus* const status = (call)) return ort_error(status, path, damaged)

template <class T>
class Owned {
 public:
  using Release = void(ORT_API_CALL*)(T*);
  explicit Owned(Release release) : release_(release) {}
  ~Owned() { release_(value); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* value = nullptr;

 private:
  Release release_;
};

using TypeOf = decltype(OrtApi::SessionGetInputTypeInfo);
using NameOf = decltype(OrtApi::SessionGetInputName);

Result<Port> port_at(const OrtSession* session, std::size_t i, NameOf name_of, TypeOf type_of,
                     const std::string& path) {
  Port port;
  OrtAllocator* allocator = nullptr;
  FR_ORT(api()->GetAllocatorWithDefaultOptions(&allocator));
  char* name = nullptr;
  FR_ORT(name_of(session, i, allocator, &name));
  port.name = name;
  FR_ORT(api()->AllocatorFree(allocator, name));
  Owned<OrtTypeInfo> type(api()->ReleaseTypeInfo);
  FR_ORT(type_of(session, i, &type.value));
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  FR_ORT(api()->CastTypeInfoToTensorInfo(type.value, &tensor));
  if (tensor == nullptr) return file_error("a port is no tensor (" + path + "): " + damaged);
  FR_ORT(api()->GetTensorElementType(tensor, &port.type));
  std::size_t rank = 0;
  FR_ORT(api()->GetDimensionsCount(tensor, &rank));
  port.dims.resize(rank);
  FR_ORT(api()->GetDimensions(tensor, port.dims.data(), rank));
  return port;
}

Result<std::vector<Port>> ports(const OrtSession* session, std::size_t count, NameOf name_of, TypeOf type_of,
                                const std::string& path) {
  std::vector<Port> all;
  for (std::size_t i = 0; i < count; ++i) {
    FR_TRY(Port port, port_at(session, i, name_of, type_of, path));
    all.push_back(std::move(port));
  }
  return all;
}

// OrtValues over the memory of bindings.
class Values {
 public:
  ~Values() {
    for (OrtValue* v : values) api()->ReleaseValue(v);
  }
  Status add(const OrtMemoryInfo* memory, const Binding& b, const std::string& path) {
    std::size_t bytes = b.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? 8 : 4;
    for (const std::int64_t d : b.dims) bytes *= static_cast<std::size_t>(d);
    OrtValue* value = nullptr;
    FR_ORT(api()->CreateTensorWithDataAsOrtValue(memory, b.data, bytes, b.dims.data(), b.dims.size(), b.type,
                                                 &value));
    values.push_back(value);
    names.push_back(b.name);
    return {};
  }
  std::vector<OrtValue*> values;
  std::vector<const char*> names;
};

}  // namespace

void OrtRelease::operator()(OrtEnv* p) const { api()->ReleaseEnv(p); }
void OrtRelease::operator()(OrtSession* p) const { api()->ReleaseSession(p); }

std::string runtime_name() { return std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString(); }

Result<std::unique_ptr<Session>> Session::open(const std::string& path, int threads) {
  if (api() == nullptr)
    return runtime_error(runtime_name() + " is too old (" + path + "): install version 1.12 or newer");
  std::unique_ptr<Session> s(new Session);
  s->path_ = path;
  OrtEnv* env = nullptr;
  FR_ORT(api()->CreateEnvWithCustomLogger(&log_message, nullptr, ORT_LOGGING_LEVEL_WARNING, "faster-rwkv",
                                          &env));
  s->env_.reset(env);
  Owned<OrtSessionOptions> options(api()->ReleaseSessionOptions);
  FR_ORT(api()->CreateSessionOptions(&options.value));
  FR_ORT(api()->SetIntraOpNumThreads(options.value, threads));
  // Repacked weights would be copies; these stay in the file's mapping, which both graphs share.
  FR_ORT(api()->AddSessionConfigEntry(options.value, "session.disable_prepacking", "1"));
  OrtSession* session = nullptr;
  FR_ORT(api()->CreateSession(env, path.c_str(), options.value, &session));
  s->session_.reset(session);
  std::size_t n_inputs = 0, n_outputs = 0;
  FR_ORT(api()->SessionGetInputCount(session, &n_inputs));
  FR_ORT(api()->SessionGetOutputCount(session, &n_outputs));
  FR_TRY(s->inputs_,
         ports(session, n_inputs, api()->SessionGetInputName, api()->SessionGetInputTypeInfo, path));
  FR_TRY(s->outputs_,
         ports(session, n_outputs, api()->SessionGetOutputName, api()->SessionGetOutputTypeInfo, path));
  return s;
}

std::string Session::metadata(const char* key) const {
  Owned<OrtModelMetadata> all(api()->ReleaseModelMetadata);
  OrtAllocator* allocator = nullptr;
  char* value = nullptr;
  OrtStatus* status = api()->SessionGetModelMetadata(session_.get(), &all.value);
  if (status == nullptr) status = api()->GetAllocatorWithDefaultOptions(&allocator);
  if (status == nullptr)
    status = api()->ModelMetadataLookupCustomMetadataMap(all.value, allocator, key, &value);
  if (status != nullptr) api()->ReleaseStatus(status);
  if (value == nullptr) return {};
  std::string text = value;
  if (OrtStatus* const freed = api()->AllocatorFree(allocator, value)) api()->ReleaseStatus(freed);
  return text;
}

Status Session::run(std::span<const Binding> inputs, std::span<const Binding> outputs) {
  const std::string& path = path_;
  Owned<OrtMemoryInfo> memory(api()->ReleaseMemoryInfo);
  FR_ORT(api()->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory.value));
  Values in, out;
  for (const Binding& b : inputs) FR_OK(in.add(memory.value, b, path));
  for (const Binding& b : outputs) FR_OK(out.add(memory.value, b, path));
  FR_ORT(api()->Run(session_.get(), nullptr, in.names.data(), in.values.data(), in.values.size(),
                    out.names.data(), out.values.size(), out.values.data()));
  return {};
}

}  // namespace fr::onnx_backend
