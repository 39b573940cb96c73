/* SPDX-License-Identifier: Apache-2.0
 *
 * What an x86 processor can do, for files that have the same code for several kinds of them. What the compiler is told of a
 * kind (TARGET) and what the processor is asked for stand side by side, since they must be the same.
 */
#ifndef CMR_CORE_PROCESSOR_H
#define CMR_CORE_PROCESSOR_H

#include <stddef.h>
#include <stdint.h>

/* What is compiled anew into each of its callers, with the instructions that those have. */
#ifdef __GNUC__
#define CORE_INLINE static inline __attribute__((always_inline))
#else
#define CORE_INLINE static inline
#endif

/* Have so many lines of bytes brought near that will be read: of a part of an image, no processor foresees its lines. */
CORE_INLINE void bring_near(const uint8_t *first, ptrdiff_t line, ptrdiff_t lines, ptrdiff_t bytes)
{
#ifdef __GNUC__
    for (; lines > 0; lines--, first += line)
        for (ptrdiff_t at = -(ptrdiff_t)((uintptr_t)first % 64); at < bytes; at += 64)
            __builtin_prefetch(first + at, 0, 2);
#else
    (void)first, (void)line, (void)lines, (void)bytes;
#endif
}

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

/* A function that adds products of some values in each lane of vectors, by an instruction's name: of intrinsics GCC 12 makes
 * loops that move most sums to memory and back, at twice the time. `kind`: of register, as the compiler calls it. */
#define DOT_BY_NAME(name, target, vector, kind, instruction)                                                           \
    static inline __attribute__((always_inline)) target vector name(vector sum, vector a, vector b)                    \
    {                                                                                                                  \
        __asm__(instruction " %2, %1, %0" : "+" kind(sum) : kind(a), kind(b));                                         \
        return sum;                                                                                                    \
    }

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

/* Whether loads from eight places at a time are quicker than one by one. So they are on processors that have AVX-512 FP16, since
 * Sapphire Rapids; those of Intel before them got slow ones with what was done against Downfall (CVE-2022-40982), and AMD's
 * are made of single loads. */
static inline int processor_gathers(void)
{
    static int known = -1; /* a virtual machine answers CPUID in some microseconds */
    if (known < 0) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        known = processor_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 23 & 1);
    }
    return known;
}

#ifdef TARGET_AVXVNNI
static inline int processor_avxvnni(void)
{
    static int known = -1; /* AVX-VNNI by CPUID, for which not all compilers have a name */
    if (known < 0) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        known = processor_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
    }
    return known;
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
