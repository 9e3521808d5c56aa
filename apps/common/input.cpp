#include "common/input.h"

#include <algorithm>
#include <iterator>

#include "common/words.h"

namespace fr::app {
namespace {

constexpr Command table[] = {
    {"/help", Verb::help, "", "this list"},
    {"/reset", Verb::reset, "", "forget the conversation (not the system text)"},
    {"/undo", Verb::undo, "", "forget the last turn; up to 8 times"},
    {"/retry", Verb::retry, "", "another reply to the last message"},
    {"/continue", Verb::carry_on, "", "go on with the last reply or free text"},
    {"/fork", Verb::fork, "[NAME]", "copy the conversation and go on in the copy"},
    {"/forks", Verb::forks, "", "list the copies"},
    {"/switch", Verb::switch_fork, "NAME", "go on in another copy; the first one is called main"},
    {"/save", Verb::save, "FILE", "write the conversation's state"},
    {"/load", Verb::load, "FILE", "go on from a saved state"},
    {"/system", Verb::system, "[TEXT]", "start anew with a system text, or without one"},
    {"/set", Verb::set, "[NAME VALUE]", "change a setting; alone: list them"},
    {"/show", Verb::show, "", "the model, the template and the settings"},
    {"/stats", Verb::stats, "", "tokens and speed of the last reply"},
    {"/read", Verb::read, "FILE", "send the text of a file as a message"},
    {"/quit", Verb::quit, "", "leave; also /exit, /bye, Ctrl-D"},
    {"/exit", Verb::quit, "", ""},
    {"/bye", Verb::quit, "", ""},
    {"+", Verb::retry, "", "like /retry"},
    {"+reset", Verb::reset, "", "like /reset"},
    {"+gen", Verb::generate, "TEXT", "continue any text, outside the conversation (\\n: new line)"},
    {"+i", Verb::instruct, "TEXT", "follow an instruction, outside the conversation"},
    {"+qa", Verb::answer, "TEXT", "one question in the chat's format, outside the conversation"},
    {"+qq", Verb::question, "TEXT", "one question as Q: ... A:, outside the conversation"},
    {"++", Verb::retry_free, "", "try the last +gen, +i, +qa or +qq again"},
    {"+++", Verb::carry_on, "", "like /continue"},
    {"+prompt", Verb::prompt, "FILE", "start anew; the conversation begins with the text of a file"},
};

}  // namespace

std::span<const Command> commands() { return table; }

Input parse_input(std::string_view line) {
  if (line.starts_with('/') || line.starts_with('+')) {
    const std::size_t space = std::min(line.find_first_of(" \t\n"), line.size());
    const std::string name = lower(line.substr(0, space));
    const std::string_view rest = trim(line.substr(space));
    for (const Command& c : table) {
      // "+ 5 is what" is a message: commands without an argument stand alone.
      if (c.name == name && (rest.empty() || !c.argument.empty() || line[0] == '/')) {
        return {c.verb, std::string(line.substr(0, space)), std::string(rest)};
      }
    }
    if (line[0] == '/') return {Verb::unknown, std::string(line.substr(0, space)), std::string(line)};
  }
  return {Verb::say, {}, std::string(line)};
}

std::string argument_error(const Input& input) {
  const auto* c = std::find_if(std::begin(table), std::end(table),
                               [&](const Command& k) { return k.name == lower(input.name); });
  if (c == std::end(table)) return {};
  const bool wants = !c->argument.empty() && !c->argument.starts_with('[');
  if (wants && input.argument.empty())
    return input.name + " needs an argument: " + std::string(c->name) + " " + std::string(c->argument);
  if (c->argument.empty() && !input.argument.empty())
    return input.name + " takes no argument ('" + input.argument + "')";
  return {};
}

std::string unknown_command(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Command& c : table) names.push_back(c.name);
  const std::string_view meant = closest(lower(name), names);
  const std::string hint =
      meant.empty() ? "/help lists the commands" : "did you mean " + std::string(meant) + "?";
  return "unknown command '" + std::string(name) + "': " + hint +
         " (a space before it sends it as a message)";
}

std::string help_text() {
  std::string out;
  for (const Command& c : table) {
    if (c.help.empty()) continue;
    std::string left = "  ";
    left.append(c.name).append(" ").append(c.argument);
    left.resize(std::max<std::size_t>(left.size() + 1, 22), ' ');
    out.append(left).append(c.help).append("\n");
  }
  return out +
         "A line that ends with \\ goes on in the next one; \"\"\" begins and ends a block; Alt-Enter makes "
         "a new line.\n"
         "-temp=X and -top_p=Y inside a message hold for its reply. Ctrl-C stops a reply, Ctrl-D leaves.\n";
}

bool Joiner::add(std::string_view line) {
  constexpr std::string_view fence = "\"\"\"";
  if (!waiting_) text_.clear();
  if (!waiting_ && line.starts_with(fence)) {
    block_ = waiting_ = true;
    line.remove_prefix(fence.size());
    if (line.empty()) return false;
  }
  if (block_) {
    waiting_ = !line.ends_with(fence);
    if (!waiting_) line.remove_suffix(fence.size());
    text_ += line;
    if (waiting_)
      text_ += '\n';
    else if (text_.ends_with('\n'))
      text_.pop_back();
    block_ = waiting_;
    return !waiting_;
  }
  waiting_ = line.ends_with('\\');
  if (waiting_) line.remove_suffix(1);
  text_ += line;
  if (waiting_) text_ += '\n';
  return !waiting_;
}

void Joiner::clear() {
  text_.clear();
  waiting_ = block_ = false;
}

}  // namespace fr::app
