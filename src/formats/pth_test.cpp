#include "formats/pth.h"

#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace fr {
namespace {

using test::bytes_of;
using test::counting;
using test::PickleBuilder;
using test::pth_legacy;
using test::pth_zip;
using test::Storage;

void expect_error(const std::string& file, std::string_view part) {
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_FALSE(c.ok()) << "wanted: " << part;
  EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
  EXPECT_TRUE(test::is_good_message(c.error(), "f")) << c.error().message;
  EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
}

void expect_two_tensors(const std::string& file) {
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->format, "pth");
  ASSERT_EQ(c->tensors.size(), 2u);
  EXPECT_EQ(c->tensors[0].name, "a");
  EXPECT_EQ(c->tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(test::values_of(c->tensors[0]), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(c->find("b"), &c->tensors[1]);
  EXPECT_EQ(c->tensors[1].dtype, DType::f16);
  EXPECT_EQ(test::values_of(c->tensors[1])[0], 1.0f);
  EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
}

TEST(Pth, ReadsEveryZipForm) {
  expect_two_tensors(pth_zip(test::two_tensors(), test::two_storages()));
  expect_two_tensors(
      pth_zip(test::two_tensors(), test::two_storages(), {.zip64_end = true, .descriptor = true}));
  expect_two_tensors(
      pth_zip(test::two_tensors(), test::two_storages(), {.zip64_end = true, .zip64_entry = true}));
}

// A legacy file has one width for all storages here, so its second tensor is fp32 too.
std::string one_tensor(std::int64_t offset, const std::vector<std::int64_t>& shape,
                       const std::vector<std::int64_t>& stride, std::int64_t count = 6) {
  return PickleBuilder()
      .empty_dict()
      .text("w")
      .tensor("FloatStorage", "0", count, offset, shape, stride)
      .set()
      .stop();
}
const std::vector<Storage> six = {{"0", counting(0.0f, 6)}};

TEST(Pth, ReadsTheLegacyForm) {
  const std::string file = pth_legacy(one_tensor(0, {2, 3}, {3, 1}), six, 4);
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(test::values_of(c->tensors[0]), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  ASSERT_EQ(c->notes.size(), 1u);
  EXPECT_NE(c->notes[0].find("legacy"), std::string::npos);
  EXPECT_TRUE(verify_pth(bytes_of(file), "f").ok());
}

TEST(Pth, LegacyStorageViews) {
  // ("storage", type, root key, location, root count, (view key, begin, count))
  PickleBuilder p;
  p.empty_dict().text("w").global("torch._utils", "_rebuild_tensor").mark();
  p.mark().text("storage").global("torch", "FloatStorage").text("0").text("cpu").integer(6);
  p.mark()
      .text("1")
      .integer(2)
      .integer(3)
      .tuple()
      .tuple()
      .raw("Q")
      .integer(1)
      .integers({2})
      .integers({1})
      .tuple()
      .reduce()
      .set();
  const std::string file = pth_legacy(p.stop(), six, 4);
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(test::values_of(c->tensors[0]), (std::vector<float>{3, 4}));
}

TEST(Pth, StridesOffsetsAndSharedStorages) {
  PickleBuilder p;
  p.empty_dict();
  p.text("t").tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3}).set();
  p.text("column").tensor("FloatStorage", "0", 6, 1, {2}, {3}).set();
  p.text("scalar").tensor("FloatStorage", "0", 6, 5, {}, {}).set();
  p.text("repeated").tensor("FloatStorage", "0", 6, 2, {3}, {0}).set();
  p.text("empty").tensor("FloatStorage", "0", 6, 6, {3, 0}, {1, 1}).set();
  const std::string file = pth_zip(p.stop(), six);
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(test::values_of(*c->find("t")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(test::values_of(*c->find("column")), (std::vector<float>{1, 4}));
  EXPECT_EQ(test::values_of(*c->find("scalar")), (std::vector<float>{5}));
  EXPECT_EQ(test::values_of(*c->find("repeated")), (std::vector<float>{2, 2, 2}));
  EXPECT_EQ(test::values_of(*c->find("empty")), std::vector<float>());
  EXPECT_EQ(c->find("t")->data, c->find("scalar")->data - 5 * 4);
  EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
}

TEST(Pth, PlainValuesBecomeMetadata) {
  PickleBuilder p;
  p.empty_dict().text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).set();
  p.text("_strategy")
      .text("cuda fp16i8")
      .set()
      .text("_rescale_layer")
      .integer(6)
      .set()
      .text("_flag")
      .raw("\x88")
      .set();
  p.text("_version").raw(std::string_view("G\x3f\xe6\x66\x66\x66\x66\x66\x66", 9)).set();  // 0.7
  p.text("list").raw("]").set().integer(5).raw("N").set();
  const std::string file = pth_zip(p.stop(), six);
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(
      c->metadata,
      (std::map<std::string, std::string>{
          {"_strategy", "cuda fp16i8"}, {"_rescale_layer", "6"}, {"_flag", "true"}, {"_version", "0.7"}}));
  ASSERT_EQ(c->notes.size(), 1u);
  EXPECT_NE(c->notes[0].find("plain values: 2"), std::string::npos);
}

TEST(Pth, WrappedStateDicts) {
  for (const char* wrapper : {"state_dict", "model", "module"}) {
    PickleBuilder p;
    p.empty_dict().text("epoch").integer(3).set().text(wrapper).ordered_dict();
    p.text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).set().set();
    const std::string file = pth_zip(p.stop(), six);
    const auto c = parse_pth(bytes_of(file), "f");
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_NE(c->find("w"), nullptr);
    EXPECT_EQ(c->metadata.at("epoch"), "3");
    ASSERT_EQ(c->notes.size(), 1u);
    EXPECT_NE(c->notes[0].find(wrapper), std::string::npos);
  }
}

TEST(Pth, TensorsOutsideTheirStorageAreErrors) {
  constexpr std::int64_t big = std::int64_t{1} << 62;
  const auto expect = [](const std::string& pickle, std::string_view part) {
    expect_error(pth_zip(pickle, six), part);
    expect_error(pth_zip(pickle, six), "tensor \"w\": ");
    expect_error(pth_legacy(pickle, six, 4), part);
  };
  expect(one_tensor(0, {7}, {1}), "reaches outside its storage of 6 elements");
  expect(one_tensor(1, {2, 3}, {3, 1}), "shape [2, 3] at offset 1 reaches outside");
  expect(one_tensor(0, {2, 3}, {4, 1}), "reaches outside");
  expect(one_tensor(0, {2}, {big}), "reaches outside");
  expect(one_tensor(0, {3}, {big}), "reaches outside");
  expect(one_tensor(0, {3, 3}, {big, big}), "reaches outside");
  expect(one_tensor(0, {big, 4}, {0, 0}), "reaches outside");  // the number of elements does not fit
  expect(one_tensor(0, {big, 4, 0}, {0, 0, 0}), "reaches outside");
  expect(one_tensor(INT64_MAX, {2}, {1}), "reaches outside");
  expect(one_tensor(-1, {2}, {1}), "reaches outside");
  expect(one_tensor(-1, {0}, {1}), "reaches outside");
  expect(one_tensor(6, {1}, {1}), "reaches outside");
  expect(one_tensor(6, {}, {}), "reaches outside");
  expect(one_tensor(0, {-1}, {1}), "negative");
  expect(one_tensor(5, {2}, {-1}), "negative");
  expect(one_tensor(0, {2, 3}, {1}), "differ in rank");
  expect(one_tensor(0, std::vector<std::int64_t>(9, 1), std::vector<std::int64_t>(9, 1)), "at most 8");
  expect(one_tensor(0, {1 << 30}, {0}), "more data than the file");
  expect(one_tensor(0, {big}, {0}), "more data than the file");
}

TEST(Pth, StoragesThatDoNotFitAreErrors) {
  for (const std::int64_t count :
       {std::int64_t{5}, std::int64_t{7}, std::int64_t{-1}, INT64_MAX, (std::int64_t{1} << 62) + 6}) {
    expect_error(pth_zip(one_tensor(0, {1}, {1}, count), six), "tensor \"w\": its storage ");
    EXPECT_FALSE(parse_pth(bytes_of(pth_legacy(one_tensor(0, {1}, {1}, count), six, 4)), "f").ok());
  }
  expect_error(pth_zip(one_tensor(0, {1}, {1}), {{"1", counting(0.0f, 6)}}),
               "storage \"0\" is not in the file");
  expect_error(pth_legacy(one_tensor(0, {1}, {1}), {}, 4), "storage \"0\" is not in the file");
  expect_error(pth_legacy(one_tensor(0, {1}, {1}), {six[0], {"7", ""}}, 4), "key that no tensor uses");
  expect_error(pth_legacy(one_tensor(0, {1}, {1}), {six[0], six[0]}, 4), "occurs more than once");
  const std::string legacy = pth_legacy(one_tensor(0, {1}, {1}), six, 4);
  expect_error(legacy.substr(0, legacy.size() - 1), "storage \"0\" is larger than the rest of the file");
  expect_error(legacy.substr(0, legacy.size() - 25), "storage \"0\" is missing");
  expect_error(legacy + "x", "bytes after the last storage");
}

TEST(Pth, StrangeDescriptionsAreErrors) {
  const auto tensor = [](auto describe) {
    PickleBuilder p;
    p.empty_dict().text("w");
    describe(p);
    return pth_zip(p.set().stop(), six);
  };
  const auto rebuild = [](PickleBuilder& p, const char* name) -> PickleBuilder& {
    return p.global("torch._utils", name);
  };
  expect_error(tensor([&](auto& p) { rebuild(p, "_rebuild_tensor_v2").raw(")R"); }), "incomplete");
  expect_error(tensor([&](auto& p) { rebuild(p, "_rebuild_parameter").raw(")R"); }), "holds no tensor");
  expect_error(tensor([&](auto& p) { rebuild(p, "_rebuild_parameter").raw("NNN\x87R"); }), "holds no tensor");
  expect_error(tensor([&](auto& p) {
                 rebuild(p, "_rebuild_parameter");
                 rebuild(p, "_rebuild_parameter").raw("NNN\x87RNN\x87R");
               }),
               "incomplete");
  const auto with_storage = [&](auto storage) {
    return tensor([&](auto& p) {
      rebuild(p, "_rebuild_tensor").mark();
      storage(p);
      p.integer(0).integers({1}).integers({1}).tuple().reduce();
    });
  };
  EXPECT_TRUE(
      parse_pth(bytes_of(with_storage([](auto& p) { p.storage("FloatStorage", "0", 6); })), "f").ok());
  expect_error(with_storage([](auto& p) { p.raw("N"); }), "not described");
  expect_error(with_storage([](auto& p) { p.raw("NQ"); }), "not described");
  expect_error(with_storage([](auto& p) { p.raw(")Q"); }), "not described");
  expect_error(with_storage([](auto& p) { p.storage("float32", "0", 6); }), "not described");
  expect_error(with_storage([](auto& p) { p.storage("UntypedStorage", "0", 24); }), "no dtype");
  expect_error(with_storage([](auto& p) { p.storage("ComplexFloatStorage", "0", 3); }),
               "torch.ComplexFloatStorage");
  for (const auto& range : {std::pair{-1, 2}, {0, 7}, {7, 0}, {0, -1}}) {
    expect_error(with_storage([&](auto& p) {
                   p.mark().text("storage").global("torch", "FloatStorage").text("0").text("cpu").integer(6);
                   p.mark().text("1").integer(range.first).integer(range.second).tuple().tuple().raw("Q");
                 }),
                 "not described");
  }
  expect_error(tensor([&](auto& p) {  // negative bit
                 rebuild(p, "_rebuild_tensor_v2")
                     .mark()
                     .storage("FloatStorage", "0", 6)
                     .integer(0)
                     .integers({1})
                     .integers({1});
                 p.raw("\x89").ordered_dict().empty_dict().text("neg").raw("\x88").set().tuple().reduce();
               }),
               "lazily negated");
}

TEST(Pth, UntypedStoragesHaveADtypeBeside) {
  PickleBuilder p;
  p.empty_dict().text("w").global("torch._utils", "_rebuild_tensor_v3").mark();
  p.mark()
      .text("storage")
      .global("torch.storage", "UntypedStorage")
      .text("0")
      .text("cpu")
      .integer(24)
      .tuple()
      .raw("Q");
  p.integer(1)
      .integers({2})
      .integers({2})
      .raw("\x89")
      .ordered_dict()
      .global("torch", "float32")
      .tuple()
      .reduce()
      .set();
  const std::string file = pth_zip(p.stop(), six);
  const auto c = parse_pth(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(test::values_of(c->tensors[0]), (std::vector<float>{1, 3}));
}

TEST(Pth, FilesThatAreNoWeights) {
  const auto zip_of = [](const std::string& name, const std::string& data) {
    test::ZipBuilder zip;
    zip.add(name, data);
    return zip.finish();
  };
  expect_error(zip_of("word/document.xml", "x"), "not a PyTorch checkpoint");
  expect_error(zip_of("data.pkl", test::two_tensors()), "not a PyTorch checkpoint");
  expect_error(test::ZipBuilder().finish(), "not a PyTorch checkpoint");
  expect_error(pth_zip("", {}), "no pickle");
  expect_error(pth_zip(PickleBuilder().raw("]").stop(), {}), "not a dict");
  expect_error(pth_zip(PickleBuilder().empty_dict().stop(), {}), "holds no tensors");
  expect_error(PickleBuilder().empty_dict().stop(), "a Python pickle, but not a PyTorch checkpoint");
  expect_error(test::legacy_magic + PickleBuilder().integer(5).stop(), "no pickle");
  expect_error(pth_legacy(one_tensor(0, {1}, {1}), six, 4, false), "little-endian");
  test::ZipBuilder big_endian;
  big_endian.add("m/data.pkl", one_tensor(0, {1}, {1}));
  big_endian.add("m/byteorder", "big");
  big_endian.add("m/data/0", six[0].data);
  expect_error(big_endian.finish(), "byte order \"big\"");
  PickleBuilder twice;
  for (int i = 0; i < 2; ++i) {
    if (i == 0) twice.empty_dict();
    twice.text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).set();
  }
  expect_error(pth_zip(twice.stop(), six), "tensor \"w\" occurs more than once");
}

TEST(Pth, DamagedPickleAndPayloadAreFoundByTheirChecksum) {
  std::string file = pth_zip(test::two_tensors(), test::two_storages());
  EXPECT_TRUE(verify_pth(bytes_of(file), "f").ok());
  std::string payload = file;
  payload[payload.find(counting(1.0f, 6)) + 5] ^= 1;
  EXPECT_TRUE(parse_pth(bytes_of(payload), "f").ok());
  const auto verified = verify_pth(bytes_of(payload), "f");
  ASSERT_FALSE(verified.ok());
  EXPECT_NE(verified.error().message.find("\"any name/data/0\""), std::string::npos)
      << verified.error().message;
  file[file.find("cpu")] ^= 1;  // changes nothing that the reader looks at
  expect_error(file, "checksum");
}

TEST(Pth, VerificationCanBeStopped) {
  const std::string file = pth_zip(test::two_tensors(), test::two_storages());
  std::uint64_t last = 0;
  EXPECT_TRUE(verify_pth(bytes_of(file), "f", [&](std::string_view, std::uint64_t done, std::uint64_t total) {
                EXPECT_TRUE(done >= last && done <= total && total == file.size());
                last = done;
                return true;
              }).ok());
  EXPECT_GT(last, 0u);
  const auto stopped = verify_pth(bytes_of(file), "f", [](auto, auto, auto) { return false; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::interrupted);
}

}  // namespace
}  // namespace fr
