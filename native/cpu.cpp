#include "cpu.h"

#if defined(APPORTION_AARCH64) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(APPORTION_AARCH64) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace apportion {

namespace {

#if defined(APPORTION_X86)

// What the portable kernels are compiled for here.
bool has_portable() { return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1"); }

// The compiler's own questions also ask whether the system saves the wider registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
#if defined(APPORTION_EMULATED)
  return has_avx2();
#else
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
#endif
}

#else

bool has_portable() { return true; }

#endif

#if defined(APPORTION_AARCH64)

bool has_dot_products() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
  int has = 0;
  size_t nbytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &nbytes, nullptr, 0) == 0 && has;
#else
  return false;
#endif
}

#endif

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#if defined(APPORTION_X86)
  __builtin_cpu_init();
  if (has_avx512()) found.push_back(&avx512::kernels);
  if (has_avx2()) found.push_back(&avx2::kernels);
#elif defined(APPORTION_AARCH64)
  if (has_dot_products()) found.push_back(&neon_dot::kernels);
  found.push_back(&neon::kernels);
#endif
  if (has_portable()) found.push_back(&portable::kernels);
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
