#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/result.h"
#include "text/utf8_stream.h"

namespace fr {
namespace {

// Below it every character is its own NFC form and composes with nothing before it.
constexpr char32_t kFirstToNormalize = 0x300;
constexpr unsigned char kLeadOfThat = 0xcc;

CharClass class_by_category(char32_t scalar) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(scalar))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharClass::space;
    default:
      return (scalar >= 9 && scalar <= 13) || scalar == 0x85 ? CharClass::space : CharClass::other;
  }
}

// Well-formed characters on the way to NFC.
class NormalForm {
 public:
  explicit NormalForm(std::string& out) : out_(out) {}

  void add(char32_t scalar) {
    if (scalar < kFirstToNormalize && scalars_.size() >= 1024) flush();
    std::array<utf8proc_int32_t, 16> parts;  // the longest canonical decomposition has 4
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(scalar), parts.data(), parts.size(),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE), &boundary);
    FR_CHECK(n >= 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()));
    scalars_.insert(scalars_.end(), parts.begin(), parts.begin() + n);
  }

  void flush() {
    sort_marks();
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(scalars_.data(), static_cast<utf8proc_ssize_t>(scalars_.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
      append_utf8(out_, static_cast<char32_t>(scalars_[static_cast<std::size_t>(i)]));
    }
    scalars_.clear();
  }

 private:
  static int combining_class(utf8proc_int32_t scalar) {
    return utf8proc_get_property(scalar)->combining_class;
  }

  // The canonical ordering. utf8proc_decompose would take quadratic time on long runs of marks.
  void sort_marks() {
    const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
    for (auto begin = scalars_.begin(); begin != scalars_.end();) {
      begin = std::find_if(begin, scalars_.end(), is_mark);
      const auto end = std::find_if_not(begin, scalars_.end(), is_mark);
      std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
      begin = end;
    }
  }

  std::string& out_;
  std::vector<utf8proc_int32_t> scalars_;
};

}  // namespace

bool have_unicode_tables() { return true; }

CharClass char_class(char32_t scalar) {
  static const std::array<CharClass, 128> ascii = [] {
    std::array<CharClass, 128> classes{};
    for (char32_t c = 0; c < classes.size(); ++c) classes[c] = class_by_category(c);
    return classes;
  }();
  return scalar < ascii.size() ? ascii[scalar] : class_by_category(scalar);
}

std::string nfc(std::string_view text) {
  if (std::none_of(text.begin(), text.end(),
                   [](char c) { return static_cast<unsigned char>(c) >= kLeadOfThat; })) {
    return std::string(text);
  }
  std::string out;
  out.reserve(text.size());
  NormalForm form(out);
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    if (c.valid) {
      form.add(c.scalar);
    } else {
      form.flush();
      out += text[at];
    }
    at += c.length;
  }
  form.flush();
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    if (c.valid) {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.scalar))));
    } else {
      out += text[at];
    }
    at += c.length;
  }
  return out;
}

}  // namespace fr
