// frwkv logits: runs tokens and writes raw little-endian float32 logits, one row of n_vocab per wanted token.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "commands.h"
#include "common/files.h"
#include "common/interrupt.h"
#include "options.h"
#include "token_list.h"

namespace fr::app {
namespace {

using faster_rwkv::Error;
using faster_rwkv::Model;

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

struct Arguments {
  ModelOptions model;
  std::string tokens, tokens_file, state_in, state_out, out;
  bool all = false;
  int chunk = 0;
};

bool parse_arguments(Arguments& a, int argc, char** argv) {
  CLI::App app("Run tokens through a model and write the logits as raw little-endian float32 rows.",
               "logits");
  add_model_options(app, a.model);
  app.add_option("--tokens", a.tokens, "token ids with commas between them")->type_name("1,2,3");
  app.add_option("--tokens-file", a.tokens_file, "a file with a JSON array of token ids; - is standard input")
      ->type_name("FILE");
  app.add_flag("--all", a.all, "one row for every token, not only for the last");
  app.add_option("--chunk", a.chunk, "run N tokens at a time; 0: chosen")->type_name("N");
  app.add_option("--state-in", a.state_in, "start from this state: a saved one or a tuned .pth")
      ->type_name("FILE");
  app.add_option("--state-out", a.state_out, "write the state after the last token")->type_name("FILE");
  app.add_option("-o,--output", a.out, "write here instead of standard output")->type_name("FILE");
  if (!parse(app, argc, argv)) return false;
  if (!a.model.state.empty() && !a.state_in.empty())
    usage("both --state and --state-in were given (frwkv logits): give one");
  if (!a.out.empty() && a.out == a.state_out)
    usage("the logits and the state are one file (" + a.out + "): name two");
  if (a.chunk < 0) usage("chunks of " + std::to_string(a.chunk) + " tokens (--chunk): give 1 or more");
  return true;
}

std::vector<std::int32_t> read_tokens(const Arguments& a) {
  if (a.tokens.empty() == a.tokens_file.empty())
    usage("give either --tokens or --tokens-file (frwkv logits)");
  if (!a.tokens.empty()) return parse_token_list(a.tokens);
  const bool piped = a.tokens_file == "-";
  return parse_token_json(piped ? read_stdin() : read_file(a.tokens_file, "the tokens"),
                          piped ? "standard input" : a.tokens_file);
}

void check_tokens(const std::vector<std::int32_t>& tokens, int n_vocab) {
  if (tokens.empty()) usage("no tokens (frwkv logits): give at least one");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= n_vocab) {
      usage("token id " + std::to_string(tokens[i]) + " at position " + std::to_string(i) +
            " is outside the vocabulary of " + std::to_string(n_vocab) +
            " (frwkv logits): ids go from 0 to " + std::to_string(n_vocab - 1));
    }
  }
}

struct Output {
  explicit Output(const std::string& path)
      : file(path.empty() ? stdout : std::fopen(path.c_str(), "wb")), name(path) {
    if (file == nullptr)
      throw Error(FR_ERROR_RUNTIME, "cannot write the logits (" + path + "): " + std::strerror(errno));
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() {
    if (file != stdout) std::fclose(file);
  }
  void write(const std::vector<float>& rows) {
    if (std::fwrite(rows.data(), sizeof(float), rows.size(), file) != rows.size() || std::fflush(file) != 0) {
      throw Error(FR_ERROR_RUNTIME, "cannot write the logits (" + (name.empty() ? "standard output" : name) +
                                        "): " + std::strerror(errno));
    }
  }
  std::FILE* file;
  std::string name;
};

// Rows of one chunk stay below 32 MiB.
std::size_t chunk_size(const Arguments& a, int n_vocab) {
  if (a.chunk > 0) return static_cast<std::size_t>(a.chunk);
  constexpr std::size_t most = 256, budget = std::size_t{32} << 20;
  return a.all
             ? std::clamp<std::size_t>(budget / (static_cast<std::size_t>(n_vocab) * sizeof(float)), 1, most)
             : most;
}

}  // namespace

int run_logits(int argc, char** argv) {
  Arguments a;
  if (!parse_arguments(a, argc, argv)) return FR_OK;
  if (a.out.empty() && is_terminal(stdout)) usage("logits are binary (frwkv logits): give -o FILE or a pipe");
  const std::vector<std::int32_t> tokens = read_tokens(a);
  const Model model = load_model(a.model);
  check_tokens(tokens, model.info().n_vocab);
  faster_rwkv::State state(model);
  if (!a.state_in.empty()) state.load(a.state_in);

  refuse_overwriting(a.out, model.info().path);
  refuse_overwriting(a.state_out, model.info().path);
  Output out(a.out);
  ProgressBar bar;
  const std::size_t chunk = chunk_size(a, model.info().n_vocab);
  for (std::size_t at = 0; at < tokens.size(); at += chunk) {
    if (interrupted()) return FR_INTERRUPTED;
    bar.show("running", at, tokens.size(), false);
    const std::size_t end = std::min(at + chunk, tokens.size());
    const std::vector<std::int32_t> part(tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                         tokens.begin() + static_cast<std::ptrdiff_t>(end));
    const fr_want want = a.all ? FR_WANT_ALL : end == tokens.size() ? FR_WANT_LAST : FR_WANT_NONE;
    out.write(faster_rwkv::step(model, state, part, want));
  }
  if (!a.state_out.empty()) state.save(a.state_out);
  return FR_OK;
}

}  // namespace fr::app
