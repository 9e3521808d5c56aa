#include "formats/pickle.h"

#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;
using test::bytes_of;
using test::le;
using test::PickleBuilder;
using namespace std::string_literals;

constexpr std::string_view globals[] = {"collections OrderedDict", "torch FloatStorage", "a.b make"};

Result<Pickle> read(const std::string& pickle, std::size_t max_values = 1000) {
  return Pickle::read(bytes_of(pickle), 0, pickle.size(), globals, max_values, "f");
}

// The value that one pickled expression gives; the text must outlive it.
PickleValue value(const std::string& pickle) {
  const auto p = read(pickle);
  EXPECT_TRUE(p.ok()) << p.error().message;
  return p.ok() ? p->root() : PickleValue{};
}

void expect_error(const std::string& pickle, std::string_view part, std::size_t max_values = 1000) {
  const auto p = read(pickle, max_values);
  ASSERT_FALSE(p.ok()) << "wanted: " << part;
  EXPECT_NE(p.error().message.find(part), std::string::npos) << p.error().message;
  EXPECT_TRUE(test::is_good_message(p.error(), "f")) << p.error().message;
}

TEST(Pickle, ReadsPlainValues) {
  EXPECT_TRUE(value("\x80\x02N."s).is(Kind::none));
  EXPECT_EQ(value("\x80\x02\x88."s).integer, 1);
  EXPECT_EQ(value("\x80\x02\x89."s).integer, 0);
  EXPECT_EQ(value("\x80\x02K\xff."s).integer, 255);
  EXPECT_EQ(value("\x80\x02M\xff\xff."s).integer, 65535);
  EXPECT_EQ(value("\x80\x02J\xfe\xff\xff\xff."s).integer, -2);
  EXPECT_EQ(value("\x80\x02\x8a\x00."s).integer, 0);
  EXPECT_EQ(value("\x80\x02\x8a\x01\xff."s).integer, -1);
  EXPECT_EQ(value("\x80\x02\x8a\x02\xff\x00."s).integer, 255);
  EXPECT_EQ(value("\x80\x02\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."s).integer, INT64_MIN);
  EXPECT_EQ(value("\x80\x02\x8b\x01\x00\x00\x00\x05."s).integer, 5);
  EXPECT_TRUE(value("\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."s).is(Kind::big_integer));
  EXPECT_EQ(value("\x80\x02G\x3f\xe8\x00\x00\x00\x00\x00\x00."s).real, 0.75);
  const std::string text[] = {"\x80\x02X\x02\x00\x00\x00hi."s, "\x80\x04\x8c\x02hi."s, "\x80\x02U\x02hi."s,
                              "\x80\x04\x8d\x02\x00\x00\x00\x00\x00\x00\x00hi."s};
  for (const std::string& t : text) EXPECT_EQ(value(t).text(), "hi");
  EXPECT_TRUE(value("\x80\x03"s + "C\x02hi."s).is(Kind::bytes));
}

TEST(Pickle, ReadsContainers) {
  const std::string pickle =
      "\x80\x02(K\x01](K\x02K\x03"
      "e}(X\x01\x00\x00\x00kK\x04uK\x05\x85t."s;
  const auto p = read(pickle);
  ASSERT_TRUE(p.ok()) << p.error().message;
  const auto top = p->items(p->root());
  ASSERT_EQ(top.size(), 4u);
  EXPECT_EQ(top[0].integer, 1);
  ASSERT_EQ(p->items(top[1]).size(), 2u);
  EXPECT_EQ(p->items(top[1])[1].integer, 3);
  ASSERT_EQ(p->items(top[2]).size(), 2u);
  EXPECT_EQ(p->items(top[2])[0].text(), "k");
  EXPECT_EQ(p->items(top[2])[1].integer, 4);
  EXPECT_EQ(p->items(top[3])[0].integer, 5);
  EXPECT_EQ(p->end(), pickle.size());
  const std::string old =
      "\x80\x02(K\x01K\x02l(K\x07K\x08"
      "d\x86."s;  // LIST and DICT take their items from the mark
  const auto q = read(old);
  ASSERT_TRUE(q.ok()) << q.error().message;
  EXPECT_EQ(q->items(q->items(q->root())[0]).size(), 2u);
  EXPECT_EQ(q->items(q->items(q->root())[1])[1].integer, 8);
}

TEST(Pickle, SharedContainersStayShared) {
  // x = []; (x, x) with an item appended through the memo afterwards
  const std::string pickle =
      "\x80\x02]q\x05h\x05\x86q\x06h\x05K\x09"
      "a\x86."s;
  const auto p = read(pickle);
  ASSERT_TRUE(p.ok()) << p.error().message;
  const auto pair = p->items(p->items(p->root())[0]);
  EXPECT_EQ(p->items(pair[0]).size(), 1u);
  EXPECT_EQ(p->items(pair[1])[0].integer, 9);
}

TEST(Pickle, CallsBecomeValues) {
  const std::string pickle =
      "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x03"
      "a.b\x94\x8c\x04make\x94\x93\x94K\x07\x85R}b."s;
  const auto p = read(pickle);
  ASSERT_TRUE(p.ok()) << p.error().message;
  ASSERT_TRUE(p->root().is(Kind::call));
  EXPECT_EQ(p->items(p->root())[0].integer, 2);
  EXPECT_EQ(p->items(p->items(p->root())[1])[0].integer, 7);
  const std::string dict = PickleBuilder().ordered_dict().text("k").raw("N").set().stop();
  EXPECT_TRUE(value(dict).is(Kind::dict));
  const std::string persistent = PickleBuilder().text("id").raw("Q").stop();
  const auto q = read(persistent);
  ASSERT_TRUE(q.ok());
  ASSERT_EQ(q->persistent().size(), 1u);
  EXPECT_EQ(q->items(q->root())[0].text(), "id");
}

TEST(Pickle, OtherGlobalsAreNamedWithTheirPlace) {
  expect_error(PickleBuilder().global("os", "system").text("rm -rf /").raw("\x85R").stop(), "\"os.system\"");
  expect_error(PickleBuilder().global("os", "system").stop(), "at byte 2 (f)");
  expect_error("\x80\x04\x8c\x02os\x8c\x06system\x93."s, "\"os.system\"");
  expect_error(
      "\x80\x04\x8c\x08"
      "builtins\x8c\x04"
      "eval\x93."s,
      "\"builtins.eval\", which is no part of a weights file, at byte 18");
  expect_error(PickleBuilder().global("collections OrderedDict", "").stop(), "no part of a weights file");
  expect_error(PickleBuilder().global("", "collections OrderedDict").stop(), "no part of a weights file");
  expect_error(PickleBuilder().global("a\x1b[31m", "b\nc").stop(), "\"a\\x1b[31m.b\"");
  expect_error(
      "\x80\x02"
      "c"s +
          std::string(500, 'x'),
      "has no end");
}

TEST(Pickle, OtherOpcodesAreErrors) {
  // Memo and numbers as text (protocol 0), objects, extension registry, sets, buffers: weights need none of
  // them.
  for (const char op : "IFLSVigpP02\x81\x82\x83\x84\x8f\x90\x91\x92\x96\x97\x98o"s) {
    expect_error("\x80\x02NNN"s + op + "...."s, "opcode " + std::to_string(static_cast<unsigned char>(op)));
  }
  expect_error("N."s, "no pickle");
  expect_error("\x80\x01N."s, "protocol 1");
  expect_error("\x80\x06N."s, "protocol 6");
}

TEST(Pickle, MalformedStacksAreErrors) {
  expect_error("\x80\x02."s, "unused values");
  expect_error("\x80\x02NN."s, "unused values");
  expect_error("\x80\x02(N."s, "unused values");
  expect_error("\x80\x02N"s, "no end");
  for (const char* ops : {"\x85.", "N\x86.", "NN\x87.", "a.", "]a.", "s.", "}s.", "}Ns.", "q\x01.", "R.",
                          "NR.", "b.", "Q.", "\x93.", "K\x01(\x85.", "](a.", "N(q\x01."}) {
    expect_error("\x80\x02"s + ops, "not there");
  }
  for (const char* ops : {"t.", "e.", "u.", "l.", "d."})
    expect_error("\x80\x02N"s + ops, "a mark that is not there");
  expect_error("\x80\x02}Na."s, "adds items");
  expect_error("\x80\x02]NNs."s, "adds items");
  expect_error("\x80\x02}(NNNu."s, "has no value");
  expect_error("\x80\x02h\x07."s, "no entry 7");
  expect_error("\x80\x02Nq\x09h\x07."s, "no entry 7");
  expect_error("\x80\x02NNb."s, "attributes");
  expect_error("\x80\x02N)R."s, "calls a value");
  expect_error(PickleBuilder().global("a.b", "make").raw("NR").stop(), "calls a value");
  expect_error(PickleBuilder().global("collections", "OrderedDict").raw("]\x85R").stop(), "unknown way");
}

TEST(Pickle, LyingLengthsAreErrors) {
  for (const std::string& ops :
       {"X\xff\xff\xff\xff"s, "\x8c\xff"s, "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"s, "B\xff\xff\xff\x7f"s,
        "\x8e\x00\x00\x00\x00\x00\x00\x00\x80"s, "\x8a\x09"s, "\x8b\xff\xff\xff\xff"s}) {
    expect_error("\x80\x02" + ops + "abc.", "longer than the pickle");
  }
  expect_error("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff."s, "frame is longer");
  for (const char* op : {"J\x01", "M\x01", "G\x01", "K", "X\x01", "r\x01", "q", "\x8a", "\x80"}) {
    expect_error("\x80\x02"s + op, "cut short");
  }
}

TEST(Pickle, HugeCountsAreErrors) {
  expect_error("\x80\x02" + std::string(2000, 'N') + ".", "more than 1000 values");
  expect_error("\x80\x02" + std::string(2000, '(') + ".", "more than 1000 values");
  expect_error("\x80\x02" + std::string(2000, ']') + ".", "more than 1000 values");
  expect_error("\x80\x02Nr\xff\xff\xff\xff."s, "memo has more than 1000");
  std::string nested = "\x80\x02)"s;
  for (int i = 0; i < 900; ++i) nested += '\x85';
  EXPECT_TRUE(read(nested + ".").ok());  // depth alone costs nothing
}

TEST(Pickle, EveryTruncationIsAnError) {
  const std::string pickle = test::two_tensors();
  constexpr std::string_view names[] = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2",
                                        "torch FloatStorage", "torch HalfStorage"};
  ASSERT_TRUE(Pickle::read(bytes_of(pickle), 0, pickle.size(), names, 1000, "f").ok());
  for (std::size_t n = 0; n < pickle.size(); ++n) {
    EXPECT_FALSE(Pickle::read(bytes_of(pickle), 0, n, names, 1000, "f").ok()) << n;
  }
}

}  // namespace
}  // namespace fr
