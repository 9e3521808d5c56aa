// The chat: reads inputs from the terminal or a pipe and gives them to a Session until there are no more.
#pragma once
#include "common/session.h"

namespace fr::app {

// On a terminal: prompts, editing, history; errors are shown and the chat goes on. Otherwise every line of
// standard input is one turn or command, standard output gets the replies alone, each ended by a blank line,
// and the first error is thrown (faster_rwkv::Error). Returns the program's exit code. Needs
// catch_interrupts().
int run_repl(const faster_rwkv::Model& model, const ChatSetup& setup);

}  // namespace fr::app
