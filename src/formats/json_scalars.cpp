#include "formats/json_scalars.h"

#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::size_t max_size = std::size_t{4} << 20;
constexpr std::size_t max_depth = 64;

class Handler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Handler(std::string_view file, const VisitScalar& visit) : file_(file), visit_(visit) {}
  Status status;

  bool start_object(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override {
    return open_.empty() ? fail("is not a JSON object") : open(false);
  }
  bool end_array() override { return close(); }
  bool key(std::string& text) override {
    if (text.size() > max_name_length) return fail("has a key that is too long");
    if (objects_ <= path_.size()) path_[objects_ - 1] = text;
    return true;
  }
  bool string(std::string& text) override { return value(text); }
  bool boolean(bool b) override { return value(b ? "true" : "false"); }
  bool number_integer(std::int64_t n) override { return value(std::to_string(n)); }
  bool number_unsigned(std::uint64_t n) override { return value(std::to_string(n)); }
  bool number_float(double, const std::string& text) override { return value(text); }
  bool null() override { return !open_.empty() || fail("is not a JSON object"); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail("is not valid JSON at byte " + std::to_string(position));
  }

 private:
  bool fail(const std::string& what) {
    if (status.ok()) status = file_fault(file_, "this file " + what);
    return false;
  }
  bool open(bool object) {
    if (open_.size() == max_depth) return fail("is nested too deeply");
    open_.push_back(object);
    objects_ += object ? 1 : 0;
    return true;
  }
  bool close() {
    objects_ -= open_.back() ? 1 : 0;
    open_.pop_back();
    return true;
  }
  bool value(std::string_view text) {
    if (open_.empty()) return fail("is not a JSON object");
    if (objects_ > path_.size()) return true;
    status = visit_(std::span(path_).first(objects_), text);
    return status.ok();
  }

  std::string_view file_;
  const VisitScalar& visit_;
  std::vector<bool> open_;  // objects (true) and arrays that we are in
  std::size_t objects_ = 0;
  std::array<std::string, 2> path_;
};

}  // namespace

Status visit_json_scalars(std::string_view json, std::string_view file, const VisitScalar& visit) {
  if (json.size() > max_size) return file_fault(file, "this file has more than 4 MB");
  Handler handler(file, visit);
  try {
    if (nlohmann::json::sax_parse(json, &handler)) return {};
  } catch (const std::exception& e) {
    return file_fault(file, "this file cannot be read: " + printable(e.what()));
  }
  if (!handler.status.ok()) return handler.status;
  return file_fault(file, "this file is not valid JSON");
}

}  // namespace fr
