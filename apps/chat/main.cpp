// chat TOKENIZER MODEL "STRATEGY" [STATE]: the chat of the first faster-rwkv, same arguments.
#include <cstdio>
#include <exception>
#include <string_view>

#include "common/history_file.h"
#include "common/interrupt.h"
#include "common/repl.h"
#include "common/terminal.h"
#include "faster_rwkv/fr.hpp"

namespace {

using faster_rwkv::Error;

constexpr const char* usage_line = "chat TOKENIZER MODEL \"STRATEGY\" [STATE]";

faster_rwkv::Model load(int argc, char** argv) {
  fr::app::ProgressBar bar;
  fr_load_options options = fr_load_options_default();
  options.vocab = argv[1];
  options.strategy = argv[3];
  options.state = argc > 4 ? argv[4] : nullptr;
  options.progress = &fr::app::ProgressBar::callback;
  options.user = &bar;
  return faster_rwkv::Model(argv[2], options);
}

int run(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "--help" || first == "-h") {
    std::printf(
        "Usage: %s\nThe same as: frwkv chat MODEL --vocab TOKENIZER --strategy \"STRATEGY\" --state STATE\n",
        usage_line);
    return FR_OK;
  }
  if (argc < 4 || argc > 5)
    throw Error(FR_ERROR_USAGE, std::string("wrong number of arguments (chat): use ") + usage_line);
  fr::app::ChatSetup setup;
  setup.history_file = fr::app::default_history_file();
  return fr::app::run_repl(load(argc, argv), setup);
}

}  // namespace

int main(int argc, char** argv) {
  fr::app::catch_interrupts();
  fr::app::show_messages("chat");
  try {
    return fr::app::with_output_written(run(argc, argv));
  } catch (const Error& e) {
    return fr::app::report("chat", e);
  } catch (const std::exception& e) {
    return fr::app::report("chat", Error(FR_ERROR_RUNTIME, e.what()));
  }
}
