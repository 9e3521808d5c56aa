// Where the chat remembers what was typed: a text file with one entry a line (newlines written as \n),
// private to the user, appended to as it goes so that several chats can share it.
#pragma once
#include <string>
#include <vector>

namespace fr::app {

// $XDG_STATE_HOME/frwkv/history or ~/.local/state/frwkv/history; empty if there is no home, or if the
// environment variable FRWKV_HISTORY is off.
std::string default_history_file();

// The last entries, oldest first. A file that has grown far beyond that is shortened. Failures give nothing:
// the history is a comfort.
std::vector<std::string> load_history(const std::string& path);
void append_history(const std::string& path, const std::string& entry);

}  // namespace fr::app
