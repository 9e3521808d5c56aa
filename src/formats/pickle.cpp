#include "formats/pickle.h"

#include <algorithm>

#include "formats/reader.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t max_global_length = 256;
constexpr std::string_view weights_only =
    "only plain weights are read; in Python, save the state_dict() of a model that you trust";

// clang-format off
// Opcodes, with their names in pickletools.py.
enum Op : std::uint8_t {
  PROTO = 0x80, FRAME = 0x95, STOP = '.', MARK = '(', NONE = 'N', NEWTRUE = 0x88, NEWFALSE = 0x89,
  BININT = 'J', BININT1 = 'K', BININT2 = 'M', LONG1 = 0x8a, LONG4 = 0x8b, BINFLOAT = 'G',
  BINUNICODE = 'X', SHORT_BINUNICODE = 0x8c, BINUNICODE8 = 0x8d, SHORT_BINSTRING = 'U', BINSTRING = 'T',
  BINBYTES = 'B', SHORT_BINBYTES = 'C', BINBYTES8 = 0x8e,
  EMPTY_TUPLE = ')', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87, TUPLE = 't',
  EMPTY_LIST = ']', LIST = 'l', APPEND = 'a', APPENDS = 'e',
  EMPTY_DICT = '}', DICT = 'd', SETITEM = 's', SETITEMS = 'u',
  BINPUT = 'q', LONG_BINPUT = 'r', MEMOIZE = 0x94, BINGET = 'h', LONG_BINGET = 'j',
  GLOBAL = 'c', STACK_GLOBAL = 0x93, REDUCE = 'R', BUILD = 'b', BINPERSID = 'Q',
};
// clang-format on

PickleValue integer_value(Kind kind, std::int64_t integer, std::size_t length = 0) {
  PickleValue v;
  v.kind = kind;
  v.length = static_cast<std::uint32_t>(length);
  v.integer = integer;
  return v;
}

PickleValue text_value(Kind kind, std::string_view text) {
  PickleValue v;
  v.kind = kind;
  v.length = static_cast<std::uint32_t>(text.size());
  v.begin = text.data();
  return v;
}

}  // namespace

class PickleReader {
 public:
  PickleReader(std::span<const std::byte> bytes, std::size_t begin, std::size_t limit,
               Pickle::Globals globals, std::size_t max_values, std::string_view path)
      : bytes_(bytes),
        position_(begin),
        limit_(limit),
        globals_(globals),
        max_values_(max_values),
        path_(path) {}

  Result<Pickle> run() {
    if (left() < 2 || at<std::uint8_t>() != PROTO) return fault("there is no pickle");
    while (true) {
      op_at_ = position_;
      if (left() < 1) return fault("the pickle has no end");
      const auto op = at<std::uint8_t>();
      ++position_;
      if (op == STOP) break;
      FR_OK(step(op));
    }
    if (stack_.size() != 1 || !marks_.empty()) return fault("the pickle ends with unused values");
    out_.root_ = stack_.front();
    out_.end_ = position_;
    return std::move(out_);
  }

 private:
  // clang-format off
  Status step(std::uint8_t op) {
    const auto make = [this](Kind kind) {
      return since_mark([=, this](std::size_t n) { return kind == Kind::tuple ? fixed(kind, n) : growing(kind, n); });
    };
    const auto add_to = [this](Kind kind) {
      return since_mark([=, this](std::size_t n) { return extend(kind, n); });
    };
    switch (op) {
      case PROTO: return protocol();
      case FRAME: return frame();
      case MARK: return mark();
      case NONE: return push(integer_value(Kind::none, 0));
      case NEWTRUE: return push(integer_value(Kind::boolean, 1));
      case NEWFALSE: return push(integer_value(Kind::boolean, 0));
      case BININT: return push_integer<std::int32_t>();
      case BININT1: return push_integer<std::uint8_t>();
      case BININT2: return push_integer<std::uint16_t>();
      case LONG1: return push_long<std::uint8_t>();
      case LONG4: return push_long<std::uint32_t>();
      case BINFLOAT: return push_real();
      case BINUNICODE: case BINSTRING: return push_text<std::uint32_t>(Kind::text);
      case SHORT_BINUNICODE: case SHORT_BINSTRING: return push_text<std::uint8_t>(Kind::text);
      case BINUNICODE8: return push_text<std::uint64_t>(Kind::text);
      case BINBYTES: return push_text<std::uint32_t>(Kind::bytes);
      case SHORT_BINBYTES: return push_text<std::uint8_t>(Kind::bytes);
      case BINBYTES8: return push_text<std::uint64_t>(Kind::bytes);
      case EMPTY_TUPLE: return fixed(Kind::tuple, 0);
      case TUPLE1: return fixed(Kind::tuple, 1);
      case TUPLE2: return fixed(Kind::tuple, 2);
      case TUPLE3: return fixed(Kind::tuple, 3);
      case TUPLE: return make(Kind::tuple);
      case EMPTY_LIST: return growing(Kind::list, 0);
      case EMPTY_DICT: return growing(Kind::dict, 0);
      case LIST: return make(Kind::list);
      case DICT: return make(Kind::dict);
      case APPEND: return extend(Kind::list, 1);
      case APPENDS: return add_to(Kind::list);
      case SETITEM: return extend(Kind::dict, 2);
      case SETITEMS: return add_to(Kind::dict);
      case BINPUT: return put<std::uint8_t>();
      case LONG_BINPUT: return put<std::uint32_t>();
      case MEMOIZE: return put_at(memoised_);
      case BINGET: return get<std::uint8_t>();
      case LONG_BINGET: return get<std::uint32_t>();
      case GLOBAL: return global();
      case STACK_GLOBAL: return stack_global();
      case REDUCE: return reduce();
      case BUILD: return build();
      case BINPERSID: return persistent_id();
      default:
        return fault("the pickle opcode " + std::to_string(op) + " is not one that weights need", weights_only);
    }
  }
  // clang-format on

  Error fault(const std::string& what, std::string_view what_to_do = damaged_file) const {
    return file_fault(path_, what + ", at byte " + std::to_string(op_at_), what_to_do);
  }
  std::size_t left() const { return limit_ - position_; }
  template <class T>
  T at() const {
    return load_le<T>(bytes_.data() + position_);
  }
  template <class T>
  Result<T> take() {
    if (left() < sizeof(T)) return fault("the pickle is cut short");
    const T value = at<T>();
    position_ += sizeof(T);
    return value;
  }
  Result<std::string_view> take_text(std::uint64_t length) {
    if (left() < length || length > 0xffffffff)
      return fault("a text in the pickle is longer than the pickle");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  // Values above the innermost mark; those below are out of reach until the mark is taken.
  std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  Status need(std::size_t n) const {
    if (available() < n) return fault("the pickle takes a value that is not there");
    return {};
  }
  Status count() {
    if (++created_ > max_values_)
      return fault("the pickle holds more than " + std::to_string(max_values_) + " values");
    return {};
  }
  Status push(PickleValue value) {
    FR_OK(count());
    stack_.push_back(value);
    return {};
  }
  PickleValue pop() {
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }

  Status protocol() {
    FR_TRY(const auto version, take<std::uint8_t>());
    if (version < 2 || version > 5)
      return fault("pickle protocol " + std::to_string(version) + " is not supported");
    return {};
  }
  Status frame() {  // a hint for buffered reading
    FR_TRY(const auto length, take<std::uint64_t>());
    if (length > left()) return fault("a pickle frame is longer than the pickle");
    return {};
  }
  Status mark() {
    FR_OK(count());
    marks_.push_back(static_cast<std::uint32_t>(stack_.size()));
    return {};
  }
  template <class Use>
  Status since_mark(Use use) {
    if (marks_.empty()) return fault("the pickle takes a mark that is not there");
    const std::size_t n = available();
    marks_.pop_back();
    return use(n);
  }

  template <class T>
  Status push_integer() {
    FR_TRY(const T value, take<T>());
    return push(integer_value(Kind::integer, value));
  }
  template <class Length>
  Status push_long() {
    FR_TRY(const auto length, take<Length>());
    FR_TRY(const auto digits, take_text(length));
    if (length > 8) return push(text_value(Kind::big_integer, digits));
    std::uint64_t value = length > 0 && (digits.back() & 0x80) ? ~std::uint64_t{0} : 0;  // sign
    std::memcpy(&value, digits.data(), length);
    return push(integer_value(Kind::integer, static_cast<std::int64_t>(value)));
  }
  Status push_real() {
    FR_TRY(const auto bits, take<std::uint64_t>());
    PickleValue v = integer_value(Kind::real, 0);
    v.real = std::bit_cast<double>(__builtin_bswap64(bits));  // BINFLOAT is big-endian
    return push(v);
  }
  template <class Length>
  Status push_text(Kind kind) {
    FR_TRY(const auto length, take<Length>());
    FR_TRY(const auto text, take_text(length));
    return push(text_value(kind, text));
  }

  // The last n values become a tuple, a call or a persistent id.
  Status fixed(Kind kind, std::size_t n) {
    FR_OK(need(n));
    const auto first = static_cast<std::int64_t>(out_.fixed_.size());
    out_.fixed_.insert(out_.fixed_.end(), stack_.end() - static_cast<std::ptrdiff_t>(n), stack_.end());
    stack_.resize(stack_.size() - n);
    return push(integer_value(kind, first, n));
  }
  // The last n values become the items of a new list or dict.
  Status growing(Kind kind, std::size_t n) {
    FR_OK(need(n));
    FR_OK(count());
    const auto index = static_cast<std::int64_t>(out_.growing_.size());
    out_.growing_.emplace_back();
    const PickleValue container = integer_value(kind, index);
    stack_.insert(stack_.end() - static_cast<std::ptrdiff_t>(n), container);
    return extend(kind, n);
  }
  // The last n values are appended to the list or dict below them.
  Status extend(Kind kind, std::size_t n) {
    FR_OK(need(n + 1));
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(n);
    const PickleValue container = *(first - 1);
    if (!container.is(kind)) return fault("the pickle adds items to something that has none");
    if (kind == Kind::dict && n % 2 != 0) return fault("a dict key in the pickle has no value");
    auto& items = out_.growing_[static_cast<std::size_t>(container.integer)];
    items.insert(items.end(), first, stack_.end());
    stack_.resize(stack_.size() - n);
    return {};
  }

  Status put_at(std::size_t index) {
    FR_OK(need(1));
    if (index >= max_values_)
      return fault("the pickle memo has more than " + std::to_string(max_values_) + " entries");
    if (index >= memo_.size()) memo_.resize(index + 1);
    if (memo_[index].is(Kind::unset)) ++memoised_;
    memo_[index] = stack_.back();
    return {};
  }
  template <class Index>
  Status put() {
    FR_TRY(const auto index, take<Index>());
    return put_at(index);
  }
  template <class Index>
  Status get() {
    FR_TRY(const auto index, take<Index>());
    if (index >= memo_.size() || memo_[index].is(Kind::unset)) {
      return fault("the pickle memo has no entry " + std::to_string(index));
    }
    return push(memo_[index]);
  }

  Result<std::string_view> take_line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data() + position_),
                                std::min(left(), max_global_length));
    const std::size_t length = rest.find('\n');
    if (length == rest.npos) return fault("the name of a global in the pickle has no end");
    position_ += length + 1;
    return rest.substr(0, length);
  }
  Status global() {
    FR_TRY(const auto module, take_line());
    FR_TRY(const auto name, take_line());
    return push_global(module, name);
  }
  Status stack_global() {
    FR_OK(need(2));
    const PickleValue name = pop(), module = pop();
    if (!name.is(Kind::text) || !module.is(Kind::text))
      return fault("the name of a global in the pickle is not a text");
    return push_global(module.text(), name.text());
  }
  Status push_global(std::string_view module, std::string_view name) {
    for (std::size_t i = 0; i < globals_.size(); ++i) {
      const std::string_view allowed = globals_[i];
      if (allowed.size() == module.size() + 1 + name.size() && allowed.starts_with(module) &&
          allowed[module.size()] == ' ' && allowed.ends_with(name)) {
        return push(integer_value(Kind::global, static_cast<std::int64_t>(i)));
      }
    }
    std::string full(module.substr(0, max_global_length));
    full.append(".").append(name.substr(0, max_global_length));
    return fault("the pickle refers to " + printable(full) + ", which is no part of a weights file",
                 weights_only);
  }

  Status reduce() {
    FR_OK(need(2));
    const PickleValue arguments = stack_.back(), callee = stack_[stack_.size() - 2];
    if (!callee.is(Kind::global) || !arguments.is(Kind::tuple))
      return fault("the pickle calls a value", weights_only);
    if (callee.integer != 0) return fixed(Kind::call, 2);
    if (arguments.length != 0)
      return fault("the pickle fills an OrderedDict in an unknown way", weights_only);
    stack_.resize(stack_.size() - 2);
    return growing(Kind::dict, 0);
  }
  // Attributes that are set on an object: the `_metadata` of a state_dict() and the like, not needed.
  Status build() {
    FR_OK(need(2));
    pop();
    if (!stack_.back().is(Kind::dict) && !stack_.back().is(Kind::call)) {
      return fault("the pickle sets attributes of a plain value", weights_only);
    }
    return {};
  }
  Status persistent_id() {
    FR_OK(fixed(Kind::persistent, 1));
    out_.persistent_.push_back(stack_.back());
    return {};
  }

  std::span<const std::byte> bytes_;
  std::size_t position_, limit_, op_at_ = 0;
  Pickle::Globals globals_;
  std::size_t max_values_;
  std::string_view path_;
  std::vector<PickleValue> stack_;
  std::vector<std::uint32_t> marks_;  // stack sizes
  std::vector<PickleValue> memo_;
  std::size_t memoised_ = 0;  // entries of memo_ that are set
  std::size_t created_ = 0;   // values and marks so far
  Pickle out_;
};

Result<Pickle> Pickle::read(std::span<const std::byte> bytes, std::size_t begin, std::size_t limit,
                            Globals globals, std::size_t max_values, std::string_view path) {
  FR_CHECK(begin <= limit && limit <= bytes.size());
  return PickleReader(bytes, begin, limit, globals, max_values, path).run();
}

std::span<const PickleValue> Pickle::items(const PickleValue& container) const {
  const auto index = static_cast<std::size_t>(container.integer);
  if (container.is(Kind::list) || container.is(Kind::dict)) return growing_[index];
  FR_CHECK(container.is(Kind::tuple) || container.is(Kind::call) || container.is(Kind::persistent));
  return {fixed_.data() + index, container.length};
}

}  // namespace fr
