// export_ncnn IN PREFIX [DTYPE]: the ncnn exporter of the first faster-rwkv, same arguments.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "common/interrupt.h"
#include "common/terminal.h"
#include "faster_rwkv/fr.hpp"

namespace {

using faster_rwkv::Error;

constexpr const char* usage_line = "export_ncnn IN PREFIX [fp16|fp32|int8|int4]";

int run(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "--help" || first == "-h") {
    std::printf("Usage: %s\nThe same as: frwkv export ncnn IN PREFIX --dtype DTYPE\n", usage_line);
    return FR_OK;
  }
  if (argc < 3 || argc > 4)
    throw Error(FR_ERROR_USAGE, std::string("wrong number of arguments (export_ncnn): use ") + usage_line);
  std::string dtype = argc > 3 ? argv[3] : "fp16";
  if (dtype == "i8" || dtype == "i4") dtype.replace(0, 1, "int");  // as the first program also took them
  fr::app::ProgressBar bar;
  fr_export_options options = fr_export_options_default();
  options.dtype = dtype.c_str();
  options.progress = &fr::app::ProgressBar::callback;
  options.user = &bar;
  faster_rwkv::export_model("ncnn", argv[1], argv[2], options);
  bar.clear();
  return FR_OK;
}

}  // namespace

int main(int argc, char** argv) {
  fr::app::catch_interrupts();
  fr::app::show_messages("export_ncnn");
  try {
    return fr::app::with_output_written(run(argc, argv));
  } catch (const Error& e) {
    return fr::app::report("export_ncnn", e);
  } catch (const std::exception& e) {
    return fr::app::report("export_ncnn", Error(FR_ERROR_RUNTIME, e.what()));
  }
}
