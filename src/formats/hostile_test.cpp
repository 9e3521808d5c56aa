// Damaged and hostile files: at least a thousand of each form must end in a named error, or load with every
// view inside the file; quickly, and without allocating more than 64 MB above the size of the file.
#include "formats/hostile.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "formats/formats.h"
#include "formats/fr_msgpack.h"
#include "formats/hf_directory.h"
#include "formats/pth.h"
#include "formats/rwkv_bin.h"
#include "formats/safetensors.h"

namespace fr {
namespace {

using test::bytes_of;
using test::check;
using test::counting;
using test::damaged;
using test::le;
using test::PickleBuilder;
using test::Storage;
using namespace std::string_literals;

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

TEST(Hostile, DamagedRwkvCppFiles) {
  const auto tensor = [](const std::string& name, std::uint32_t format, std::vector<std::uint32_t> sizes,
                         const std::string& data) {
    std::string out =
        le(static_cast<std::uint32_t>(sizes.size())) + le(static_cast<std::uint32_t>(name.size()));
    out += le(format);
    for (const std::uint32_t n : sizes) out += le(n);
    return out + name + data;
  };
  std::string good;
  for (const std::uint32_t n : {0x67676d66u, 101u, 2u, 3u, 1u, 9u}) good += le(n);
  good += tensor("emb.weight", 0, {3, 2}, counting(1.0f, 6));
  good += tensor("blocks.0.att.x_rwkvag", 0, {2, 1, 6}, counting(1.0f, 12));
  good += tensor("blocks.0.att.r_k", 0, {1, 3}, counting(1.0f, 3));
  good += tensor("blocks.0.att.w1", 9, {32, 2}, std::string(68, 'q'));
  ASSERT_TRUE(check(parse_rwkv_bin, good));
  std::size_t cuts = 0;  // between two tensors a cut is not seen here, but by the model
  for (std::size_t n = 0; n < good.size(); ++n) cuts += !check(parse_rwkv_bin, good.substr(0, n));
  EXPECT_EQ(cuts, good.size() - 3);
  std::mt19937_64 random(6);
  std::size_t refused = 0;
  for (int i = 0; i < 2000; ++i) refused += !check(parse_rwkv_bin, damaged(good, random));
  EXPECT_GT(refused, 1000u);
}

TEST(Hostile, DamagedLayouts) {
  std::mt19937_64 random(7);
  const std::filesystem::path folder = FR_SOURCE_DIR "/src/formats/testdata/layouts";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string good{std::istreambuf_iterator<char>(in), {}};
    const bool bin = entry.path().extension() == ".bin";
    for (int i = 0; i < 100; ++i) {
      std::string f = good;
      const std::size_t begin = random() % (bin ? 200 : 4000);  // mostly among the names and shapes
      f.replace(begin, 400, damaged(good.substr(begin, 400), random));
      check(bin ? parse_rwkv_bin : parse_safetensors, f);
    }
  }
}

TEST(Hostile, DamagedIndexesAndConfigs) {
  std::mt19937_64 random(8);
  const std::string index =
      R"({"metadata":{"total_size":12},"weight_map":{"a.weight":"model-1.safetensors","b":"model-2.safetensors"}})";
  const std::string config =
      R"({"architectures":["RWKV7ForCausalLM"],"model_type":"rwkv7","head_dim":64,"norm_eps":1e-05,"attn":null})";
  std::size_t refused = 0;
  const auto expect_good = [&](const auto& result) {
    refused += !result.ok();
    if (!result.ok()) {
      EXPECT_TRUE(test::is_good_message(result.error(), "f")) << result.error().message;
    }
  };
  for (int i = 0; i < 1000; ++i) {
    const std::string f = damaged(index, random);
    const auto files = read_shard_index(f, "f");
    expect_good(files);
    if (files.ok()) {
      for (const auto& [tensor, file] : *files) EXPECT_EQ(file.find('/'), file.npos);
    }
    expect_good(read_model_config(damaged(config, random), "f"));
  }
  EXPECT_GT(refused, 800u);
}

TEST(Hostile, DamagedFr) {
  using test::packed_list, test::packed_map, test::packed_tensor;
  std::mt19937_64 random(7);
  const std::string row = packed_tensor("torch.float16", "abcd", {2}),
                    three = packed_tensor("torch.float16", "abcdef", {3});
  const std::string model = packed_map(
      {{"embd_weights", packed_list({row, row, row})},
       {"weights",
        packed_map({{"blocks.0.ln1.weight", row},
                    {"blocks.0.att.ln_x.weight", row},
                    {"blocks.0.att.time_decay", packed_tensor("torch.float32", counting(1.0f, 2), {2, 1, 1})},
                    {"blocks.0.att.time_first", packed_tensor("torch.float32", counting(1.0f, 2), {2, 1, 1})},
                    {"head.weight", packed_tensor("torch.uint8", "abcdef", {2, 3})},
                    {"head.weight_mx", three},
                    {"head.weight_my", row},
                    {"head.weight_rx", three},
                    {"head.weight_ry", row}})},
       {"version",
        "\xa3"
        "5.1"},
       {"n_layer", "\1"},
       {"n_embd", "\2"}});
  const std::string part = packed_tensor("torch.float32", counting(1.0f, 2), {2});
  const std::string state = packed_list({packed_list({part, part, part}), packed_list({part, part, part})});
  for (const std::string& good : {model, state}) {
    ASSERT_TRUE(check(parse_fr, good));
    for (std::size_t n = 0; n < good.size(); ++n)
      EXPECT_FALSE(check(parse_fr, good.substr(0, n))) << "cut at " << n;
    std::size_t refused = 0;
    for (int i = 0; i < 2000; ++i) refused += !check(parse_fr, damaged(good, random));
    EXPECT_GT(refused, 1200u);
  }
}

TEST(Hostile, FrFilesThatClaimMuch) {
  using test::packed_map, test::packed_tensor;
  const std::string empty = packed_tensor("torch.float32", "", {0});
  std::string rows = "\xdd" + std::string("\0\x0f\xff\xff", 4), names;
  for (int i = 0; i < 100'000; ++i) rows += packed_tensor("torch.uint8", "a", {1});
  EXPECT_FALSE(check(parse_fr, packed_map({{"embd_weights", rows}})));  // a million rows
  pack_map(names, 100'000);
  for (int i = 0; i < 100'000; ++i) {
    pack_text(names, std::to_string(i));
    names += empty;
  }
  EXPECT_FALSE(check(parse_fr, packed_map({{"weights", names}})));
  for (const char* head : {"\xdf\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff",
                           "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff"}) {
    EXPECT_FALSE(check(parse_fr, packed_map({{"x", std::string(head) + std::string(100, '\1')}})));
  }
  EXPECT_FALSE(check(parse_fr, packed_map({{"x", std::string(10'000'000, '\x91')}})));
  EXPECT_FALSE(check(parse_fr, packed_map({{std::string(10'000'000, 'n'), "\1"}})));
}

TEST(Hostile, DamagedFilesOnDisk) {
  std::mt19937_64 random(5);
  const std::string path =
      std::filesystem::path(testing::TempDir()) / ("fr_hostile_" + std::to_string(::getpid()));
  for (const std::string& good :
       {test::pth_zip(strided_pickle(), six), test::pth_legacy(strided_pickle(), six, 4)}) {
    for (int i = 0; i < 50; ++i) {
      std::ofstream(path, std::ios::binary) << damaged(good, random);
      const auto c = open_checkpoint(path);
      if (c) {
        EXPECT_TRUE(test::views_are_inside(*c, c->files[0]->bytes()));
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
