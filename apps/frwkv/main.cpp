// frwkv: finds the command, turns errors into one line and an exit code.
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>
#include <vector>

#include "commands.h"
#include "common/interrupt.h"
#include "common/terminal.h"
#include "common/words.h"
#include "options.h"
#include "tools_core/build_info.h"

namespace fr::app {
namespace {

struct Program {
  const char* name;
  int (*run)(int argc, char** argv);
  const char* summary;
};
constexpr Program programs[] = {
    {"chat", run_chat, "chat with a model"},
    {"generate", run_generate, "continue a text"},
    {"logits", run_logits, "run tokens, write the raw logits"},
    {"tokenize", run_tokenize, "text to token ids and back"},
    {"info", run_info, "what a model file is"},
    {"convert", run_convert, "from one file format to another"},
    {"export", run_export, "to ncnn or ONNX"},
    {"perplexity", run_perplexity, "how well a model predicts a text"},
    {"bench", run_bench, "measure speed"},
    {"pull", run_pull, "download a model from Hugging Face"},
    {"list", run_list, "the models on this machine"},
    {"doctor", run_doctor, "what this machine offers, and whether a model fits"},
};

int help() {
  std::puts("frwkv: RWKV language models, v4 to v7\n\nUsage: frwkv COMMAND [MODEL] [OPTIONS]\n");
  for (const Program& p : programs) std::printf("  %-10s %s\n", p.name, p.summary);
  std::puts(
      "  help       this text; help COMMAND: the options of a command\n"
      "\nMODEL is a model file or hf:REPO:FILE; the small model that ships when left out.\n"
      "Every option has an environment variable: --top-p is FRWKV_TOP_P. frwkv --version tells the build.");
  return FR_OK;
}

const Program* find(std::string_view name) {
  for (const Program& p : programs) {
    if (name == p.name) return &p;
  }
  return nullptr;
}

[[noreturn]] void unknown_command(const std::string& name) {
  std::vector<std::string_view> names{"help"};
  for (const Program& p : programs) names.emplace_back(p.name);
  const std::string_view meant = closest(name, names);
  usage("unknown command '" + name + "' (frwkv): " +
        (meant.empty() ? "'frwkv help' lists the commands"
                       : "did you mean 'frwkv " + std::string(meant) + "'?"));
}

int run(int argc, char** argv) {
  if (argc < 2) usage("no command given (frwkv): 'frwkv help' lists the commands");
  const std::string name = argv[1];
  if (name == "--version" || name == "version") {
    std::printf("frwkv %s\n%s\n", fr_version(), build_info().c_str());
    return FR_OK;
  }
  if (name == "help" || name == "--help" || name == "-h") {
    if (argc < 3) return help();
    const Program* program = find(argv[2]);
    if (program == nullptr) unknown_command(argv[2]);
    char option[] = "--help";
    char* arguments[] = {argv[2], option, nullptr};
    return program->run(2, arguments);
  }
  const Program* program = find(name);
  if (program == nullptr) unknown_command(name);
  return program->run(argc - 1, argv + 1);
}

}  // namespace
}  // namespace fr::app

int main(int argc, char** argv) {
  using faster_rwkv::Error;
  fr::app::catch_interrupts();
  fr::app::show_messages("frwkv");
  try {
    return fr::app::with_output_written(fr::app::run(argc, argv));
  } catch (const Error& e) {
    return fr::app::report("frwkv", e);
  } catch (const std::bad_alloc&) {
    return fr::app::report("frwkv",
                           Error(FR_ERROR_RUNTIME, "out of memory: free some, or use a smaller model"));
  } catch (const std::exception& e) {
    return fr::app::report("frwkv", Error(FR_ERROR_RUNTIME, e.what()));
  }
}
