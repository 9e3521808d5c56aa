// Exports of the C API.
#include <nlohmann/json.hpp>

#include "api/handles.h"
#include "core/storage.h"
#include "engine/fingerprint.h"
#include "engine/locate.h"
#include "export/ncnn.h"
#include "export/onnx.h"
#include "formats/formats.h"

using namespace fr;
using namespace fr::api;

namespace {

// The number format that `word` names, of those that the target has.
Result<DType> export_dtype(std::string_view word, std::string_view kind, std::initializer_list<DType> known) {
  std::string names;
  for (const DType t : known) {
    if (word == storage_name(t)) return t;
    names.append(names.empty() ? "" : ", ").append(storage_name(t));
  }
  std::string what = "an export to ";
  what.append(kind)
      .append(" has no number format \"")
      .append(word)
      .append("\" (dtype): use one of ")
      .append(names);
  return usage_error(what);
}

Result<ExportReport> write_export(std::string_view kind, const std::string& path, const std::string& out,
                                  const fr_export_options& options) {
  FR_OK(refuse_exported(path));
  const Progress progress = to_progress(options.progress, options.user);
  const std::string dtype = text_or_empty(options.dtype);
  if (kind == "ncnn") {
    NcnnExportOptions ncnn;
    FR_TRY(ncnn.dtype, export_dtype(dtype.empty() ? "fp16" : dtype, kind,
                                    {DType::f32, DType::f16, int8_weights, int4_weights}));
    if (options.chunk != 0) ncnn.chunk = options.chunk == -1 ? 0 : options.chunk;
    FR_TRY(const Checkpoint file, open_checkpoint(path, progress));
    ncnn.fingerprint = model_fingerprint(file);
    ncnn.progress = progress;
    return export_ncnn(file, out, ncnn);
  }
  if (kind == "onnx") {
    OnnxExportOptions onnx;
    FR_TRY(onnx.dtype, export_dtype(dtype.empty() ? "fp32" : dtype, kind, {DType::f32, DType::f16}));
    FR_TRY(const Checkpoint file, open_checkpoint(path, progress));
    onnx.fingerprint = model_fingerprint(file);
    onnx.producer_version = FR_VERSION;
    onnx.progress = progress;
    return export_onnx(file, out, onnx);
  }
  return usage_error("nothing exports to \"" + std::string(kind) + "\" (export): use ncnn or onnx");
}

}  // namespace

fr_export_options fr_export_options_default(void) { return {}; }

fr_error fr_export(const char* kind, const char* path, const char* out, const fr_export_options* options,
                   fr_buffer* report) {
  if (kind == nullptr) return null_argument("kind");
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    std::string file = text_or_empty(path);
    if (file.empty()) {
      FR_TRY(file, shipped_model());
    }
    FR_TRY(ExportReport written,
           write_export(kind, file, out, options != nullptr ? *options : fr_export_options_default()));
    if (std::string note = copy_vocabulary(file, out); !note.empty())
      written.notes.push_back(std::move(note));
    if (report == nullptr) return {};
    const nlohmann::ordered_json json{{"files", written.files},
                                      {"bytes", written.bytes},
                                      {"chunk", written.chunk},
                                      {"notes", written.notes}};
    return fill(report, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  });
}
