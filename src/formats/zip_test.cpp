#include "formats/zip.h"

#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace fr {
namespace {

using test::bytes_of;
using test::le;
using test::ZipBuilder;
using test::ZipOptions;

std::string two_entries(const ZipOptions& options = {}) {
  ZipBuilder zip(options);
  zip.add("top/first", "hello");
  zip.add("top/second", "wide world");
  return zip.finish();
}

std::string_view text(const ZipEntry& entry) {
  return {reinterpret_cast<const char*>(entry.data.data()), entry.data.size()};
}

void expect_two_entries(const std::string& file) {
  const auto zip = ZipArchive::open(bytes_of(file), "f");
  ASSERT_TRUE(zip.ok()) << zip.error().message;
  ASSERT_EQ(zip->entries().size(), 2u);
  EXPECT_EQ(text(zip->entries()[0]), "hello");
  const ZipEntry* second = zip->find("top/second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(text(*second), "wide world");
  EXPECT_TRUE(crc_matches(*second));
  EXPECT_EQ(zip->find("top/third"), nullptr);
}

void expect_error(const std::string& file, std::string_view part) {
  const auto zip = ZipArchive::open(bytes_of(file), "f");
  ASSERT_FALSE(zip.ok()) << "wanted: " << part;
  EXPECT_NE(zip.error().message.find(part), std::string::npos) << zip.error().message;
  EXPECT_TRUE(test::is_good_message(zip.error(), "f")) << zip.error().message;
}

// Replaces the bytes at a distance from the end (negative) or the beginning.
std::string with(std::string file, std::ptrdiff_t at, const std::string& bytes) {
  const auto p = static_cast<std::size_t>(at < 0 ? static_cast<std::ptrdiff_t>(file.size()) + at : at);
  return file.replace(p, bytes.size(), bytes);
}

TEST(Zip, Crc32IsTheOneOfTheStandard) {
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926u);
  EXPECT_EQ(crc32(bytes_of("")), 0u);
  const std::string text = "the polynomial is reversed, and so is the register";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc32(bytes_of(text.substr(cut)), crc32(bytes_of(text.substr(0, cut)))), crc32(bytes_of(text)));
  }
}

TEST(Zip, ReadsEveryFormOfStoredEntries) {
  expect_two_entries(two_entries());
  expect_two_entries(two_entries({.zip64_end = true}));
  expect_two_entries(two_entries({.zip64_end = true, .zip64_entry = true}));
  expect_two_entries(two_entries({.zip64_end = true, .descriptor = true}));
  expect_two_entries(two_entries({.comment = std::string("PK\5\6 in a comment, and more than 22 bytes")}));
}

TEST(Zip, SkipsDirectories) {
  ZipBuilder zip;
  zip.add("top/", "");
  zip.add("top/x", "1");
  const std::string file = zip.finish();
  const auto archive = ZipArchive::open(bytes_of(file), "f");
  ASSERT_TRUE(archive.ok());
  EXPECT_EQ(archive->entries().size(), 1u);
}

TEST(Zip, EveryTruncationIsAnError) {
  for (const bool zip64 : {false, true}) {
    const std::string file = two_entries({.zip64_end = zip64});
    for (std::size_t n = 0; n < file.size(); ++n) {
      EXPECT_FALSE(ZipArchive::open(bytes_of(file.substr(0, n)), "f").ok()) << n;
    }
  }
  expect_error(two_entries().substr(0, 40), "missing");
}

TEST(Zip, RefusesWhatPyTorchDoesNotWrite) {
  expect_error(two_entries({.method = 8}), "\"top/first\" is compressed");
  expect_error(two_entries({.flags = 1}), "\"top/first\" is encrypted");
  expect_error(two_entries({.flags = 1 << 5}), "is compressed");
}

TEST(Zip, RefusesNamesThatLeaveTheArchive) {
  const std::string names[] = {"../x", "a/../x", "/x", "a\\x", "..", "a/..", "", std::string("a\0b", 3)};
  for (const std::string& name : names) {
    ZipBuilder zip;
    zip.add(name, "1");
    expect_error(zip.finish(), "leaves the archive");
  }
  ZipBuilder fine;
  fine.add("a..b/..c", "1");
  EXPECT_TRUE(ZipArchive::open(bytes_of(fine.finish()), "f").ok());
}

TEST(Zip, RefusesDuplicateNames) {
  ZipBuilder zip;
  zip.add("top/same", "1");
  zip.add("top/same", "2");
  expect_error(zip.finish(), "\"top/same\" occurs more than once");
}

TEST(Zip, RefusesOverlappingEntries) {
  // The second entry of the directory points at the first local header; names must match, so both have one
  // name length: a copy of the first header stands inside the data of an outer entry.
  ZipBuilder inner;
  inner.add("b", "12");
  const std::string local = inner.finish().substr(0, 30 + 1 + 4 + 2);
  ZipBuilder outer;
  outer.add("a", local);
  outer.add("b", "12");
  const std::string file = outer.finish();
  expect_error(with(file, -22 - 5 - 1 - 4, le<std::uint32_t>(30 + 1 + 4)), "overlap");
}

TEST(Zip, RefusesLyingEndRecords) {
  const std::string file = two_entries();
  expect_error(with(file, -22 - 5 - 10 - 46, "PK\1\3"), "no entry at byte");
  expect_error(with(file, -22 - 5 - 10 - 46 + 28, le<std::uint16_t>(11)), "runs past the directory");
  expect_error(with(file, -22 + 8, le<std::uint16_t>(1) + le<std::uint16_t>(1)),
               "bytes after its last entry");
  expect_error(with(file, -22 + 8, le<std::uint16_t>(60000) + le<std::uint16_t>(60000)),
               "more entries than fit");
  expect_error(with(file, -22 + 10, le<std::uint16_t>(9)), "split");
  expect_error(with(file, -22 + 12, le(0x7fffffffu)), "does not end where");
  expect_error(with(file, -22 + 16, le(0xfffffff0u)), "does not end where");
}

TEST(Zip, RefusesLyingZip64) {
  const std::string file = two_entries({.zip64_end = true});
  const std::ptrdiff_t locator = -22 - 20, record = locator - 56;
  constexpr std::uint64_t huge = 0xffffffffffffff00;
  expect_error(with(file, locator + 8, le(huge)), "locator");
  expect_error(with(file, locator + 8, le<std::uint64_t>(0)), "locator");
  expect_error(with(file, record + 4, le(huge)), "locator");
  for (const std::ptrdiff_t field : {40, 48})
    expect_error(with(file, record + field, le(huge)), "does not end where");
  expect_error(with(file, record + 24, le(huge) + le(huge)), "more entries than fit");
  expect_error(with(file, -22 + 12, le(1u)), "contradict");
  const std::string wide = two_entries({.zip64_end = true, .zip64_entry = true});
  const std::ptrdiff_t size = record - 24;  // the zip64 field of the last entry: size, packed size, offset
  expect_error(with(wide, size, le(huge)), "two sizes differ");
  expect_error(with(wide, size, le(huge) + le(huge)), "larger than the file");
  expect_error(with(wide, size + 16, le(huge)), "outside the file");
  expect_error(with(wide, size - 2, le<std::uint16_t>(20)), "lacks its zip64 sizes");
}

TEST(Zip, RefusesHeadersThatDisagreeWithTheDirectory) {
  const std::string file = two_entries();
  expect_error(with(file, 0, "PK\3\5"), "no matching header");
  expect_error(with(file, 30, "T"), "no matching header");
  expect_error(with(file, 26, le<std::uint16_t>(0xffff)), "no matching header");
  expect_error(with(file, 18, le(4u)), "another size");
  expect_error(with(file, 14, le(4u)), "another size or CRC");
  EXPECT_FALSE(crc_matches({"x", bytes_of("hello"), 4}));
}

}  // namespace
}  // namespace fr
