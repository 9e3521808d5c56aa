// Holds the source tree to docs/architecture.md: who may include what, how long a file may be, what is
// installed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

Lines split_lines(const std::string& text) {
  Lines lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The words in backticks.
Lines quoted(const std::string& cell) {
  static const std::regex word("`([^`]+)`");
  Lines words;
  for (std::sregex_iterator it(cell.begin(), cell.end(), word), end; it != end; ++it)
    words.push_back((*it)[1]);
  return words;
}

// Rows of the markdown table that has this header, as {words of the first cell, second cell}.
std::vector<std::pair<Lines, std::string>> table(const std::string& markdown, const std::string& header) {
  std::vector<std::pair<Lines, std::string>> rows;
  bool inside = false;
  for (const std::string& line : split_lines(markdown)) {
    if (line == header) {
      inside = true;
    } else if (inside && !line.starts_with('|')) {
      break;
    } else if (inside && !line.starts_with("|---")) {
      const std::size_t bar = line.find('|', 1);
      rows.emplace_back(quoted(line.substr(0, bar)), line.substr(bar));
    }
  }
  return rows;
}

struct Rules {
  std::map<std::string, Lines> allowed;  // folder -> entries; {"*"}: anything
  Lines tests_also;
  std::set<std::string> long_files;
};

Rules parse_rules(const std::string& markdown) {
  Rules rules;
  for (const auto& [folder, cell] : table(markdown, "| folder | may include |")) {
    Lines entries = quoted(cell);
    if (entries.empty() && cell.find("anything") != std::string::npos) entries = {"*"};
    (folder.at(0) == "*_test.*" ? rules.tests_also : rules.allowed[folder.at(0)]) = entries;
  }
  for (const auto& [file, reason] : table(markdown, "| file | reason |")) rules.long_files.insert(file.at(0));
  return rules;
}

bool is_below(const std::string& path, const std::string& folder) {
  return path == folder || path.starts_with(folder + "/");
}

std::string folder_of(const std::string& path) { return fs::path(path).parent_path().generic_string(); }

bool is_unit_test(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return name.find("_test.") != std::string::npos || name.starts_with("test_") ||
         name.find("_fixture.") != std::string::npos;
}

// "src/base/result.h" -> "base/result.h", as includes spell it.
std::string spelled(const std::string& path) {
  for (const std::string root : {"src/", "include/", "apps/"})
    if (path.starts_with(root)) return path.substr(root.size());
  return path;
}

// Where an include of `path` leads in the tree ("" if nowhere): beside the file or below one of the include
// roots.
std::string resolve(const std::string& path, const std::string& include, const std::set<std::string>& files) {
  std::vector<std::string> roots{folder_of(path), "src", "include", "apps"};
  if (path.starts_with("tests/")) roots.push_back("tests");
  for (const std::string& root : roots) {
    const std::string candidate = (fs::path(root) / include).lexically_normal().generic_string();
    if (files.contains(candidate)) return candidate;
  }
  return "";
}

// Messages "path:line: ..." for every include of one file that the rules forbid. files: all paths of the
// tree.
Lines check_includes(const Rules& rules, const std::string& path, const std::string& text,
                     const std::set<std::string>& files) {
  static const std::regex include_line("^\\s*#\\s*include\\s*([<\"])([^>\"]+)[>\"]");
  std::string folder;  // the longest row that covers the file
  for (const auto& [row, entries] : rules.allowed)
    if (is_below(path, row) && row.size() > folder.size()) folder = row;
  if (folder.empty()) return {path + ":1: its folder has no row in docs/architecture.md"};
  Lines allowed = rules.allowed.at(folder);
  if (is_unit_test(path)) allowed.insert(allowed.end(), rules.tests_also.begin(), rules.tests_also.end());

  Lines problems;
  const Lines lines = split_lines(text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_search(lines[i], match, include_line)) continue;
    const std::string include = match[2], target = resolve(path, include, files);
    const std::string where = path + ":" + std::to_string(i + 1) + ": ";
    if (target.empty()) {
      if (match[1] == "\"")
        problems.push_back(where + "\"" + include +
                           "\" is not in the tree; headers of other projects take <>");
      continue;
    }
    const bool ok =
        is_below(target, folder) || std::any_of(allowed.begin(), allowed.end(), [&](const auto& entry) {
          return entry == "*" || is_below(spelled(target), entry);
        });
    if (!ok) problems.push_back(where + folder + " may not include " + spelled(target));
  }
  return problems;
}

// Messages for a file that is too long, or listed as long without need.
Lines check_length(const Rules& rules, const std::string& path, std::size_t lines) {
  const bool version =
      folder_of(path) == "src/models" && fs::path(path).filename().string().starts_with("rwkv");
  const bool listed = rules.long_files.contains(path);
  const std::size_t limit = version ? 250 : listed ? 800 : 400;
  if (lines > limit)
    return {path + ": " + std::to_string(lines) + " lines, the limit is " + std::to_string(limit) +
            " (docs/architecture.md, size limits)"};
  if (listed && lines <= 400)
    return {path + ": no longer a long file, take it off the list in docs/architecture.md"};
  return {};
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

const fs::path root = FR_SOURCE_DIR;

// All files below the folders that hold source, relative to the root.
std::set<std::string> tree() {
  std::set<std::string> files;
  for (const char* folder : {"src", "include", "apps", "bindings", "tests", "fuzz", "bench"}) {
    if (!fs::is_directory(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
      if (entry.is_regular_file()) files.insert(fs::relative(entry.path(), root).generic_string());
  }
  return files;
}

bool is_source(const std::string& path) {
  static const std::set<std::string> endings = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh", ".inc"};
  return endings.contains(fs::path(path).extension().string());
}

std::string joined(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

Lines check_sources(const std::function<Lines(const std::string& path, const std::string& text)>& check) {
  Lines problems;
  std::size_t checked = 0;
  for (const std::string& path : tree()) {
    if (!is_source(path)) continue;
    const Lines more = check(path, read(root / path));
    problems.insert(problems.end(), more.begin(), more.end());
    ++checked;
  }
  EXPECT_GT(checked, 50u) << "is " << root << " the source tree?";
  return problems;
}

TEST(IncludeRules, SourcesFollowTheTable) {
  const Rules rules = parse_rules(read(root / "docs/architecture.md"));
  ASSERT_GT(rules.allowed.size(), 10u);
  const auto files = tree();
  EXPECT_EQ(joined(check_sources([&](const auto& path, const auto& text) {
              return check_includes(rules, path, text, files);
            })),
            "");
}

TEST(IncludeRules, EveryEntryOfTheTableExists) {
  const Rules rules = parse_rules(read(root / "docs/architecture.md"));
  for (const auto& [folder, entries] : rules.allowed) {
    EXPECT_TRUE(fs::is_directory(root / folder)) << folder;
    for (const auto& entry : entries) {
      const auto exists = [&](const char* below) { return fs::exists(root / below / entry); };
      EXPECT_TRUE(entry == "*" || exists("src") || exists("include") || exists("apps"))
          << folder << ": " << entry;
    }
  }
}

TEST(IncludeRules, FilesKeepTheirLimits) {
  const Rules rules = parse_rules(read(root / "docs/architecture.md"));
  EXPECT_EQ(joined(check_sources([&](const auto& path, const auto& text) {
              return check_length(rules, path, split_lines(text).size());
            })),
            "");
  for (const auto& path : rules.long_files)
    EXPECT_TRUE(fs::exists(root / path)) << path << " is listed and missing";
}

TEST(IncludeRules, OnlyThePublicHeadersAreInstalled) {
  Lines headers;
  for (const std::string& path : tree())
    if (path.starts_with("include/")) headers.push_back(path);
  EXPECT_EQ(headers, (Lines{"include/faster_rwkv/fr.h", "include/faster_rwkv/fr.hpp"}));
}

TEST(IncludeRules, ViolationsAreFound) {
  const Rules rules = parse_rules(
      "| other | table |\n|---|---|\n| `src/a` | `b` |\n\ntext\n"
      "| folder | may include |\n|---|---|\n| `src/a` | nothing |\n| `src/b` | `a`, `c/public.h` |\n"
      "| `src/b/inner` | `a` |\n| `tests` | anything |\n| `*_test.*` | also `c/kit` |\n\n"
      "| `src/d` | `a` |\n"
      "| file | reason |\n|---|---|\n| `src/a/long.cpp` | a reason |\n");
  ASSERT_EQ(rules.allowed.size(), 4u);
  const std::set<std::string> files = {"src/a/x.h",      "src/b/y.h",       "src/b/inner/z.h",
                                       "src/c/public.h", "src/c/private.h", "src/c/kit/fix.h",
                                       "tests/t.h"};
  const auto problems = [&](const std::string& path, const std::string& line) {
    return joined(check_includes(rules, path, "// one line\n" + line + "\n", files));
  };
  // allowed: own folder, beside the file, listed folder, listed header, other projects, comments
  EXPECT_EQ(problems("src/a/x.cpp", "#include \"a/x.h\""), "");
  EXPECT_EQ(problems("src/a/x.cpp", "#include \"x.h\""), "");
  EXPECT_EQ(problems("src/b/y.cpp", "#include \"a/x.h\""), "");
  EXPECT_EQ(problems("src/b/y.cpp", "# include \"c/public.h\" // why"), "");
  EXPECT_EQ(problems("src/a/x.cpp", "#include <vector>"), "");
  EXPECT_EQ(problems("src/a/x.cpp", "// #include \"b/y.h\""), "");
  EXPECT_EQ(problems("tests/t.cpp", "#include \"b/y.h\""), "");
  // forbidden, however it is written
  EXPECT_EQ(problems("src/a/x.cpp", "#include \"b/y.h\""), "src/a/x.cpp:2: src/a may not include b/y.h\n");
  EXPECT_EQ(problems("src/a/x.cpp", "  #  include <b/y.h>"), "src/a/x.cpp:2: src/a may not include b/y.h\n");
  EXPECT_EQ(problems("src/a/x.cpp", "#include \"../b/y.h\""), "src/a/x.cpp:2: src/a may not include b/y.h\n");
  EXPECT_EQ(problems("src/b/y.cpp", "#include \"c/private.h\""),
            "src/b/y.cpp:2: src/b may not include c/private.h\n");
  // the longest row counts, and its folder does not own the folder above
  EXPECT_EQ(problems("src/b/inner/z.cpp", "#include \"b/inner/z.h\""), "");
  EXPECT_EQ(problems("src/b/inner/z.cpp", "#include \"b/y.h\""),
            "src/b/inner/z.cpp:2: src/b/inner may not include b/y.h\n");
  // tests have more; nothing has less than a row; quotes are for our own headers
  EXPECT_EQ(problems("src/a/x_test.cpp", "#include \"c/kit/fix.h\""), "");
  EXPECT_EQ(problems("src/a/test_x.h", "#include \"c/kit/fix.h\""), "");
  EXPECT_NE(problems("src/a/x.cpp", "#include \"c/kit/fix.h\""), "");
  EXPECT_NE(problems("src/a/x_test.cpp", "#include \"b/y.h\""), "");
  EXPECT_EQ(problems("src/d/x.cpp", ""), "src/d/x.cpp:1: its folder has no row in docs/architecture.md\n");
  EXPECT_NE(problems("src/ab/x.cpp", ""), "");
  EXPECT_EQ(problems("src/a/x.cpp", "#include \"json.hpp\""),
            "src/a/x.cpp:2: \"json.hpp\" is not in the tree; headers of other projects take <>\n");
}

TEST(IncludeRules, LongFilesAreFound) {
  Rules rules;
  rules.long_files = {"src/a/long.cpp", "src/models/rwkv6.cpp"};
  const auto ok = [&](const char* path, std::size_t lines) {
    return check_length(rules, path, lines).empty();
  };
  EXPECT_TRUE(ok("src/a/x.cpp", 400));
  EXPECT_FALSE(ok("src/a/x.cpp", 401));
  EXPECT_TRUE(ok("src/a/long.cpp", 800));
  EXPECT_FALSE(ok("src/a/long.cpp", 801));
  EXPECT_FALSE(ok("src/a/long.cpp", 400));  // listed without need
  EXPECT_TRUE(ok("src/models/rwkv7.cpp", 250));
  EXPECT_FALSE(ok("src/models/rwkv7.cpp", 251));
  EXPECT_FALSE(ok("src/models/rwkv6.cpp", 251));  // no list helps a version
  EXPECT_TRUE(ok("src/models/registry.cpp", 251));
}

}  // namespace
