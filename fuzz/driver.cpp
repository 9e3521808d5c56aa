// Runs a fuzz target without libFuzzer: every file of the corpus, then seeded mutations of them, the same
// ones on every machine. On a crash or after 60 s on one input, the input is written to ./crash-<target>.
//   fuzz_x [--runs N] [--seed S] FILE-OR-FOLDER...
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

std::string input;       // what runs now
std::string crash_file;  // where it goes if that is the end

void save_input() {  // async-signal-safe
  const int fd = ::open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) return;
  const bool saved = ::write(fd, input.data(), input.size()) == static_cast<ssize_t>(input.size());
  ::close(fd);
  constexpr char message[] = "\nfuzz: the input is in ";
  if (saved && ::write(2, message, sizeof message - 1) > 0 &&
      ::write(2, crash_file.data(), crash_file.size()) > 0) {
    (void)!::write(2, "\n", 1);
  }
}

void on_signal(int signal) {
  save_input();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run() {
  ::alarm(60);
  const std::vector<std::uint8_t> exact(input.begin(),
                                        input.end());  // its own block, so that overruns are seen
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

std::vector<std::string> read_corpus(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());  // the order of a directory is not defined
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void mutate(std::string& s, const std::vector<std::string>& corpus, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const std::size_t at = below(s.size());
  switch (below(9)) {
    case 0:
      if (!s.empty()) s[at] = static_cast<char>(s[at] ^ (1 << below(8)));
      break;
    case 1:
      if (!s.empty()) s[at] = static_cast<char>(random());
      break;
    case 2:
      s.erase(at, 1 + below(32));
      break;
    case 3:
      s.insert(at, 1 + below(32), static_cast<char>(random()));
      break;
    case 4:
      s.insert(at, s.substr(below(s.size()), 1 + below(128)));
      break;
    case 5:
      s.resize(at);
      break;
    case 6: {  // a part of another file
      const std::string& other = corpus[below(corpus.size())];
      s.replace(at, below(64), other.substr(below(other.size()), below(256)));
      break;
    }
    case 7: {  // a small or an extreme number, little-endian
      std::uint64_t value = below(300);
      if (below(2)) value = (std::uint64_t{1} << below(64)) - below(3);
      const std::size_t width = std::min(std::size_t{1} << below(4), s.size() - at);
      std::memcpy(s.data() + at, &value, width);
      break;
    }
    default:  // one more or one less
      if (!s.empty()) s[at] = static_cast<char>(s[at] + (below(2) ? 1 : -1));
      break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t runs = 100000, seed = 1;
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if ((argument == "--runs" || argument == "--seed") && i + 1 < argc) {
      (argument == "--runs" ? runs : seed) = std::strtoull(argv[++i], nullptr, 10);
    } else {
      paths.push_back(argument);
    }
  }
  crash_file = "crash-" + std::filesystem::path(argv[0]).filename().string();
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) std::signal(signal, on_signal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(save_input);

  std::vector<std::string> corpus = read_corpus(paths);
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s [--runs N] [--seed S] FILE-OR-FOLDER...\n", argv[0]);
    return 2;
  }
  for (const std::string& file : corpus) {
    input = file;
    run();
  }
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i < runs; ++i) {
    input = corpus[random() % corpus.size()];
    for (std::uint64_t n = 1 + random() % 4; n > 0; --n) mutate(input, corpus, random);
    run();
  }
  std::printf("%zu files and %llu mutations of them, no crash\n", corpus.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}
