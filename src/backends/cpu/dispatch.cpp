#include "backends/cpu/dispatch.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_info.h"
#include "core/ops.h"

namespace fr::cpu {
namespace {

// kernels.h cannot include these types; the numbers must agree.
template <class A, class B>
constexpr bool same(A a, B b) {
  return static_cast<int>(a) == static_cast<int>(b);
}
static_assert(same(Epilogue::none, Act::none) && same(Epilogue::tanh, Act::tanh) &&
              same(Epilogue::sigmoid, Act::sigmoid) && same(Epilogue::exp, Act::exp) &&
              same(Epilogue::silu, Act::silu) && same(Epilogue::relu2, Act::relu2) &&
              same(Epilogue::decay6, Act::decay6) && same(Epilogue::decay7, Act::decay7));

#if defined(__x86_64__)
// The AVX-512 kernels with other products.
Kernels variant(const char* name, const CodedKernels* coded, const TileKernels* tiles) {
  Kernels k = kernels_avx512;
  k.name = name;
  k.coded = coded;
  k.tiles = tiles;
  return k;
}
#endif

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  static const Kernels vnni = variant("avx512vnni", &coded_vnni, nullptr),
                       bf16 = variant("avx512bf16", &coded_vnni, &dots_bf16),
                       amx = variant("amx", &coded_vnni, &tiles_amx);
  const CpuFeatures& has = cpu_features();
  if (has.avx512 && has.avx512_vnni) {
    if (request_amx()) found.push_back(&amx);
    if (has.fast_bf16) found.push_back(&bf16);
    found.push_back(&vnni);
  }
  if (has.avx512) found.push_back(&kernels_avx512);
  if (cpu_features().avx2) found.push_back(&kernels_avx2);
#endif
  found.push_back(&kernels_generic);
  return found;
}

}  // namespace

std::span<const Kernels* const> supported_kernels() {
  static const std::vector<const Kernels*> found = detect();
  return found;
}

Result<const Kernels*> choose_kernels() {
  const char* wanted = std::getenv("FR_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported_kernels().front();
  std::string names;
  for (const Kernels* k : supported_kernels()) {
    if (std::string_view(wanted) == k->name) return k;
    names += (names.empty() ? "" : ", ") + std::string(k->name);
  }
  return usage_error("instruction set " + std::string(wanted) +
                     " is unknown or not supported by this machine (FR_ISA): use one of " + names);
}

}  // namespace fr::cpu
