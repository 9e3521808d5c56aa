// write_gguf: metadata and the planned tensors, as conversion/rwkv.py of llama.cpp writes them.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "formats/gguf.h"
#include "formats/gguf_header.h"
#include "formats/gguf_plan.h"
#include "formats/writer.h"

namespace fr {
namespace {

// general.file_type (enum llama_ftype): what most of the matrices are.
std::uint32_t file_type(const gguf::Plan& plan) {
  constexpr std::pair<DType, std::uint32_t> types[] = {
      {DType::f16, 1},   {DType::q4_0, 2},    {DType::q4_1, 3},  {DType::q8_0, 7},  {DType::q5_0, 8},
      {DType::q5_1, 9},  {DType::q2_k, 10},   {DType::q3_k, 12}, {DType::q4_k, 14}, {DType::q5_k, 16},
      {DType::q6_k, 18}, {DType::iq4_nl, 25}, {DType::bf16, 32}};
  const auto matrix = std::find_if(plan.tensors.begin(), plan.tensors.end(),
                                   [](const auto& t) { return t.name.ends_with("time_mix_key.weight"); });
  for (const auto& [dtype, number] : types) {
    if (matrix != plan.tensors.end() && matrix->dtype == dtype) return number;
  }
  return 0;  // all fp32
}

// The number format that all tensors of the source have, if it is one and 16 bits wide.
std::string_view common_dtype(const Checkpoint& model) {
  std::set<DType> dtypes;
  for (const TensorView& t : model.tensors) dtypes.insert(restored_dtype(model, t));
  const DType dtype = *dtypes.begin();
  const bool common = dtypes.size() == 1 && (dtype == DType::f16 || dtype == DType::bf16);
  return common ? dtype_name(dtype) : std::string_view();
}

void add_model(gguf::Header& header, const gguf::Plan& plan, const Checkpoint& model,
               const GgufOptions& options) {
  const std::string_view architecture = plan.architecture->name;
  header.add(gguf::key_architecture, architecture);
  header.add("general.type", "model");
  if (!options.model_name.empty()) header.add("general.name", options.model_name);
  header.add("general.file_type", file_type(plan));
  header.add("general.quantization_version", std::uint32_t{2});
  if (const auto dtype = common_dtype(model); !dtype.empty()) header.add(gguf::key_source_dtype, dtype);

  const auto add = [&](const char* key, std::int64_t value) {
    header.add(std::string(architecture) + "." + key, static_cast<std::uint32_t>(value));
  };
  const auto size = [&](char letter) { return plan.sizes.at(letter); };
  add("context_length", 1 << 20);  // there is no limit
  add("embedding_length", size('D'));
  add("block_count", plan.n_layer);
  add("feed_forward_length", size('F'));
  add("attention.head_count", 0);  // required and not used
  header.add(std::string(architecture) + ".attention.layer_norm_epsilon", 1e-5f);
  add("wkv.head_size", size('N'));
  if (architecture == "rwkv6") {
    add("rescale_every_n_layers", plan.rescale_every);
    add("time_mix_extra_dim", size('m'));
    add("time_decay_extra_dim", size('d'));
  } else {
    add("attention.decay_lora_rank", size('w'));
    add("attention.iclr_lora_rank", size('a'));
    add("attention.value_residual_mix_lora_rank",
        size(plan.sizes.contains('v') ? 'v' : 'a'));  // one layer has none
    add("attention.gate_lora_rank", size('g'));
  }
}

Error unusable(const std::string& path, const std::string& what) {
  return usage_error(what + " (" + path + "): write the file without a vocabulary");
}

Status add_tokenizer(gguf::Header& header, gguf::Plan& plan, const std::string& path,
                     const GgufOptions& options) {
  const auto n_vocab = static_cast<std::size_t>(plan.sizes.at('V'));
  if (options.tokens.empty()) {
    header.add("tokenizer.ggml.model", "no_vocab");
    header.add(std::string(plan.architecture->name) + ".vocab_size", static_cast<std::uint32_t>(n_vocab));
    plan.notes.emplace_back("the file has no tokenizer: llama.cpp can only be given token ids");
    return {};
  }
  std::vector<std::string> tokens = options.tokens;
  if (tokens.size() > n_vocab) {
    return unusable(path, "the vocabulary has " + std::to_string(tokens.size()) + " tokens, the model " +
                              std::to_string(n_vocab));
  }
  enum Type : std::int32_t { normal = 1, control = 3, unused = 5 };
  std::vector<std::int32_t> types(n_vocab, normal);
  types[0] = control;
  for (std::size_t i = 1; i < n_vocab; ++i) {
    const std::string name = std::string("[PAD").append(std::to_string(i)) + "]";
    if (i == tokens.size()) tokens.push_back(name);
    if (tokens[i] == name) types[i] = unused;
  }
  // llama.cpp stops the program when one of these does not hold.
  const std::set<std::string_view> distinct(tokens.begin(), tokens.end());
  if (distinct.size() != tokens.size()) return unusable(path, "the vocabulary has a token twice");
  if (!distinct.contains("\\n")) return unusable(path, "the vocabulary has no token for the end of a line");

  header.add("tokenizer.ggml.model", "rwkv");
  header.add(gguf::key_tokens, tokens);
  header.add("tokenizer.ggml.token_type", types);
  header.add("tokenizer.ggml.bos_token_id", std::uint32_t{0});
  header.add("tokenizer.ggml.eos_token_id", std::uint32_t{0});
  const auto end_of_turn = std::find(tokens.begin(), tokens.end(), "\\n\\n");
  if (end_of_turn != tokens.end()) {
    header.add("tokenizer.ggml.eot_token_id", static_cast<std::uint32_t>(end_of_turn - tokens.begin()));
  }
  if (!options.chat_template.empty()) header.add("tokenizer.chat_template", options.chat_template);
  return {};
}

// Rows times 2^exponent, some at a time.
Status write_scaled(AtomicFile& out, const TensorView& view, int exponent, DType dtype) {
  constexpr std::int64_t piece_numbers = 1 << 18;
  const std::int64_t n = view.shape[0], row = view.shape[1],
                     most = std::max<std::int64_t>(1, piece_numbers / row);
  std::vector<float> numbers;
  for (std::int64_t begin = 0; begin < n; begin += most) {
    const std::int64_t count = std::min(most, n - begin);
    numbers.resize(static_cast<std::size_t>(count * row));
    view.read(begin * row, numbers);
    for (float& x : numbers) x = std::ldexp(x, exponent);
    const TensorView rows{
        view.name, DType::f32, {count, row}, {row, 1}, std::as_bytes(std::span(numbers)).data()};
    FR_OK(write_tensor(out, rows, dtype, Checkpoint{}));
  }
  return {};
}

Status write_planned(AtomicFile& out, const gguf::PlannedTensor& tensor, const Checkpoint& model) {
  for (const TensorView& part : tensor.parts) {
    if (tensor.exponent == 0) {
      FR_OK(write_tensor(out, part, tensor.dtype, model));
    } else {
      FR_OK(write_scaled(out, part, tensor.exponent, tensor.dtype));
      model.release(part.bytes());
    }
  }
  constexpr std::array<std::byte, gguf::default_alignment> zeros{};
  return out.write(std::span(zeros).first(gguf::padding(tensor.bytes())));
}

}  // namespace

const std::string_view rwkv_chat_template =
    "{# rwkv-world #}"
    "{% for message in messages %}"
    "{% set text = message['content'] or '' %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + text | trim + '\\n\\n' }}"
    "{% elif message['role'] == 'system' %}{{ 'System: ' + text | trim + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + text.split('</think>')[-1] | trim + '\\n\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:"
    "{% if enable_thinking is defined %}{{ ' <think>' if enable_thinking else ' <think>\\n</think>' }}{% "
    "endif %}"
    "{% endif %}";

Result<WriteReport> write_gguf(const std::string& path, const Checkpoint& model, const GgufOptions& options) {
  FR_TRY(gguf::Plan plan, gguf::make_plan(path, model, options));
  gguf::Header header;
  add_model(header, plan, model, options);
  FR_OK(add_tokenizer(header, plan, path, options));
  WriteReport report;
  std::uint64_t total = 0, done = 0;
  for (const gguf::PlannedTensor& t : plan.tensors) {
    header.add_tensor(t.name, t.shape, t.dtype, total);
    total += t.bytes() + gguf::padding(t.bytes());
    report.add(t.dtype, t.bytes());
  }
  report.notes = std::move(plan.notes);
  if (options.dry_run) return report;
  FR_TRY(AtomicFile out, AtomicFile::create(path));
  const std::string head = header.bytes();
  FR_OK(out.write(std::as_bytes(std::span(head))));
  for (const gguf::PlannedTensor& t : plan.tensors) {
    FR_OK(write_planned(out, t, model));
    done += t.bytes() + gguf::padding(t.bytes());
    FR_OK(report_writing(options.progress, path, done, total));
  }
  FR_OK(out.commit());
  return report;
}

DType restored_dtype(const Checkpoint& file, const TensorView& view) {
  if (view.dtype != DType::f32) return view.dtype;
  const auto entry = file.metadata.find(gguf::key_source_dtype);
  if (entry == file.metadata.end()) return view.dtype;
  return entry->second == "bf16" ? DType::bf16 : entry->second == "fp16" ? DType::f16 : view.dtype;
}

}  // namespace fr
