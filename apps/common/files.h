// Files that a user names.
#pragma once
#include <string>
#include <string_view>

namespace fr::app {

std::string expand_home(std::string_view path);  // a leading ~/ becomes the home folder
// All bytes of a file. what: what it was meant to be, for the message ("the prompt"). Throws
// faster_rwkv::Error.
std::string read_file(const std::string& path, const char* what);
// Throws when both are the same file: a model is mapped while it runs, and writing over it would destroy it.
void refuse_overwriting(const std::string& out, const char* model);
std::string read_stdin();  // all bytes. Throws, also at Ctrl-C.

}  // namespace fr::app
