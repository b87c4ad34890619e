#include "isa.h"

namespace apportion {

#if defined(APPORTION_AVX2)
const Kernels avx2_kernels = {
    "avx2",
#else
const Kernels portable_kernels = {
    "portable",
#endif
    APPORTION_ISA::multiply,
    APPORTION_ISA::multiply_exactly,
    APPORTION_ISA::quantize,
    APPORTION_ISA::rms_norm,
    APPORTION_ISA::gate,
    APPORTION_ISA::rotate_head,
    APPORTION_ISA::bound,
    APPORTION_ISA::to_half,
    APPORTION_ISA::attend_block,
    APPORTION_ISA::merge,
    APPORTION_ISA::find_largest,
    APPORTION_ISA::collect,
    APPORTION_ISA::exponentials,
    APPORTION_ISA::sum_words,
    APPORTION_ISA::multiply_adds,
};

}  // namespace apportion
