// frwkv tokenize: bytes to a JSON array of token ids, and back.
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/files.h"
#include "hub_model.h"
#include "options.h"
#include "token_list.h"

namespace fr::app {
namespace {

using faster_rwkv::Tokenizer;

// The vocabulary that a model would use, without loading its weights.
Tokenizer tokenizer_of(const std::string& model) {
  const auto info = nlohmann::json::parse(faster_rwkv::file_info_json(model));
  const auto name = info.find("tokenizer");  // a path, "World (built in)" or the like, or null
  if (name == info.end() || !name->is_string())
    usage("this model's vocabulary is not known (" + model + "): give it with --vocab");
  const auto path = name->get<std::string>();
  if (path == "World (built in)") return Tokenizer::load("");
  return Tokenizer::load(path == "20B (built in)" ? "20b" : path);
}

}  // namespace

int run_tokenize(int argc, char** argv) {
  CLI::App app("Turn the bytes of standard input into a JSON array of token ids, or back.", "tokenize");
  std::string vocab, model;
  bool decode = false;
  app.add_option("--vocab", vocab, "vocabulary file, or world (when left out), 20b or abc")
      ->type_name("FILE");
  app.add_option("-m,--model,MODEL", model, "use the vocabulary of this model file")->type_name("FILE");
  app.add_flag("-d,--decode", decode, "a JSON array of ids on standard input, bytes on standard output");
  if (!parse(app, argc, argv)) return FR_OK;
  if (!vocab.empty() && !model.empty())
    usage("both --vocab and --model were given (frwkv tokenize): give one");

  const Tokenizer tokenizer = model.empty() ? Tokenizer::load(vocab) : tokenizer_of(model_path(model, false));
  const std::string input = read_stdin();
  if (decode) {
    const std::string text = tokenizer.decode(parse_token_json(input, "standard input"));
    std::fwrite(text.data(), 1, text.size(), stdout);
    return FR_OK;
  }
  std::string line = "[";
  for (const std::int32_t id : tokenizer.encode(input))
    line += (line.size() > 1 ? "," : "") + std::to_string(id);
  std::puts((line + "]").c_str());
  return FR_OK;
}

}  // namespace fr::app
