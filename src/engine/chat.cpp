#include "engine/chat.h"

#include <utility>

#include "engine/state_file.h"

namespace fr {

const ChatTemplate& guess_chat_template(const Engine& engine) {
  const ModelInfo& info = engine.info();
  return *guess_chat_template(engine.path(), info.n_vocab, info.version[0] - '0').chat;
}

std::string_view think_name(Think think) {
  constexpr std::string_view names[kThinkModes] = {"off", "fast", "on", "low", "medium", "high"};
  return names[static_cast<std::size_t>(think)];
}

Think default_think(const ChatTemplate& t) { return t.thinks ? Think::fast : Think::off; }

Result<ChatStyle> resolve_style(const ChatOptions& options, const ChatTemplate& guess) {
  ChatStyle style{&guess, Think::off};
  if (!options.template_name.empty() && options.template_name != "auto") {
    FR_TRY(style.chat, find_chat_template(options.template_name));
  }
  style.think = default_think(*style.chat);
  if (options.think.empty()) return style;
  FR_TRY(style.think, parse_think(options.think));
  if (style.think != Think::off && !style.chat->thinks) {
    return usage_error("the chat template " + std::string(style.chat->name) + " has no think mode (" +
                       options.think + "): use \"off\", or a template that thinks, e.g. g1");
  }
  return style;
}

Result<Chat> Chat::make(std::shared_ptr<Engine> engine, const ChatOptions& options) {
  if (!engine->tokenizer()) {
    return usage_error("this model's vocabulary is not known (" + engine->path() + "): give it with --vocab");
  }
  FR_TRY(State state, State::make(engine));
  Chat chat(std::move(engine), std::move(state));
  FR_OK(chat.set_options(options));
  return chat;
}

Status Chat::set_options(const ChatOptions& options) {
  FR_TRY(style_, resolve_style(options, guess_chat_template(*engine_)));
  system_ = options.system;
  start();
  return {};
}

void Chat::start() {
  state_.reset();
  turns_.clear();
  n_turns_ = 0;
  unfed_ = -1;
  reader_.reset();
  fresh_ = true;
  after_system_ = !system_.empty();
  owed_ = system_.empty() ? std::string{} : style_.chat->system(system_);
}

Status Chat::reset() {
  start();
  return {};
}

Result<Chat::Position> Chat::position() const {
  FR_TRY(State copy, state_.clone());
  return Position{std::move(copy), owed_, fresh_, after_system_};
}

Status Chat::go_back(const Position& position) {
  state_.copy_from(position.state);
  owed_ = position.owed;
  fresh_ = position.fresh;
  after_system_ = position.after_system;
  unfed_ = -1;
  reader_.reset();
  return {};
}

// When the template thought in the last turn: the conversation goes on from the state before that turn, and
// the turn is owed as it reads without reasoning.
Status Chat::drop_thoughts() {
  if (turns_.empty() || style_.think == Think::off || !reader_) return {};
  Turn& turn = turns_.back();
  FR_OK(go_back(turn.before));
  owed_ += style_.chat->user(turn.user, Think::off, after_system_) + style_.chat->reply(turn.answer);
  after_system_ = false;
  return {};
}

// What the caller is shown of a piece of the reply; the turn remembers all of it.
std::string Chat::show(ReplyReader::Piece piece, bool think_visible) {
  Turn& turn = turns_.back();
  std::string shown;
  if (think_visible && !piece.thoughts.empty())
    shown = (turn.thoughts.empty() ? "<think>" : "") + piece.thoughts;
  turn.thoughts += piece.thoughts;
  if (piece.answer.empty()) return shown;
  if (think_visible && !turn.thoughts.empty() && turn.answer.empty()) shown += "</think>\n\n";
  turn.answer += piece.answer;
  return shown + piece.answer;
}

Result<Generation> Chat::reply(const std::string& prompt, Sampler& sampler, GenerateOptions options,
                               bool think_visible, const OnText& on_text) {
  FR_TRY(std::vector<std::int32_t> tokens, engine_->tokenizer()->encode(prompt));
  if (unfed_ >= 0) tokens.insert(tokens.begin(), unfed_);
  if (fresh_ && (style_.chat->leading_zero || tokens.empty())) tokens.insert(tokens.begin(), kEndOfText);
  for (std::string& stop : style_.chat->stops(style_.think)) options.stops.push_back(std::move(stop));
  options.leave_last = true;
  const std::size_t answered = turns_.back().answer.size();
  const auto on_piece = [&](std::string_view text) {
    const std::string shown = show(reader_->push(text), think_visible);
    return !on_text || on_text(shown);
  };
  FR_TRY(Generation g, generate(state_, tokens, sampler, options, on_piece));
  const bool open = g.finish != Finish::stop;
  if (!open) {
    const std::string rest = show(reader_->finish(), think_visible);
    if (!rest.empty() && on_text) on_text(rest);
  }
  unfed_ = open && !g.tokens.empty() ? g.tokens.back() : -1;
  fresh_ = after_system_ = false;
  owed_ = style_.chat->separator;
  g.text = turns_.back().answer.substr(answered);
  return g;
}

Result<Generation> Chat::send(std::string_view user, Sampler& sampler, GenerateOptions options,
                              bool think_visible, const OnText& on_text) {
  FR_OK(drop_thoughts());
  if (unfed_ >= 0) {  // an open reply ends here
    const SequenceInput input{&state_, {&unfed_, 1}, Want::none};
    FR_OK(engine_->step({&input, 1}, {}));
    unfed_ = -1;
  }
  FR_TRY(Position before, position());
  const std::string prompt =
      owed_ + style_.chat->user(user, style_.think, after_system_) + style_.chat->open_reply(style_.think);
  turns_.push_back({std::move(before), std::string(user), {}, {}});
  reader_.emplace(*style_.chat, style_.think);
  ++n_turns_;
  auto result = reply(prompt, sampler, std::move(options), think_visible, on_text);
  // An error, or a cancellation before the reply began, takes the turn back.
  if (!result || (result->finish == Finish::cancelled && result->n_generated == 0)) FR_OK(undo());
  if (turns_.size() > max_snapshots) turns_.pop_front();
  return result;
}

Result<Generation> Chat::retry(Sampler& sampler, GenerateOptions options, bool think_visible,
                               const OnText& on_text) {
  if (turns_.empty()) return usage_error("there is no turn to repeat (retry): say something first");
  const std::string user = turns_.back().user;
  FR_OK(undo());
  return send(user, sampler, std::move(options), think_visible, on_text);
}

Result<Generation> Chat::resume(Sampler& sampler, GenerateOptions options, bool think_visible,
                                const OnText& on_text) {
  if (turns_.empty() || unfed_ < 0) {
    return usage_error(
        "there is no unfinished reply (continue): it goes on only after a limit or an interruption");
  }
  return reply({}, sampler, std::move(options), think_visible, on_text);
}

Status Chat::undo() {
  if (turns_.empty())
    return usage_error("there is no turn to take back (undo): the last " + std::to_string(max_snapshots) +
                       " are kept");
  FR_OK(go_back(turns_.back().before));
  turns_.pop_back();
  --n_turns_;
  return {};
}

Result<Chat> Chat::fork() const {
  FR_TRY(State copy, state_.clone());
  Chat chat(engine_, std::move(copy));
  chat.style_ = style_;
  chat.system_ = system_;
  chat.owed_ = owed_;
  chat.fresh_ = fresh_;
  chat.after_system_ = after_system_;
  chat.unfed_ = unfed_;
  chat.reader_ = reader_;
  chat.n_turns_ = n_turns_;
  for (const Turn& t : turns_) {
    FR_TRY(State before, t.before.state.clone());
    chat.turns_.push_back({{std::move(before), t.before.owed, t.before.fresh, t.before.after_system},
                           t.user,
                           t.thoughts,
                           t.answer});
  }
  return chat;
}

Status Chat::save(const std::string& path) {
  FR_OK(drop_thoughts());
  std::map<std::string, std::string> extra{{"chat.template", std::string(style_.chat->name)},
                                           {"chat.think", std::string(think_name(style_.think))},
                                           {"chat.owed", owed_}};
  if (unfed_ >= 0) {  // the file's state has seen all of the reply
    FR_TRY(State whole, state_.clone());
    const SequenceInput input{&whole, {&unfed_, 1}, Want::none};
    FR_OK(engine_->step({&input, 1}, {}));
    return write_state_file(path, *engine_, whole.values(), whole.tokens_seen(), extra);
  }
  return write_state_file(path, *engine_, state_.values(), state_.tokens_seen(), extra);
}

Status Chat::load(const std::string& path) {
  FR_TRY(const StateFile file, read_state_file(path, *engine_));
  const auto value = [&](const char* key) {
    const auto it = file.metadata.find(key);
    return it == file.metadata.end() ? std::string{} : it->second;
  };
  ChatStyle style = style_;
  if (!value("chat.template").empty()) {
    FR_TRY(style, resolve_style({value("chat.template"), value("chat.think"), {}}, *style_.chat));
  }
  style_ = style;
  start();
  state_.set_values(file.values, file.tokens_seen);
  if (file.tokens_seen > 0) {  // else it is an initial state: the system text is still to come
    owed_ = value("chat.owed");
    fresh_ = after_system_ = false;
  }
  return {};
}

}  // namespace fr
