#include "engine/strategy.h"

#include <gtest/gtest.h>

#include "core/storage.h"

namespace fr {
namespace {

std::string parsed(std::string_view text, int n_layer = 24, DType file = DType::bf16) {
  const auto r = parse_strategy(text, file, n_layer);
  return r.ok() ? strategy_string(*r) : "error: " + r.error().message;
}

TEST(Strategy, NamesDeviceAndNumberFormat) {
  EXPECT_EQ(parsed("reference fp32"), "reference fp32");
  EXPECT_EQ(parsed("cpu fp16"), "cpu fp16");
  EXPECT_EQ(parsed("  cpu   bf16 "), "cpu bf16");
  EXPECT_EQ(parsed("cpu"), "cpu bf16");
  EXPECT_EQ(parsed("cpu auto", 24, DType::f16), "cpu fp16");
  EXPECT_EQ(parsed("", 24, DType::f16), "cpu fp16");
}

TEST(Strategy, WordsForQuantisedWeights) {
  for (const char* word : {"int8", "i8", "fp16i8", "fp32i8", "bf16i8", "q8_0"})
    EXPECT_EQ(parsed("cpu " + std::string(word)), "cpu int8") << word;
  for (const char* word : {"int4", "i4", "fp16i4", "fp32i4", "q4_k"})
    EXPECT_EQ(parsed("reference " + std::string(word)), "reference int4") << word;
  EXPECT_EQ(parsed("cpu fp16 *2 -> cpu fp16i8 *3 -> cpu int4"), "cpu fp16 *2 -> cpu int8 *3 -> cpu int4");
  EXPECT_EQ(parsed("", 24, DType::q4_k), "cpu int4");
}

TEST(Strategy, AutomaticDtypeFitsTheMemory) {
  constexpr std::int64_t n = 1000000;  // weights
  EXPECT_EQ(automatic_dtype(DType::bf16, n, 3 * n), DType::bf16);
  EXPECT_EQ(automatic_dtype(DType::bf16, n, 28 * n / 10), DType::q8_0);
  EXPECT_EQ(automatic_dtype(DType::f32, n, 5 * n), DType::q8_0);
  EXPECT_EQ(automatic_dtype(DType::f16, n, 15 * n / 10), DType::q4_k);
  EXPECT_EQ(automatic_dtype(DType::f16, n, 0), DType::q4_k) << "still the smallest";
  // Blocks: what keeps them.
  for (const DType t : {DType::q8_0, DType::q5_0, DType::q5_1, DType::q5_k, DType::q6_k, DType::u8})
    EXPECT_EQ(automatic_dtype(t, n, 100 * n), DType::q8_0) << dtype_name(t);
  for (const DType t : {DType::q4_0, DType::q4_1, DType::q4_k, DType::q2_k, DType::q3_k, DType::iq4_nl})
    EXPECT_EQ(automatic_dtype(t, n, 100 * n), DType::q4_k) << dtype_name(t);
  EXPECT_EQ(automatic_dtype(DType::q8_0, n, n), DType::q4_k);
}

TEST(Strategy, SplitsLayers) {
  const auto r = parse_strategy("cpu fp16 *10 -> cpu fp32 *4->reference fp32", DType::f16, 24);
  ASSERT_TRUE(r.ok()) << r.error().message;
  ASSERT_EQ(r->size(), 3u);
  EXPECT_EQ((*r)[0].begin, 0);
  EXPECT_EQ((*r)[0].end, 10);
  EXPECT_EQ((*r)[1].end, 14);
  EXPECT_EQ((*r)[2].device, "reference");
  EXPECT_EQ((*r)[2].end, 24);
  EXPECT_EQ(strategy_string(*r), "cpu fp16 *10 -> cpu fp32 *4 -> reference fp32");
  EXPECT_EQ(parsed("cpu fp16 *30 -> cpu fp32"), "cpu fp16") << "a strategy written for a deeper model";
  EXPECT_EQ(parsed("cpu fp16 *24"), "cpu fp16");
  EXPECT_EQ(parsed("cpu fp16 *1 -> cpu fp32 *2147483647 -> cpu bf16"), "cpu fp16 *1 -> cpu fp32");
  EXPECT_EQ(parsed("cuda:1 fp16 *20 -> cuda int4"), "cuda:1 fp16 *20 -> cuda int4");
}

TEST(Strategy, ErrorsNameTheWord) {
  const struct {
    const char* text;
    const char* part;
  } cases[] = {{"abacus fp16", "abacus"},
               {"cpu fp17", "fp17"},
               {"cpu fp16 *x", "*x"},
               {"cpu fp16 *0", "*0"},
               {"cpu fp16 *3", "3 of 24"},
               {"cpu fp16 *2 ->", "empty part"},
               {"cpu int3", "int4"},
               {"cpu fp16i2", "fp16i2"},
               {"cpu fp16 *5+", "*5+"},
               {"cpu fp16 -> cpu", "*N"},
               {"cpu fp16 fp32", "\"fp32\""},
               {"cpu:1 fp16", "device numbers"},
               {"cuda:x fp16", "device number"},
               {"cpu fp16 *1 *2 -> cpu", "two numbers"},
               {"onnx auto", "frwkv export onnx"},
               {"ncnn fp16", "frwkv export ncnn"}};
  for (const auto& c : cases) {
    const auto r = parse_strategy(c.text, DType::f16, 24);
    ASSERT_FALSE(r.ok()) << c.text;
    EXPECT_EQ(r.error().code, ErrorCode::usage) << c.text;
    EXPECT_NE(r.error().message.find(c.part), std::string::npos) << c.text << ": " << r.error().message;
  }
}

TEST(Strategy, AnExportHasItsOwn) {
  for (const char* fits : {"", "ncnn", "ncnn auto", "ncnn int8", "ncnn fp16i8"})
    EXPECT_TRUE(check_exported_strategy(fits, "ncnn", int8_weights, "m").ok()) << fits;
  for (const char* other : {"cpu int8", "ncnn fp16", "onnx int8", "ncnn int8 *3", "ncnn int8 -> cpu int8"}) {
    const Status status = check_exported_strategy(other, "ncnn", int8_weights, "m");
    ASSERT_FALSE(status.ok()) << other;
    EXPECT_EQ(status.error().code, ErrorCode::usage);
    EXPECT_NE(status.error().message.find("use \"ncnn int8\""), std::string::npos) << status.error().message;
  }
}

}  // namespace
}  // namespace fr
