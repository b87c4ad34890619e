#include "cpu.h"

namespace apportion {

namespace {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#if defined(APPORTION_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    found.push_back(&avx2_kernels);
#endif
  found.push_back(&portable_kernels);
  return found;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* kernels : available()) names.emplace_back(kernels->isa);
  return names;
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels* kernels : available())
    if (isa.empty() || isa == kernels->isa) return kernels;
  return nullptr;
}

}  // namespace apportion
