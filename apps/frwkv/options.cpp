#include "options.h"

#include <algorithm>
#include <cstdlib>

#include "common/cpu_mask.h"
#include "common/interrupt.h"
#include "common/words.h"
#include "hub_model.h"

namespace fr::app {
namespace {

using faster_rwkv::Error;

// Options that llama.cpp's users know with one dash and several letters.
std::string long_form(const std::string& argument) {
  if (argument == "-hf") return "--hf";
  if (argument == "-sys") return "--system";
  return argument;
}

// Help without the positional said twice and without each option's variable.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(36); }
  std::string make_positionals(const CLI::App*) const override { return {}; }
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    if (positional) return option->get_name(true, false);
    std::string out;
    for (const std::string& s : option->get_snames()) out += (out.empty() ? "-" : ", -") + s;
    for (const std::string& l : option->get_lnames()) out += (out.empty() ? "--" : ", --") + l;
    return out;
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return {};  // a flag
    std::string out = " " + option->get_type_name();
    if (!option->get_default_str().empty()) out += " (" + option->get_default_str() + ")";
    return out;
  }
};

void name_variables(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || option == app.get_help_ptr()) continue;
    std::string name = "FRWKV_" + option->get_lnames().front();
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
      return c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    });
    option->envname(name);
    if (option->get_expected_max() == 1) option->take_last();  // given twice: the last one counts
  }
  for (CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) name_variables(*sub);
}

[[noreturn]] void unexpected(const CLI::App& app, const std::vector<std::string>& extras) {
  const std::string help = "see 'frwkv " + app.get_name() + " --help'";
  const auto flag = std::find_if(extras.begin(), extras.end(),
                                 [](const std::string& e) { return e.size() > 1 && e[0] == '-'; });
  if (flag == extras.end())
    usage("unexpected argument '" + extras.front() + "' (frwkv " + app.get_name() + "): " + help);
  const std::string name = flag->substr(0, flag->find('='));
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& l : option->get_lnames()) known.push_back("--" + l);
    for (const std::string& s : option->get_snames()) known.push_back("-" + s);
  }
  const std::vector<std::string_view> candidates(known.begin(), known.end());
  const std::string_view meant = closest(name, candidates);
  usage("unknown option '" + name + "' (frwkv " + app.get_name() +
        "): " + (meant.empty() ? help : "did you mean " + std::string(meant) + "?"));
}

// CLI11's message as ours: "Could not convert: --threads = x" and the like.
std::string plain(const CLI::App& app, std::string message) {
  constexpr std::string_view conversion = "Could not convert: ";
  const std::size_t equals = message.find(" = ");
  if (message.starts_with(conversion) && equals != std::string::npos) {
    const std::string name = message.substr(conversion.size(), equals - conversion.size()),
                      value = message.substr(equals + 3);
    const CLI::Option* option = app.get_option_no_throw(name);
    const char* variable = option == nullptr ? nullptr : std::getenv(option->get_envname().c_str());
    const bool from_variable = variable != nullptr && value == variable;
    return "'" + value + "' is not a value for " +
           (from_variable ? "the variable " + option->get_envname() : name);
  }
  if (message.ends_with(" missing")) return message.substr(0, message.find(':')) + " needs a value";
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message;
}

}  // namespace

void usage(const std::string& message) { throw Error(FR_ERROR_USAGE, message); }

void add_model_options(CLI::App& app, ModelOptions& o) {
  app.add_option("-m,--model,MODEL", o.model,
                 "a model file, or hf:REPO:FILE; the small model that ships when left out")
      ->type_name("FILE");
  app.add_option_function<std::string>(
         "--hf", [&o](const std::string& name) { o.model = "hf:" + name; },
         "a model on Hugging Face, like -m hf:REPO:FILE")
      ->type_name("REPO:FILE");
  app.add_option("--strategy", o.strategy,
                 "device and number format, \"cpu fp16\", \"cpu int8\", \"cpu int4\"; chosen when left out")
      ->type_name("TEXT");
  app.add_option("-t,--threads", o.threads, "threads; 0: one per core")->type_name("N");
  app.add_option_function<std::string>(
         "--cpu-mask", set_cpu_mask, "run on these processors only: bits as for taskset, 3 for the first two")
      ->type_name("HEX");
  app.add_flag("--deterministic,!--no-deterministic", o.deterministic,
               "the same numbers for any number of threads, any batch and any chunks");
  app.add_flag("--exact-activations,!--no-exact-activations", o.exact_activations,
               "inputs of matrix products stay float32, instead of 8 bits with int8 and int4 weights, bf16 "
               "with others");
  app.add_option("--state", o.state, "start from this state: a saved one or a tuned .pth")->type_name("FILE");
  app.add_flag("--offline,!--no-offline", o.offline,
               "take hf: models from the cache alone, download nothing");
  app.add_option("--vocab", o.vocab, "vocabulary, if it is not found by itself: a file, or world, 20b, abc")
      ->type_name("FILE");
}

namespace {

struct NumberOption {
  const char* names;
  double fr_sampler_params::*field;
  const char* help;
};
constexpr NumberOption number_options[] = {
    {"--temperature,--temp", &fr_sampler_params::temperature, "0: always the likeliest token"},
    {"--top-p", &fr_sampler_params::top_p, "1: off"},
    {"--min-p", &fr_sampler_params::min_p, "0: off"},
    {"--typical", &fr_sampler_params::typical_p, "1: off"},
    {"--presence-penalty", &fr_sampler_params::presence_penalty, "0: off"},
    {"--frequency-penalty", &fr_sampler_params::frequency_penalty, "0: off"},
    {"--penalty-decay", &fr_sampler_params::penalty_decay, "what is left of a penalty after each token"},
};

// What was not given is as the sampler's program has it; greedy choice is plain unless penalties were asked
// for.
void fill_defaults(const CLI::App& app, Settings& s) {
  fr_sampler_params defaults;
  faster_rwkv::check(fr_sampler_params_for(s.sampler.c_str(), &defaults));
  const auto given = [&](std::string_view names) {
    return app.get_option(std::string(names.substr(0, names.find(','))))->count() > 0;
  };
  for (const NumberOption& o : number_options) {
    if (!given(o.names)) s.params.*o.field = defaults.*o.field;
  }
  if (!given("--top-k")) s.params.top_k = defaults.top_k;
  if (s.params.temperature != 0) return;
  if (!given("--presence-penalty")) s.params.presence_penalty = 0;
  if (!given("--frequency-penalty")) s.params.frequency_penalty = 0;
}

}  // namespace

void add_sampling_options(CLI::App& app, Settings& s, const char* max_tokens_help) {
  const std::string group = "Sampling";
  app.add_option("-n,--max-tokens,--n-predict", s.max_tokens, max_tokens_help)->type_name("N")->group(group);
  for (const NumberOption& o : number_options) {
    app.add_option(o.names, s.params.*o.field, o.help)->type_name("X")->group(group)->capture_default_str();
  }
  app.add_option("--top-k", s.params.top_k, "0: off")->type_name("N")->group(group)->capture_default_str();
  app.final_callback([&app, &s] { fill_defaults(app, s); });
  app.add_option("--sampler", s.sampler, "rwkv, albatross or ai00: the rules and defaults of that program")
      ->type_name("NAME")
      ->group(group)
      ->capture_default_str();
  app.add_option_function<std::string>(
         "-s,--seed", [&s](const std::string& t) { s.seed = parse_seed(t); },
         "same seed, same text; random when left out")
      ->type_name("N")
      ->group(group);
  app.add_option("--stop,-r", s.stops, "end the text before this string; may be repeated")
      ->allow_extra_args(false)
      ->type_name("TEXT")
      ->group(group);
  app.add_option_function<std::vector<std::string>>(
         "--logit-bias",
         [&s](const std::vector<std::string>& all) {
           for (const std::string& t : all) add_logit_bias(t, s);
         },
         "add B to the logit of token ID; ID=-inf bans it; may be repeated")
      ->allow_extra_args(false)
      ->type_name("ID=B")
      ->group(group);
}

void add_template_options(CLI::App& app, TemplateOptions& o) {
  app.add_option("--template", o.name, std::string("chat template: auto, ") + fr_template_names())
      ->type_name("NAME");
  app.add_option("--think", o.think, "off, fast, on, low, medium, high: reasoning before the answer")
      ->type_name("MODE");
  app.add_option("--system", o.system, "system text at the start")->type_name("TEXT");
}

bool parse(CLI::App& app, int argc, char** argv) {
  name_variables(app);
  app.allow_extras();
  std::vector<std::string> arguments;  // last first, as CLI11 wants them
  for (int i = argc - 1; i >= 1; --i) arguments.push_back(long_form(argv[i]));
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    app.formatter(std::make_shared<HelpFormatter>());
    app.footer("Every option has an environment variable: --top-p is FRWKV_TOP_P.");
    std::fputs(app.help("frwkv").c_str(), stdout);
    return false;
  } catch (const CLI::ParseError& e) {
    if (!app.remaining().empty()) unexpected(app, app.remaining());
    usage(plain(app, e.what()) + " (frwkv " + app.get_name() + "): see 'frwkv " + app.get_name() +
          " --help'");
  }
  if (!app.remaining().empty()) unexpected(app, app.remaining());
  return true;
}

faster_rwkv::Model load_model(const ModelOptions& o) {
  if (o.threads < 0)
    usage(std::to_string(o.threads) + " threads (--threads): give 1 or more, or 0 for one per core");
  const std::string path = model_path(o.model, o.offline);
  ProgressBar bar;
  fr_load_options options = fr_load_options_default();
  const auto or_null = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
  options.strategy = or_null(o.strategy);
  options.vocab = or_null(o.vocab);
  options.state = or_null(o.state);
  options.threads = o.threads;
  options.deterministic = o.deterministic ? 1 : 0;
  options.exact_activations = o.exact_activations ? 1 : 0;
  options.progress = &ProgressBar::callback;
  options.user = &bar;
  return faster_rwkv::Model(path, options);
}

}  // namespace fr::app
