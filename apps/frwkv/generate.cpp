// frwkv generate: writes the continuation of a prompt to standard output, nothing else.
#include <chrono>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/files.h"
#include "common/interrupt.h"
#include "options.h"

namespace fr::app {
namespace {

using faster_rwkv::Generation;
using faster_rwkv::Model;
using Json = nlohmann::ordered_json;

struct Arguments {
  ModelOptions model;
  TemplateOptions chat_template;
  Settings settings;
  std::string prompt, file;
  bool has_prompt = false, json = false;
};

bool parse_arguments(Arguments& a, int argc, char** argv) {
  CLI::App app(
      "Continue a text. The prompt is -p, -f or standard input, as it is; with a template it is one chat "
      "message.",
      "generate");
  add_model_options(app, a.model);
  a.settings.max_tokens = fr_generate_options_default().max_tokens;
  const CLI::Option* prompt =
      app.add_option("-p,--prompt", a.prompt, "the prompt; - is standard input")->type_name("TEXT");
  app.add_option("-f,--file", a.file, "a file that holds the prompt (a newline at its end does not count)")
      ->type_name("FILE");
  app.add_flag("--json", a.json, "one JSON object with text, tokens and timings");
  add_template_options(app, a.chat_template);
  add_sampling_options(app, a.settings, "most tokens to write (256); -1: no limit");
  if (!parse(app, argc, argv)) return false;
  a.has_prompt = prompt->count() > 0;
  if (a.has_prompt && !a.file.empty())
    usage("both --prompt and --file were given (frwkv generate): give one");
  return true;
}

// A file or pipe usually ends with a newline that is no part of the text.
std::string without_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::string read_prompt(const Arguments& a) {
  if (!a.file.empty()) return without_newline(read_file(a.file, "the prompt"));
  if (a.has_prompt && a.prompt != "-") return a.prompt;
  if (!a.has_prompt && is_terminal(stdin))
    usage("no prompt (frwkv generate): give -p TEXT, -f FILE or a pipe");
  return without_newline(read_stdin());
}

Generation run_model(const Model& model, const Arguments& a, const std::string& prompt, std::uint64_t seed,
                     const faster_rwkv::OnText& on_text) {
  faster_rwkv::Sampler sampler(model, a.settings.sampler_params(seed));
  std::vector<const char*> stops;
  fr_generate_options options = a.settings.generate_options(stops);
  if (a.chat_template.used()) {
    if (prompt.find('\0') != std::string::npos)
      usage("the prompt holds a zero byte (frwkv generate): send text");
    const auto or_null = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    const TemplateOptions& t = a.chat_template;
    faster_rwkv::Chat chat(model, {or_null(t.name), or_null(t.think), or_null(t.system)});
    options.think_visible = 1;
    return chat.send(prompt, sampler, options, on_text);
  }
  if (!model.tokenizer())
    usage("this model's vocabulary is not known (" + std::string(model.info().path) +
          "): give it with --vocab");
  std::vector<std::int32_t> tokens = model.tokenizer().encode(prompt);
  if (tokens.empty()) tokens.push_back(0);  // the beginning of a text
  faster_rwkv::State state(model);
  const std::uint64_t begin = state.tokens_seen();
  ProgressBar bar;
  return faster_rwkv::generate(model, state, tokens, sampler, options, [&](std::string_view piece) {
    const std::uint64_t fed = state.tokens_seen() - begin;
    if (fed < tokens.size())
      bar.show("reading the prompt", fed, tokens.size(), false);
    else
      bar.clear();
    return on_text(piece);
  });
}

double per_second(int n, double seconds) { return seconds > 0 ? n / seconds : 0; }

Json describe(const Model& model, const Generation& g, std::uint64_t seed, double load_seconds) {
  constexpr const char* reasons[] = {"length", "stop", "cancelled"};
  const fr_generate_result& r = g.result;
  const fr_model_info i = model.info();
  Json out;
  out["text"] = g.text;
  out["tokens"] = std::vector<std::int32_t>(r.tokens, r.tokens + r.n_tokens);
  out["finish_reason"] = reasons[r.finish];
  out["prompt_tokens"] = r.n_prompt;
  out["generated_tokens"] = r.n_generated;
  out["seed"] = seed;
  out["timings"] = {{"load_seconds", load_seconds},
                    {"prompt_seconds", r.prompt_seconds},
                    {"generate_seconds", r.generate_seconds},
                    {"prompt_tokens_per_second", per_second(r.n_prompt, r.prompt_seconds)},
                    {"generated_tokens_per_second", per_second(r.n_generated, r.generate_seconds)}};
  out["model"] = {{"path", i.path},         {"version", i.version}, {"format", i.format},
                  {"strategy", i.strategy}, {"device", i.devices},  {"n_parameters", i.n_parameters}};
  return out;
}

}  // namespace

int run_generate(int argc, char** argv) {
  Arguments a;
  if (!parse_arguments(a, argc, argv)) return FR_OK;
  const std::string prompt = read_prompt(a);
  const auto start = std::chrono::steady_clock::now();
  const Model model = load_model(a.model);
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;

  const std::uint64_t seed = a.settings.seed.value_or(random_seed());
  const bool to_terminal = is_terminal(stdout);
  const auto on_text = [&](std::string_view piece) {
    if (!a.json && !piece.empty()) {
      const std::string shown = to_terminal ? printable(piece) : std::string(piece);
      std::fwrite(shown.data(), 1, shown.size(), stdout);
      std::fflush(stdout);
    }
    return !interrupted();
  };
  const Generation g = run_model(model, a, prompt, seed, on_text);
  if (a.json)
    std::puts(
        describe(model, g, seed, load.count()).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else if (to_terminal)
    std::putchar('\n');
  return g.result.finish == FR_FINISH_CANCELLED ? FR_INTERRUPTED : FR_OK;
}

}  // namespace fr::app
