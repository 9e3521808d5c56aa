#include "common/session.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "common/files.h"
#include "common/interrupt.h"
#include "common/reply_printer.h"
#include "common/terminal.h"
#include "common/words.h"

namespace fr::app {
namespace {

using faster_rwkv::Chat;
using faster_rwkv::Error;
using faster_rwkv::Generation;
using faster_rwkv::OnText;
using faster_rwkv::Sampler;

constexpr int default_max_tokens = 2048;

[[noreturn]] void usage(const std::string& message) { throw Error(FR_ERROR_USAGE, message); }

void check_text(const std::string& text) {
  if (text.find('\0') != std::string::npos) usage("the message holds a zero byte: send text");
}

std::string turns(int n) { return std::to_string(n) + (n == 1 ? " turn" : " turns"); }

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

// A file that is removed when this goes out of scope.
struct TemporaryFile {
  TemporaryFile() {
    path = (std::filesystem::temp_directory_path() / "frwkv-XXXXXX").string();
    const int fd = ::mkstemp(path.data());
    if (fd < 0)
      throw Error(FR_ERROR_RUNTIME, "cannot make a temporary file (" + path + "): set TMPDIR to a folder");
    ::close(fd);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::unlink(path.c_str()); }
  std::string path;
};

}  // namespace

Session::Session(const faster_rwkv::Model& model, const ChatSetup& setup, const Screen& screen)
    : model_(model),
      settings_(setup.settings),
      template_name_(setup.template_name),
      think_(setup.think),
      system_(setup.system),
      screen_(screen),
      show_think_(screen.interactive),
      seed_(settings_.seed.value_or(random_seed())) {
  if (settings_.max_tokens == 0) settings_.max_tokens = default_max_tokens;
  Sampler(model_, settings_.sampler_params(seed_));  // wrong settings are reported at the start
  chats_.emplace(current_, new_chat());
}

Chat Session::new_chat() const {
  return Chat(model_, {or_null(template_name_), or_null(think_), or_null(system_)});
}

void Session::note(const std::string& line) {
  std::fprintf(screen_.notes, screen_.styled ? "\033[2m%s\033[0m\n" : "%s\n", printable(line).c_str());
  std::fflush(screen_.notes);
}

void Session::greet() {
  const fr_model_info i = model_.info();
  note(std::filesystem::path(i.path).filename().string() + ": RWKV-" + i.version + ", " +
       count(static_cast<double>(i.n_parameters)) + " parameters, " + i.devices + "; template " +
       chat().template_name() + ", think " + chat().think());
  if (i.is_demo) {
    note(
        "This is a demo model of 9M parameters: it tells little stories and knows nothing. For a real one, "
        "download a");
    note("released model (huggingface.co/BlinkDL, e.g. rwkv7-g1) and run: frwkv chat path/to/model.pth");
  }
  if (screen_.interactive) note("/help lists the commands, Ctrl-D leaves.");
}

bool Session::run(const Input& input) {
  if (const std::string error = argument_error(input); !error.empty()) usage(error);
  if (talk(input) || manage(input)) return true;
  switch (input.verb) {
    case Verb::help:
      std::fputs(help_text().c_str(), screen_.notes);
      break;
    case Verb::set:
      input.argument.empty() ? list_settings() : set(input.argument);
      break;
    case Verb::show:
      show();
      break;
    case Verb::stats:
      stats();
      break;
    case Verb::quit:
      return false;
    default:
      usage(unknown_command(input.name));
  }
  return true;
}

// Inputs that the model answers.
bool Session::talk(const Input& input) {
  const std::string& text = input.argument;
  switch (input.verb) {
    case Verb::say:
      say(text);
      return true;
    case Verb::read:
      say(read_file(expand_home(text), "the message"));
      return true;
    case Verb::retry:
      last_was_free_ = false;
      reply(settings_, [&](auto&... a) { return chat().retry(a...); });
      return true;
    case Verb::carry_on:
      carry_on();
      return true;
    case Verb::generate:
      free_text(unescape(text), "plain", {});
      return true;
    case Verb::instruct:
      free_text(unescape(text), "raven-instruct", {});
      return true;
    case Verb::answer:
      free_text(unescape(text), template_name_.c_str(), {});
      return true;
    case Verb::question:
      free_text("Q: " + unescape(text) + "\n\nA:", "plain", {"\n\nQ:", "\n\nUser:"});
      return true;
    case Verb::retry_free:
      retry_free();
      return true;
    default:
      return false;
  }
}

// What is done with the conversation as a whole.
bool Session::manage(const Input& input) {
  const std::string& text = input.argument;
  switch (input.verb) {
    case Verb::reset:
      start_anew();
      return true;
    case Verb::undo:
      chat().undo();
      note("The last turn is forgotten.");
      return true;
    case Verb::fork:
      fork(text);
      return true;
    case Verb::forks:
      list_forks();
      return true;
    case Verb::switch_fork:
      switch_to(text);
      return true;
    case Verb::save:
      refuse_overwriting(expand_home(text), model_.info().path);
      chat().save(expand_home(text));
      note("Saved: " + text);
      return true;
    case Verb::load:
      chat().load(expand_home(text));
      note("Loaded: " + text);
      return true;
    case Verb::system:
      system_ = text;
      opening_.clear();
      start_anew();
      return true;
    case Verb::prompt:
      opening_ = read_file(expand_home(text), "the prompt");
      system_.clear();
      start_anew();
      return true;
    default:
      return false;
  }
}

// ---- replies

void Session::reply(const Settings& settings, const Draw& draw) {
  Sampler sampler(model_, settings.sampler_params(seed_ + replies_++));
  std::vector<const char*> stops;
  fr_generate_options options = settings.generate_options(stops);
  options.think_visible = show_think_ ? 1 : 0;
  ReplyPrinter printer(screen_.replies, is_terminal(screen_.replies), screen_.styled && show_think_);
  const OnText on_text = [&](std::string_view piece) {
    printer.add(piece);
    return !interrupted();
  };
  const Generation g = draw(sampler, options, on_text);
  printer.finish();
  last_ = g.result;
  last_.tokens = nullptr;
  last_.n_tokens = 0;
  if (g.result.finish == FR_FINISH_CANCELLED) {
    if (!screen_.interactive) throw Error(FR_INTERRUPTED, "interrupted");
    note(last_was_free_ ? "(stopped: +++ goes on, ++ begins again)"
                        : "(stopped: /continue goes on, /undo forgets it)");
  } else if (g.result.finish == FR_FINISH_LENGTH && screen_.interactive) {
    note("(" + std::to_string(settings.max_tokens) + " tokens: " + (last_was_free_ ? "+++" : "/continue") +
         " goes on, /set max_tokens N allows more)");
  }
  if (verbose_) stats();
}

void Session::say(std::string message) {
  check_text(message);
  Settings once = settings_;
  take_inline_settings(message, once);
  last_was_free_ = false;
  reply(once, [&](auto&... a) { return chat().send(message, a...); });
}

void Session::free_text(std::string text, const char* template_name, std::vector<std::string> stops) {
  check_text(text);
  Settings once = settings_;
  take_inline_settings(text, once);
  once.stops.insert(once.stops.end(), stops.begin(), stops.end());
  const bool like_chat = template_name == template_name_;
  free_.emplace(model_, fr_chat_options{template_name, like_chat ? or_null(think_) : nullptr,
                                        like_chat ? or_null(system_) : nullptr});
  free_stops_ = std::move(stops);
  last_was_free_ = true;
  reply(once, [&](auto&... a) { return free_->send(text, a...); });
}

void Session::retry_free() {
  if (!free_) usage("there is no free generation to repeat (++): begin with +gen, +i, +qa or +qq");
  Settings once = settings_;
  once.stops.insert(once.stops.end(), free_stops_.begin(), free_stops_.end());
  last_was_free_ = true;
  reply(once, [&](auto&... a) { return free_->retry(a...); });
}

void Session::carry_on() {
  Settings once = settings_;
  if (last_was_free_) once.stops.insert(once.stops.end(), free_stops_.begin(), free_stops_.end());
  reply(once, [&](auto&... a) { return (last_was_free_ ? *free_ : chat()).resume(a...); });
}

// ---- the conversation and its copies

void Session::start_anew() {
  chat().set_options({or_null(template_name_), or_null(think_), or_null(system_)});
  feed_opening();
  last_was_free_ = false;
  note("A new conversation begins.");
}

// The text of +prompt: a state that has read it becomes the conversation's.
void Session::feed_opening() {
  if (opening_.empty()) return;
  faster_rwkv::State state(model_);
  faster_rwkv::step(model_, state, model_.tokenizer().encode(opening_), FR_WANT_NONE);
  const TemporaryFile file;
  state.save(file.path);
  chat().load(file.path);
}

void Session::fork(std::string name) {
  for (int i = 2; name.empty(); ++i) {
    const std::string free_name = std::to_string(i);
    if (!chats_.contains(free_name)) name = free_name;
  }
  if (chats_.contains(name)) usage("there is a copy named '" + name + "' already (/fork): use another name");
  chats_.emplace(name, chat().fork());
  note("Now in copy '" + name + "'; /switch " + current_ + " goes back.");
  current_ = name;
}

void Session::list_forks() {
  for (const auto& [name, c] : chats_) {
    note((name == current_ ? "* " : "  ") + name + ": " + turns(c.turns()));
  }
}

void Session::switch_to(const std::string& name) {
  if (!chats_.contains(name)) usage("there is no copy named '" + name + "' (/switch): /forks lists them");
  current_ = name;
  last_was_free_ = false;
  note("Now in copy '" + name + "', " + turns(chat().turns()) + ".");
}

// ---- settings and numbers

void Session::set(const std::string& argument) {
  const std::size_t space = std::min(argument.find_first_of(" \t"), argument.size());
  std::string name = lower(argument.substr(0, space));
  const std::string value(trim(argument.substr(space)));
  if (value.empty()) usage("/set " + name + " needs a value: /set alone lists the settings");
  if (name == "template" || name == "think") return set_style(name, value);
  if (name == "show_think") {
    show_think_ = parse_switch(name, value);
  } else if (name == "verbose") {
    verbose_ = parse_switch(name, value);
  } else {
    Settings changed = settings_;
    if (!changed.set(name, value)) {
      std::vector<NamedValue> known = fr::app::list_settings(settings_);
      std::vector<std::string_view> names{"template", "think", "show_think", "verbose"};
      for (const NamedValue& k : known) names.push_back(k.name);
      const std::string_view meant = closest(name, names);
      usage("unknown setting '" + name + "' (/set): " +
            (meant.empty() ? "/set alone lists them" : "did you mean " + std::string(meant) + "?"));
    }
    Sampler(model_, changed.sampler_params(0));  // refuses values out of range
    if (changed.seed != settings_.seed) {
      seed_ = changed.seed.value_or(random_seed());
      replies_ = 0;
    }
    settings_ = std::move(changed);
  }
  note(name + " = " + value);
}

void Session::set_style(const std::string& name, const std::string& value) {
  const std::string old_template = template_name_, old_think = think_;
  (name == "think" ? think_ : template_name_) = value;
  if (name == "template") think_.clear();
  try {
    start_anew();
  } catch (const Error&) {
    template_name_ = old_template;
    think_ = old_think;
    throw;
  }
  note("template = " + chat().template_name() + ", think = " + chat().think());
}

void Session::list_settings() {
  for (const NamedValue& s : fr::app::list_settings(settings_))
    note("  " + std::string(s.name) + " = " + s.value);
  note("  template = " + chat().template_name());
  note("  think = " + chat().think());
  note(std::string("  show_think = ") + (show_think_ ? "on" : "off"));
  note(std::string("  verbose = ") + (verbose_ ? "on" : "off"));
}

void Session::show() {
  const fr_model_info i = model_.info();
  note("model: " + std::string(i.path) + " (" + i.format + ", " + i.dtype + ")");
  note("RWKV-" + std::string(i.version) + ": " + count(static_cast<double>(i.n_parameters)) +
       " parameters, " + std::to_string(i.n_layer) + " layers of " + std::to_string(i.n_embd) +
       ", vocabulary " + std::to_string(i.n_vocab));
  note("device: " + std::string(i.devices) + "; weights " +
       bytes(static_cast<std::uint64_t>(i.weight_bytes)) + " + " +
       bytes(static_cast<std::uint64_t>(i.mapped_bytes)) + " used in place; a state is " +
       bytes(static_cast<std::uint64_t>(i.state_size) * sizeof(float)));
  note("templates: " + std::string(fr_template_names()));
  if (!system_.empty()) note("system: " + system_);
  list_settings();
}

void Session::stats() {
  if (last_.n_prompt == 0) return note("No reply yet.");
  const auto speed = [](int n, double seconds) {
    char out[64];
    std::snprintf(out, sizeof out, "%d tokens in %.2f s (%.1f tokens/s)", n, seconds,
                  seconds > 0 ? n / seconds : 0.0);
    return std::string(out);
  };
  note("prompt: " + speed(last_.n_prompt, last_.prompt_seconds) +
       "; reply: " + speed(last_.n_generated, last_.generate_seconds) +
       "; conversation: " + turns(chat().turns()) + ", " + std::to_string(chat().tokens_seen()) + " tokens");
}

}  // namespace fr::app
