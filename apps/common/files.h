// Files that a user names.
#pragma once
#include <string>
#include <string_view>

namespace fr::app {

std::string expand_home(std::string_view path);  // a leading ~/ becomes the home folder
// All bytes of a file. what: what it was meant to be, for the message ("the prompt"). Throws
// faster_rwkv::Error.
std::string read_file(const std::string& path, const char* what);
std::string read_stdin();  // all bytes. Throws, also at Ctrl-C.

}  // namespace fr::app
