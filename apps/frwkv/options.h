// The command line: options that several commands share, FRWKV_* variables, and errors in one line.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "common/settings.h"
#include "common/terminal.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {

// MODEL and how to load it.
struct ModelOptions {
  std::string model, strategy, vocab, state;
  int threads = 0;
  bool deterministic = false;
  bool exact_activations = false;
  bool offline = false;
};
// For what loads without the C API; threads are the command's own business.
template <class LoadOptions>
void copy_options(const ModelOptions& from, LoadOptions& to) {
  to.strategy = from.strategy;
  to.vocab = from.vocab;
  to.state = from.state;
  to.deterministic = from.deterministic;
  to.exact_activations = from.exact_activations;
}

struct TemplateOptions {
  std::string name, think, system;
  bool used() const { return !name.empty() || !think.empty() || !system.empty(); }
};

void add_model_options(CLI::App& app, ModelOptions& options);
void add_sampling_options(CLI::App& app, Settings& settings, const char* max_tokens_help);
void add_template_options(CLI::App& app, TemplateOptions& options);

// Parses the arguments of one command. Every option gets a variable (--top-k: FRWKV_TOP_K); arguments win
// over it. False: help was asked for and printed. Throws faster_rwkv::Error (usage).
bool parse(CLI::App& app, int argc, char** argv);

// Loads with a progress bar on terminals; a model "hf:..." is downloaded if it is not in the cache. Throws
// faster_rwkv::Error.
faster_rwkv::Model load_model(const ModelOptions& options);

[[noreturn]] void usage(const std::string& message);  // throws faster_rwkv::Error, exit code 2

}  // namespace fr::app
