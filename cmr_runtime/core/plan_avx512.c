/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels for x86 with AVX-512: 32 registers of 16 floats.
 */
#include "plan.h"
#include "processor.h"

#if defined(PLAN_HERE) && defined(__x86_64__)

#include <immintrin.h>

#define TARGET TARGET_AVX512
#define VECTOR __m512
#define LANES 16
#define LOAD(from) _mm512_loadu_ps(from)
#define STORE(to, value) _mm512_storeu_ps(to, value)
#define SPREAD(value) _mm512_set1_ps(value)
#define FUSED(a, b, c) _mm512_fmadd_ps(a, b, c)
#define ADD(a, b) _mm512_add_ps(a, b)
#define LEAST(a, b) _mm512_min_ps(a, b)
#define MOST(a, b) _mm512_max_ps(a, b)
#define ROWS 12
#define PANELS 2
#define NAME "AVX-512"

#ifdef TARGET_VNNI /* of whole numbers; in eight bits A is without a sign */
#define TARGET_DOT TARGET_VNNI
#define INTEGERS __m512i
#define LOAD_INTEGERS(from) _mm512_loadu_si512(from)
#define SPREAD_INTEGERS(value) _mm512_set1_epi32(value)
#define DOT_8(sum, a, b) dot_8(sum, a, b)
#define DOT_16(sum, a, b) dot_16(sum, a, b)
#define START_8(from) LOAD_INTEGERS(from)
#define FLOAT(integers) _mm512_cvtepi32_ps(integers)
#define LOAD_SOME(from, count) _mm512_maskz_loadu_ps((__mmask16)((1u << (count)) - 1u), from)
#define MULTIPLIED(a, b) _mm512_mul_ps(a, b)
#define MOST_BITS(integers, value)                                                                                     \
    _mm512_max_epi32(integers, _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(INT32_MAX)))
#define LARGEST(integers) _mm512_reduce_max_epi32(integers)
#define ROUND_8(to, value)                                                                                             \
    _mm_storeu_si128((__m128i *)(to), _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(value), _mm512_set1_epi32(128))))
#define ROUND_16(to, value) _mm256_storeu_si256((__m256i *)(void *)(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(value)))

DOT_BY_NAME(dot_8, TARGET_VNNI, __m512i, "v", "vpdpbusd")
DOT_BY_NAME(dot_16, TARGET_VNNI, __m512i, "v", "vpdpwssd")
#endif

#include "plan_kernels.h"

const PlanKernels *plan_avx512(void)
{
#ifdef TARGET_DOT
    if (processor_vnni())
        return &rounded_kernels;
#endif
    return processor_avx512() ? &kernels : NULL;
}

#else

const PlanKernels *plan_avx512(void)
{
    return NULL;
}

#endif
