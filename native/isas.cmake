# What depends on the instruction set is compiled once for each, into a namespace of its own.

option(APPORTION_EMULATED "Compute AVX-512 without it, through SIMDe: to test on other processors" OFF)

if(MSVC)
  set(APPORTION_WARNINGS /W3)
else()
  # -fno-math-errno, -fno-trapping-math: let loops over square roots and conversions become vectors; results stay the same.
  set(APPORTION_WARNINGS -Wall -Wextra -O3 -fno-math-errno -fno-trapping-math)
endif()

# GCC 12 takes the undefined parts of its own AVX-512 intrinsics for mistakes.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(APPORTION_QUIET -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

set(APPORTION_KERNELS
  products.cpp split.cpp quantize.cpp floats.cpp elementwise.cpp bound.cpp attention.cpp encode.cpp logits.cpp stream.cpp peak.cpp table.cpp)
list(TRANSFORM APPORTION_KERNELS PREPEND ${CMAKE_CURRENT_LIST_DIR}/)

# The products are vectors already; looking for loops in them takes longer than the rest of the compilation.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/products.cpp PROPERTIES COMPILE_OPTIONS
    "-fno-tree-vectorize;-fno-tree-loop-distribution;-fno-predictive-commoning")
endif()

# Adds the kernels for one instruction set to `target`, compiled with the options that follow.
function(apportion_isa target name)
  add_library(kernels_${name} OBJECT ${APPORTION_KERNELS})
  target_compile_definitions(kernels_${name} PRIVATE APPORTION_ISA=${name})
  target_compile_options(kernels_${name} PRIVATE ${APPORTION_WARNINGS} ${ARGN})
  set_target_properties(kernels_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:kernels_${name}>)
endfunction()

# All sets that this kind of processor may have; which one is used is chosen at run time (cpu.cpp).
function(apportion_isas target)
  target_compile_options(${target} PRIVATE ${APPORTION_WARNINGS})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MSVC)
    apportion_isa(${target} portable -mssse3 -msse4.1)
    target_compile_definitions(${target} PRIVATE APPORTION_X86)
    set(avx2 -mavx2 -mfma -mf16c -DAPPORTION_AVX2)
    apportion_isa(${target} avx2 ${avx2})
    if(APPORTION_EMULATED)
      target_compile_definitions(${target} PRIVATE APPORTION_EMULATED)
      # At -O1: what the optimizer would make of the emulation takes it minutes.
      apportion_isa(${target} avx512 ${avx2} -DAPPORTION_AVX512 -DAPPORTION_EMULATED -O1 -Wno-psabi)
    else()
      apportion_isa(${target} avx512 ${avx2} -DAPPORTION_AVX512
        -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni ${APPORTION_QUIET})
    endif()
  else()
    apportion_isa(${target} portable)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64" AND NOT MSVC)
    target_compile_definitions(${target} PRIVATE APPORTION_AARCH64)
    apportion_isa(${target} neon -DAPPORTION_NEON)
    apportion_isa(${target} neon_dot -DAPPORTION_NEON -march=armv8.2-a+dotprod)
  endif()
endfunction()
