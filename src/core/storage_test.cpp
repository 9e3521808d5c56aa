#include "core/storage.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

DType stored(DType asked, DType file, std::int64_t in, MatRole role = MatRole::plain,
             bool transposed = false) {
  TensorView w{"w", file, {64, in}, {in, 1}, nullptr};
  if (transposed) w.stride = {1, 64};
  return stored_dtype(asked, role, w);
}

TEST(Storage, FloatsAreStoredAsAsked) {
  for (const DType asked : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType file : {DType::f32, DType::bf16, DType::q8_0, DType::q4_k, DType::u8})
      EXPECT_EQ(stored(asked, file, 256), asked);
  }
}

TEST(Storage, QuantisedAsRowsAndRolesAllow) {
  EXPECT_EQ(stored(int8_weights, DType::f16, 256), DType::q8_0);
  EXPECT_EQ(stored(int4_weights, DType::f16, 256), DType::q4_k);
  EXPECT_EQ(stored(int4_weights, DType::f16, 96), DType::q4_0);
  EXPECT_EQ(stored(int4_weights, DType::f16, 512, MatRole::head), DType::q8_0);
  EXPECT_EQ(stored(int4_weights, DType::f16, 512, MatRole::sparse_input), DType::q4_k);
  for (const DType asked : {int8_weights, int4_weights}) {
    EXPECT_EQ(stored(asked, DType::f32, 35), DType::f16);
    EXPECT_EQ(stored(asked, DType::bf16, 35), DType::bf16);
    EXPECT_EQ(stored(asked, DType::bf16, 256, MatRole::low_rank, true), DType::bf16);
    EXPECT_EQ(stored(asked, DType::f32, 256, MatRole::low_rank), DType::f16);
  }
}

TEST(Storage, BlocksOfTheFileAreKept) {
  for (const DType asked : {int8_weights, int4_weights}) {
    for (const DType file : {DType::q8_0, DType::q4_0, DType::q4_k}) {
      for (const MatRole role : {MatRole::plain, MatRole::head, MatRole::low_rank})
        EXPECT_EQ(stored(asked, file, 256, role), file);
      EXPECT_EQ(stored(asked, file, 256, MatRole::plain, true), DType::q8_0) << "blocks along the outputs";
    }
    for (const DType file : {DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k, DType::q6_k, DType::iq4_nl})
      EXPECT_EQ(stored(asked, file, 256), DType::q8_0) << dtype_name(file);
  }
}

TEST(Storage, NamesAreTheWordsOfStrategies) {
  EXPECT_EQ(storage_name(DType::f16), "fp16");
  EXPECT_EQ(storage_name(int8_weights), "int8");
  EXPECT_EQ(storage_name(int4_weights), "int4");
}

}  // namespace
}  // namespace fr
