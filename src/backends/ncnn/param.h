// Reads ncnn's .param text: layers with named blobs and parameters. Nothing of it reaches ncnn unchecked.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr::ncnn_backend {

// A number, or an array of them.
struct Param {
  std::vector<double> values;
  bool array = false, real = false;  // real: written with a point or an exponent, which ncnn tells apart
};

struct ParamLayer {
  std::string type, name;
  std::vector<std::string> inputs, outputs;  // blobs
  std::map<int, Param> params;

  // The integer of a parameter, or what it is when left out. A number that is no int counts as INT_MIN, which
  // no layer accepts.
  int integer(int id, int otherwise) const;
  float real(int id) const;                 // NaN: left out, or not written as a real
  std::vector<int> integers(int id) const;  // of an array; empty: left out
};

// Errors: no .param ("7767517" on the first line), counts that the lines contradict, lines that cannot be
// read. `path` is what messages name.
Result<std::vector<ParamLayer>> parse_param(std::string_view text, const std::string& path);

// The text of one layer, with a newline.
std::string param_line(const ParamLayer& layer);

}  // namespace fr::ncnn_backend
