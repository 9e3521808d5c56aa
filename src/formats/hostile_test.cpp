// Damaged and hostile files: at least a thousand of each form must end in a named error, or load with every
// view inside the file; quickly, and without allocating more than 64 MB above the size of the file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/test_allocations.h"
#include "formats/formats.h"
#include "formats/pth.h"
#include "formats/safetensors.h"
#include "formats/test_files.h"

#ifdef FR_SANITIZED  // slow
constexpr double seconds_allowed = 60;
#else
constexpr double seconds_allowed = 5;
#endif

namespace fr {
namespace {

using test::bytes_of;
using test::counting;
using test::le;
using test::PickleBuilder;
using test::Storage;
using namespace std::string_literals;

using Parse = Result<Checkpoint> (*)(std::span<const std::byte>, std::string_view);

// What must hold for any bytes. Says whether they were read.
bool check(Parse parse, const std::string& file, const Checkpoint* must_equal = nullptr) {
  const std::size_t before = test::live_bytes;
  test::peak_bytes = before;
  const std::clock_t start = std::clock();  // processor time: the machine may be busy
  bool ok = false;
  {
    const auto c = parse(bytes_of(file), "f");
    ok = c.ok();
    if (!ok) {
      EXPECT_TRUE(test::is_good_message(c.error(), "f")) << c.error().message;
      EXPECT_LT(c.error().message.size(), 600u);
      EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
    } else {
      EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
      for (const TensorView& t : c->tensors) {
        EXPECT_LE(static_cast<std::uint64_t>(t.size()) * dtype_size(t.dtype), file.size());
        if (is_weight_dtype(t.dtype) && t.size() < 1000)
          test::values_of(t);  // reads each element, for the sanitizers
      }
      if (must_equal != nullptr) {
        EXPECT_EQ(c->tensors.size(), must_equal->tensors.size());
        for (std::size_t i = 0; i < std::min(c->tensors.size(), must_equal->tensors.size()); ++i) {
          const TensorView &a = c->tensors[i], &b = must_equal->tensors[i];
          EXPECT_TRUE(a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.stride == b.stride);
        }
      }
    }
  }
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, seconds_allowed);
  EXPECT_LE(test::peak_bytes - before, file.size() + (std::size_t{64} << 20));
  return ok;
}

// One of many small damages to a right file: a cut, a lying field, flipped bits, a doubled, dropped or moved
// part.
std::string damaged(const std::string& good, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string f = good;
  const std::size_t at = below(f.size());
  switch (below(8)) {
    case 0:
      return f.substr(0, at);
    case 1:
      f[at] = static_cast<char>(f[at] ^ (1 << below(8)));
      return f;
    case 2:
      f[at] = static_cast<char>(random());
      return f;
    case 3:
      return f.erase(at, 1 + below(16));
    case 4:
      return f.insert(at, f.substr(below(f.size()), 1 + below(64)));
    case 5:
      return f.insert(at, below(40), static_cast<char>(random()));
    case 6:
      f[at] = static_cast<char>(f[at] + 1 - 2 * static_cast<int>(below(2)));
      return f;
    default: {
      constexpr std::uint64_t values[] = {0,
                                          1,
                                          0x7f,
                                          0xff,
                                          0x7fff,
                                          0xffff,
                                          0x7fffffff,
                                          0xffffffff,
                                          0x7fffffffffffffff,
                                          0x8000000000000000,
                                          0xfffffffffffffff0,
                                          0xffffffffffffffff};
      const std::size_t width = std::size_t{1} << below(4);
      const std::string field = le(values[below(std::size(values))]).substr(0, width);
      return f.replace(at, std::min(width, f.size() - at), field);
    }
  }
}

std::string strided_pickle() {
  PickleBuilder p;
  p.ordered_dict().text("blocks.0.att.key.weight").tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3}).set();
  p.text("emb.weight").tensor("FloatStorage", "0", 6, 2, {2}, {1}).set();
  return p.text("_strategy").text("cpu fp32").set().stop();
}
const std::vector<Storage> six = {{"0", counting(0.0f, 6)}};

// ---- the thousands

TEST(Hostile, DamagedZipFiles) {
  // The pickle has a checksum, so whatever still loads must be the same index: only payload or unused fields
  // differ.
  std::mt19937_64 random(1);
  std::size_t refused = 0;
  for (const bool zip64 : {false, true}) {
    const std::string good = test::pth_zip(strided_pickle(), six,
                                           {.zip64_end = zip64, .zip64_entry = zip64, .descriptor = !zip64});
    const auto original = parse_pth(bytes_of(good), "f");
    ASSERT_TRUE(original.ok()) << original.error().message;
    for (std::size_t n = 0; n < good.size(); ++n)
      EXPECT_FALSE(check(parse_pth, good.substr(0, n))) << "cut at " << n;
    for (std::size_t n = 0; n < good.size(); ++n) {
      std::string f = good;
      f[n] = static_cast<char>(f[n] ^ 0x81);
      check(parse_pth, f, &*original);
    }
    for (int i = 0; i < 1000; ++i) refused += !check(parse_pth, damaged(good, random), &*original);
  }
  EXPECT_GT(refused, 1200u);
}

TEST(Hostile, DamagedLegacyFiles) {
  std::mt19937_64 random(2);
  const std::string good = test::pth_legacy(strided_pickle(), six, 4);
  ASSERT_TRUE(check(parse_pth, good));
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(check(parse_pth, good.substr(0, n))) << "cut at " << n;
  std::size_t refused = 0;
  for (int i = 0; i < 2000; ++i) refused += !check(parse_pth, damaged(good, random));
  EXPECT_GT(refused, 1000u);
}

TEST(Hostile, DamagedPicklesInRightArchives) {
  // Behind a right checksum, so that the pickle reader sees the damage.
  std::mt19937_64 random(3);
  const std::string good = strided_pickle();
  std::size_t refused = 0;
  for (int i = 0; i < 2000; ++i) refused += !check(parse_pth, test::pth_zip(damaged(good, random), six));
  EXPECT_GT(refused, 1000u);
}

TEST(Hostile, DamagedSafetensors) {
  std::mt19937_64 random(4);
  const std::string good = test::safetensors(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[1,1,2],"data_offsets":[24,28]},"c":{"dtype":"I64","shape":[],"data_offsets":[28,36]}}   )",
      counting(1.0f, 9));
  ASSERT_TRUE(check(parse_safetensors, good));
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(check(parse_safetensors, good.substr(0, n))) << "cut at " << n;
  std::size_t refused = 0;
  for (int i = 0; i < 2000; ++i) refused += !check(parse_safetensors, damaged(good, random));
  EXPECT_GT(refused, 1200u);
}

TEST(Hostile, DamagedFilesOnDisk) {
  std::mt19937_64 random(5);
  const std::string path = std::filesystem::path(testing::TempDir()) / "fr_hostile";
  for (const std::string& good :
       {test::pth_zip(strided_pickle(), six), test::pth_legacy(strided_pickle(), six, 4)}) {
    for (int i = 0; i < 50; ++i) {
      std::ofstream(path, std::ios::binary) << damaged(good, random);
      const auto c = open_checkpoint(path);
      if (c) {
        EXPECT_TRUE(test::views_are_inside(*c, c->file->bytes()));
      } else {
        EXPECT_TRUE(test::is_good_message(c.error(), path)) << c.error().message;
      }
    }
  }
  std::filesystem::remove(path);
}

// ---- attacks on time and memory

void expect_refused_pickle(const std::string& pickle) {
  EXPECT_FALSE(check(parse_pth, test::pth_zip(pickle, six)));
  EXPECT_FALSE(check(parse_pth, test::pth_legacy(pickle, six, 4)));
  EXPECT_FALSE(check(parse_pth, test::legacy_magic + pickle));
}

std::string repeated(std::string_view part, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += part;
  return out;
}

TEST(Hostile, PicklesThatRunCode) {
  const std::pair<const char*, const char*> calls[] = {{"os", "system"},
                                                       {"posix", "system"},
                                                       {"builtins", "eval"},
                                                       {"builtins", "exec"},
                                                       {"__builtin__", "getattr"},
                                                       {"subprocess", "Popen"},
                                                       {"torch", "load"},
                                                       {"torch.hub", "load"},
                                                       {"torch._utils", "_rebuild_qtensor"},
                                                       {"collections", "OrderedDict.__init__"},
                                                       {"numpy.core.multiarray", "_reconstruct"}};
  for (const auto& [module, name] : calls) {
    PickleBuilder p;
    expect_refused_pickle(p.global(module, name).text("touch /tmp/x").raw("\x85R").stop());
    const auto c = parse_pth(bytes_of(test::pth_zip(p.stop(), {})), "f");
    ASSERT_FALSE(c.ok());
    EXPECT_NE(c.error().message.find(module + "."s + name), std::string::npos) << c.error().message;
    EXPECT_NE(c.error().message.find("at byte"), std::string::npos) << c.error().message;
    PickleBuilder inside;  // as the value of an entry, after a right one
    inside.empty_dict().text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).set().text("x");
    expect_refused_pickle(inside.global(module, name).raw(")R").set().stop());
  }
}

TEST(Hostile, PicklesThatGrow) {
  constexpr std::size_t many = 2'000'000;
  for (const char* op : {"N", "(", "]", "}", ")", "K\x01", "]a", "N\x85", ")Q", "U\0"}) {
    expect_refused_pickle("\x80\x02" +
                          repeated(std::string_view(op, op[0] == 'U' ? 2 : std::strlen(op)), many) + ".");
  }
  expect_refused_pickle("\x80\x02]" +
                        repeated("K\x01"
                                 "a",
                                 many) +
                        ".");                                         // one long list
  expect_refused_pickle("\x80\x02)" + repeated("\x85", many) + ".");  // deep nesting
  expect_refused_pickle("\x80\x02](" + repeated("]", 250'000) + "e" + repeated("]", 260'000));  // many lists
  expect_refused_pickle("\x80\x02](" + repeated("](Ne", 120'000) + "e.");  // many lists with an item
  expect_refused_pickle("\x80\x02Nr" + le<std::uint32_t>((1u << 19) - 1) + repeated("]", 520'000) + ".");
  expect_refused_pickle("\x80\x02Nr" + le<std::uint32_t>(0xfffffff0) + ".");
  // A billion laughs: each list holds the one before ten times.
  std::string laughs = "\x80\x02]q\0"s;
  for (char i = 0; i < 100; ++i) laughs += "](" + repeated("h"s + i, 10) + "eq" + static_cast<char>(i + 1);
  expect_refused_pickle(laughs + ".");
  expect_refused_pickle("\x80\x02]q\0h\0ah\0ah\0a."s);  // a list that holds itself
}

TEST(Hostile, DictsOfManyEntries) {
  for (const std::size_t n : {std::size_t{30'000}, std::size_t{60'000}, std::size_t{200'000}}) {
    PickleBuilder p;
    p.empty_dict()
        .text("first")
        .tensor("FloatStorage", "0", 6, 0, {1, 1, 1, 1, 1, 1, 1, 6}, {1, 1, 1, 1, 1, 1, 1, 1})
        .raw("q\x01s(");
    for (std::size_t i = 0; i < n; ++i) p.text(std::to_string(i)).raw("h\x01");
    EXPECT_EQ(check(parse_pth, test::pth_zip(p.raw("u").stop(), six)), n < 32768) << n;
  }
  PickleBuilder names;  // names as long as allowed
  names.empty_dict().text("first").tensor("FloatStorage", "0", 6, 0, {6}, {1}).raw("q\x01s(");
  for (std::size_t i = 0; i < 32'000; ++i)
    names.text(std::to_string(i) + std::string(1000, 'n')).raw("h\x01");
  EXPECT_TRUE(check(parse_pth, test::pth_zip(names.raw("u").stop(), six)));
  PickleBuilder texts;  // one long text as the value of many entries
  texts.empty_dict().text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).set();
  texts.text("t").text(std::string(1 << 20, 't')).raw("q\x01s(");
  for (std::size_t i = 0; i < 100'000; ++i) texts.text(std::to_string(i)).raw("h\x01");
  EXPECT_TRUE(check(parse_pth, test::pth_zip(texts.raw("u").stop(), six)));
  PickleBuilder long_name;
  long_name.empty_dict().text(std::string(10 << 20, 'n')).tensor("FloatStorage", "0", 6, 0, {6}, {1});
  EXPECT_FALSE(check(parse_pth, test::pth_zip(long_name.set().stop(), six)));
}

TEST(Hostile, ArchivesOfManyEntries) {
  for (const std::size_t n : {std::size_t{60'000}, std::size_t{200'000}}) {
    test::ZipBuilder zip({.zip64_end = true});
    zip.add("m/data.pkl", strided_pickle());
    zip.add("m/data/0", six[0].data);
    for (std::size_t i = 0; i < n; ++i) zip.add("m/data/x" + std::to_string(i), "");
    EXPECT_EQ(check(parse_pth, zip.finish()), n < 65536) << n;
  }
  // The same local file under many names of the directory.
  const std::string good = test::pth_zip(strided_pickle(), six);
  const std::size_t central = good.find("PK\1\2"), end = good.find("PK\5\6");
  const std::string entry = good.substr(central, good.find("PK\1\2", central + 4) - central);
  const std::string directory = repeated(entry, 1000);
  const auto size = static_cast<std::uint32_t>(directory.size()),
             offset = static_cast<std::uint32_t>(central);
  EXPECT_FALSE(check(parse_pth, good.substr(0, central) + directory + good.substr(end, 8) +
                                    le<std::uint16_t>(1000) + le<std::uint16_t>(1000) + le(size) +
                                    le(offset) + le<std::uint16_t>(0)));
}

TEST(Hostile, HeadersThatGrow) {
  constexpr std::size_t huge = 24'000'000;
  const auto refused = [](const std::string& header) {
    EXPECT_FALSE(check(parse_safetensors, test::safetensors(header, "")));
  };
  refused("{\"x\":{\"shape\":" + std::string(huge, '['));
  refused("{\"x\":" + repeated("{\"x\":", 200'000));
  refused("{\"" + std::string(huge, 'n'));
  refused("{\"" + std::string(huge, 'n') + "\":1}");
  refused("{\"" + repeated("\\u0041", huge / 6) + "\":1}");
  refused("{\"x\":" + std::string(huge, '1') + "}");
  refused("{" + std::string(huge, '\n') + "}");
  refused("{\"__metadata__\":{\"x\":\"" + std::string(huge, 'v') + "\"}}");
  refused("{\"__metadata__\":{\"x\":\"" + std::string(4'000'000, 'v') +
          "\"}}");  // allowed, but there is no tensor
  refused("{\"x\":{\"dtype\":\"" + std::string(4'000'000, 'd') + "\"}}");
  refused("{\"x\":{\"shape\":[" + repeated("1,", huge / 2) + "1]}}");
  std::string metadata = "{\"__metadata__\":{\"x\":\"\"",
              tensors = "{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  for (std::size_t i = 0; i < 200'000; ++i) metadata += ",\"" + std::to_string(i) + "\":\"\"";
  refused(metadata + "}}");
  for (std::size_t i = 0; i < 100'000; ++i) {
    tensors += ",\"" + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  }
  refused(tensors + "}");
}

TEST(Hostile, HeadersAtTheLimitAreRead) {
  std::string header = "{\"__metadata__\":{\"x\":\"" + std::string(4'000'000, 'v') + "\"";
  for (std::size_t i = 0; i < 65'000; ++i)
    header += ",\"" + std::to_string(i) + "\":\"" + std::string(16, 'v') + "\"";
  header += "}";
  for (std::size_t i = 0; i < 32'000; ++i) {
    header += ",\"" + std::string(1000, 'n') + std::to_string(i) +
              "\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,0],\"data_offsets\":[0,0]}";
  }
  EXPECT_TRUE(check(parse_safetensors, test::safetensors(header + "}" + std::string(10'000'000, ' '), "")));
}

}  // namespace
}  // namespace fr
