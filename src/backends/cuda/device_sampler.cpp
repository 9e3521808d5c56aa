#include "backends/cuda/device_sampler.h"

#include <algorithm>
#include <bit>

namespace fr::cuda {
namespace {

static_assert(static_cast<int>(Fault::not_a_number) == static_cast<int>(DrawFault::not_a_number) &&
              static_cast<int>(Fault::infinite) == static_cast<int>(DrawFault::infinite) &&
              static_cast<int>(Fault::all_banned) == static_cast<int>(DrawFault::all_banned));

PackedBias* put(std::span<const LogitBias> from, PackedBias* to) {
  return std::transform(from.begin(), from.end(), to, [](const LogitBias& b) {
    return PackedBias{b.id, b.bias};
  });
}

PackedDraw header(const DrawRequest& r) {
  PackedDraw p{};
  p.temperature = r.temperature;
  p.filter_temperature = r.filter_temperature;
  p.top_p = r.top_p;
  p.min_p = r.min_p;
  p.uniform = r.uniform;
  p.top_k = r.top_k;
  p.greedy = r.greedy;
  p.top_p_of_top_k = r.top_p_of_top_k;
  p.top_p_exceeds = r.top_p_exceeds;
  p.equals_stay = r.equals_stay;
  p.n_penalties = static_cast<std::uint32_t>(r.penalties.size());
  p.n_biases = static_cast<std::uint32_t>(r.biases.size());
  p.n_banned = static_cast<std::uint32_t>(r.banned.size());
  return p;
}

}  // namespace

std::size_t packed_size(std::span<const DrawRequest> requests) {
  std::size_t bytes = 0;
  for (const DrawRequest& r : requests)
    bytes += sizeof(PackedDraw) + (r.penalties.size() + r.biases.size()) * sizeof(PackedBias) +
             r.banned.size() * sizeof(std::int32_t);
  return bytes;
}

void pack(std::span<const DrawRequest> requests, std::byte* out) {
  PackedDraw* const rows = reinterpret_cast<PackedDraw*>(out);
  PackedBias* bias = reinterpret_cast<PackedBias*>(rows + requests.size());
  const auto offset = [&](const void* p) {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - out);
  };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    rows[i] = header(requests[i]);
    rows[i].penalties = offset(bias);
    bias = put(requests[i].penalties, bias);
    rows[i].biases = offset(bias);
    bias = put(requests[i].biases, bias);
  }
  std::int32_t* banned = reinterpret_cast<std::int32_t*>(bias);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    rows[i].banned = offset(banned);
    banned = std::copy(requests[i].banned.begin(), requests[i].banned.end(), banned);
  }
}

// Blocks grow to the next power of two, so that they rarely do.
Status DeviceSampler::reserve(std::size_t transfer, std::size_t scratch) {
  const std::string what = "drawing tokens";
  if (transfer > host_.bytes()) {
    const std::size_t bytes = std::bit_ceil(transfer);
    host_ = {};
    device_block_ = {};
    FR_TRY(device_block_, allocate_device(bytes, what, device_));
    FR_TRY(host_, allocate_host(bytes, what, device_));
  }
  if (scratch > scratch_.bytes()) {
    scratch_ = {};
    FR_TRY(scratch_, allocate_device(scratch, what, device_));
  }
  return {};
}

Status DeviceSampler::draw(Stream stream, Rows logits, int vocab, std::span<const DrawRequest> requests,
                           std::span<DrawResult> results) {
  FR_CHECK(results.size() == requests.size() && vocab > 0);
  if (requests.empty()) return {};
  const int rows = static_cast<int>(requests.size());
  const std::size_t drawn = (requests.size() * sizeof(Drawn) + 15) / 16 * 16, packed = packed_size(requests);
  FR_OK(reserve(drawn + packed, draw_scratch(static_cast<int>(std::bit_ceil(requests.size())), vocab)));
  pack(requests, host_.as() + drawn);

  Draw d;
  d.requests = device_block_.as() + drawn;
  d.logits = logits;
  d.rows = rows;
  d.vocab = vocab;
  d.scratch = scratch_.as();
  d.drawn = device_block_.as<Drawn>();
  cudaError_t error =
      cudaMemcpyAsync(device_block_.as() + drawn, host_.as() + drawn, packed, cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) {
    cuda::draw(stream, d);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess)
    error =
        cudaMemcpyAsync(host_.as(), d.drawn, requests.size() * sizeof(Drawn), cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return lost_device(error, device_);
  }
  std::transform(host_.as<Drawn>(), host_.as<Drawn>() + rows, results.begin(), [](const Drawn& r) {
    return DrawResult{r.token, static_cast<DrawFault>(r.fault)};
  });
  return {};
}

}  // namespace fr::cuda
