// Runs our programs as a user would: with pipes, or on a pseudo-terminal.
#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace fr::test {

using Arguments = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

std::string frwkv();       // the program's path
std::string chat();        // the first project's program
std::string model_path();  // the model that ships
std::string vocab_path();  // its vocabulary

struct Finished {
  int code = -1;  // exit status; 128 + n after signal n
  std::string out, err;
  long peak = 0;  // most memory it had, bytes
};
// Runs a program to its end. Every FRWKV_* variable of the caller is removed, those of `variables` are set.
Finished run(const Arguments& command, const std::string& input = {}, const Variables& variables = {});

// A program that is talked to while it runs. Killed when it goes out of scope.
class Child {
 public:
  enum class Kind { pipes, terminal };
  Child(Kind kind, const Arguments& command, const Variables& variables = {});
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  void send(const std::string& text);
  void close_input();  // pipes only
  // Reads until the output after the last match holds text; true when it does within the time. Moves behind
  // the match.
  bool expect(const std::string& text, double seconds = 60);
  // Everything that was read since the last expect.
  std::string rest() const { return output_.substr(seen_); }
  const std::string& output() const { return output_; }
  void signal(int number) const;
  long rss_anon() const;  // bytes
  int wait();             // reads to the end; the exit status
  pid_t pid() const { return pid_; }

 private:
  bool read_some(int timeout_ms);
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
  std::string output_;
  std::size_t seen_ = 0;
};

// A folder for the files of one test.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string write(const std::string& name, const std::string& content) const;  // its path
  static std::string read(const std::string& path);

 private:
  std::string folder_;
};

}  // namespace fr::test
