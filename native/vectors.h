// The vectors that products are written in, for the instruction set that the file is compiled for. Each set has its own
// copy in a namespace of its own, so that the linker can never mix them.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(APPORTION_EMULATED)
#define APPORTION_INLINE inline
#define APPORTION_LAMBDA_INLINE
#else
#define APPORTION_INLINE __attribute__((always_inline)) inline
#define APPORTION_LAMBDA_INLINE __attribute__((always_inline))
#endif

#if defined(APPORTION_AVX512)
#include "vectors_avx512.h"
#elif defined(APPORTION_AVX2)
#include "vectors_avx2.h"
#elif defined(APPORTION_NEON)
#include "vectors_neon.h"
#else
#include "vectors_portable.h"
#endif
