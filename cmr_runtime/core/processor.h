/* SPDX-License-Identifier: Apache-2.0
 *
 * What an x86 processor can do, for files that have the same code for several kinds of them. What the compiler is told of a
 * kind (TARGET) and what the processor is asked for stand side by side, since they must be the same.
 */
#ifndef CMR_CORE_PROCESSOR_H
#define CMR_CORE_PROCESSOR_H

/* What is compiled anew into each of its callers, with the instructions that those have. */
#ifdef __GNUC__
#define CORE_INLINE static inline __attribute__((always_inline))
#else
#define CORE_INLINE static inline
#endif

#if defined(__GNUC__) && defined(__x86_64__)

#include <cpuid.h>

#define TARGET_AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")))
#if defined(__clang__) || __GNUC__ >= 8
#define TARGET_VNNI __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,avx2,fma")))
#endif
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define TARGET_AVXVNNI __attribute__((target("avx2,fma,avxvnni")))
#endif
#define TARGET_AVX2 __attribute__((target("avx2,fma")))

static inline int processor_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static inline int processor_avx512(void)
{
    return processor_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

#ifdef TARGET_AVXVNNI
static inline int processor_avxvnni(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0; /* AVX-VNNI by CPUID, for which not all compilers have a name */
    return processor_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#ifdef TARGET_VNNI
static inline int processor_vnni(void)
{
    return processor_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

#endif

#endif
