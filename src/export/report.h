// What an exporter wrote.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fr {

struct ExportReport {
  std::vector<std::string> files;  // paths, the one to open first
  std::uint64_t bytes = 0;         // of all files
  int chunk = 0;                   // rows of the sequence graph; 0: any number, or there is none
  std::vector<std::string> notes;  // what a user of the files should know
};

}  // namespace fr
