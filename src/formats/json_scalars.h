// The few values that we need of a JSON file of unknown origin, without building the document.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fr {

// Calls visit(path, value) for each text, number (as it is written), true or false whose path has one or two
// keys: {"a": 1, "b": {"c": ["x", "y"]}} gives a = 1, b c = x, b c = y. Errors (with `file`): larger than 4
// MB, nested deeper than 64, no JSON object, or what visit() returned.
using VisitScalar = std::function<Status(std::span<const std::string> path, std::string_view value)>;
Status visit_json_scalars(std::string_view json, std::string_view file, const VisitScalar& visit);

}  // namespace fr
