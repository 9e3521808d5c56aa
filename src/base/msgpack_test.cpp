#include "base/msgpack.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

using namespace std::string_literals;

// As msgpack.packb of Python writes them.
TEST(Msgpack, ShortestForms) {
  const auto packed = [](auto pack, auto value) {
    std::string out;
    pack(out, value);
    return out;
  };
  const std::pair<std::uint64_t, std::string> integers[] = {
      {0, "\0"s},
      {127, "\x7f"},
      {128, "\xcc\x80"},
      {255, "\xcc\xff"},
      {256, "\xcd\1\0"s},
      {65536, "\xce\0\1\0\0"s},
      {std::uint64_t{1} << 32, "\xcf\0\0\0\1\0\0\0\0"s},
  };
  for (const auto& [value, bytes] : integers) EXPECT_EQ(packed(pack_integer, value), bytes) << value;
  EXPECT_EQ(packed(pack_map, 15u), "\x8f");
  EXPECT_EQ(packed(pack_map, 16u), "\xde\0\x10"s);
  EXPECT_EQ(packed(pack_map, 65536u), "\xdf\0\1\0\0"s);
  EXPECT_EQ(packed(pack_array, 15u), "\x9f");
  EXPECT_EQ(packed(pack_array, 300u), "\xdc\1\x2c");
  EXPECT_EQ(packed(pack_text, std::string(31, 'a')), "\xbf" + std::string(31, 'a'));
  EXPECT_EQ(packed(pack_text, std::string(32, 'a')), "\xd9\x20" + std::string(32, 'a'));
  EXPECT_EQ(packed(pack_text, std::string(256, 'a')), "\xda\1\0"s + std::string(256, 'a'));
  EXPECT_EQ(packed(pack_bytes_head, 0), "\xc4\0"s);
  EXPECT_EQ(packed(pack_bytes_head, 256), "\xc5\1\0"s);
  EXPECT_EQ(packed(pack_bytes_head, 0xffffffffu), "\xc6\xff\xff\xff\xff");
}

TEST(Msgpack, ReadsEveryInteger) {
  const std::pair<std::string, std::int64_t> cases[] = {
      {"\x7f", 127},
      {"\xff", -1},
      {"\xe0", -32},
      {"\xcc\xff", 255},
      {"\xcd\xff\xff", 65535},
      {"\xce\xff\xff\xff\xff", 4294967295},
      {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", INT64_MAX},
      {"\xd0\x80", -128},
      {"\xd1\x80\0"s, -32768},
      {"\xd2\xff\xff\xff\xfe", -2},
      {"\xd3\x80\0\0\0\0\0\0\0"s, INT64_MIN},
  };
  for (const auto& [bytes, value] : cases) {
    MsgpackCursor cursor(bytes);
    EXPECT_EQ(cursor.next(), MsgpackCursor::Kind::integer);
    EXPECT_EQ(cursor.integer(), value);
    EXPECT_EQ(cursor.remaining(), 0u);
    MsgpackCursor cut(std::string_view(bytes).substr(0, bytes.size() - 1));
    EXPECT_EQ(cut.integer(), std::nullopt);
  }
}

TEST(Msgpack, SkipsWholeValues) {
  // nil, true, fp32, fp64, fixext 4, ext 8, a map, str 8, bin 16
  const std::string all =
      "\xc0\xc3\xca"
      "abcd\xcb"
      "abcdefgh\xd6"
      "tabcd\xc7\2tab\x81\xa1k\x90\xd9\1s\xc5\0\1b"s;
  const std::string file = "\x99" + all + "\x07";
  MsgpackCursor cursor(file);
  EXPECT_EQ(cursor.next(), MsgpackCursor::Kind::array);
  ASSERT_TRUE(cursor.skip());
  EXPECT_EQ(cursor.integer(), 7);
  for (std::size_t n = 0; n + 1 < file.size(); ++n)
    EXPECT_FALSE(MsgpackCursor(std::string_view(file).substr(0, n)).skip()) << n;
  EXPECT_FALSE(MsgpackCursor("\xc1").skip());
}

TEST(Msgpack, CountsBeyondTheFileAreNoCounts) {
  EXPECT_EQ(MsgpackCursor("\x92\1").array(), std::nullopt);
  EXPECT_EQ(MsgpackCursor("\x92\1\2").array(), 2u);
  EXPECT_EQ(MsgpackCursor("\xdf\xff\xff\xff\xff\1\1").map(), std::nullopt);
  EXPECT_EQ(MsgpackCursor("\xa3"
                          "ab")
                .text(),
            std::nullopt);
  EXPECT_EQ(MsgpackCursor("\xa2"
                          "ab")
                .text(),
            "ab");
  EXPECT_EQ(MsgpackCursor("\xc4\2ab").text(), "ab");
  EXPECT_EQ(MsgpackCursor("").next(), MsgpackCursor::Kind::none);
}

}  // namespace
}  // namespace fr
