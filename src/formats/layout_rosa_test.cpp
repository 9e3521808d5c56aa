#include <gtest/gtest.h>

#include "formats/layout.h"

namespace fr {
namespace {

TensorView zeros(const std::string& name, std::vector<std::int64_t> shape) {
  static const float numbers[64] = {};
  return {name, DType::f32, shape, dense_strides(shape), reinterpret_cast<const std::byte*>(numbers)};
}

Checkpoint rosa_file(const TensorView& values) {
  Checkpoint file;
  file.path = "m.pth";
  for (const char* name :
       {"e.weight", "ln1a.weight", "ln2b.bias", "ln12c.bias", "rwkv1.r_k", "rwkv2.ln_x.weight",
        "rosa1.o.bias", "rosa1.q.weight", "ffn2.x_k", "lno.bias", "o.weight", "o.bias", "other"}) {
    file.tensors.push_back(zeros(name, {2, 2}));
  }
  file.tensors.push_back(values);
  file.index();
  return file;
}

TEST(LayoutRosa, NamesBecomeOfficial) {
  Checkpoint file = rosa_file(zeros("rosa1.rosa_qkv.emb", {1, 1, 4}));
  const Status status = to_official_layout(file);
  ASSERT_TRUE(status.ok()) << status.error().message;
  std::vector<std::string> names;
  for (const TensorView& t : file.tensors) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"emb.weight", "blocks.0.ln1.weight", "blocks.1.ln2.bias",
                                             "blocks.0.att.r_k", "blocks.1.att.ln_x.weight",
                                             "blocks.0.att.output.bias", "blocks.1.ffn.x_k", "ln_out.bias",
                                             "head.weight", "head.bias", "other"}));
  EXPECT_EQ(file.notes.size(), 1u);
}

TEST(LayoutRosa, ABranchThatIsInUseIsRefused) {
  const float one = 1;
  Checkpoint file =
      rosa_file({"rosa2.rosa_qkv.emb", DType::f32, {1}, {1}, reinterpret_cast<const std::byte*>(&one)});
  const Status status = to_official_layout(file);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("RWKV-8"), std::string::npos) << status.error().message;
  EXPECT_NE(status.error().message.find("rosa2.rosa_qkv.emb"), std::string::npos);
}

}  // namespace
}  // namespace fr
