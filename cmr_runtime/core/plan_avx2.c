/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels for x86 with AVX2: 16 registers of 8 floats.
 */
#include "plan.h"
#include "processor.h"

#if defined(PLAN_HERE) && defined(__x86_64__)

#include <immintrin.h>

#define TARGET TARGET_AVX2
#define VECTOR __m256
#define LANES 8
#define LOAD(from) _mm256_loadu_ps(from)
#define STORE(to, value) _mm256_storeu_ps(to, value)
#define SPREAD(value) _mm256_set1_ps(value)
#define FUSED(a, b, c) _mm256_fmadd_ps(a, b, c)
#define ADD(a, b) _mm256_add_ps(a, b)
#define LEAST(a, b) _mm256_min_ps(a, b)
#define MOST(a, b) _mm256_max_ps(a, b)
#define ROWS 6
#define PANELS 1
#define NAME "AVX2"

#ifdef TARGET_AVXVNNI /* of whole numbers; in eight bits A is without a sign */
#define TARGET_DOT TARGET_AVXVNNI
#define INTEGERS __m256i
#define LOAD_INTEGERS(from) _mm256_loadu_si256((const __m256i *)(const void *)(from))
#define SPREAD_INTEGERS(value) _mm256_set1_epi32(value)
#define DOT_8(sum, a, b) dot_8(sum, a, b)
#define DOT_16(sum, a, b) dot_16(sum, a, b)
#define START_8(from) LOAD_INTEGERS(from)
#define FLOAT(integers) _mm256_cvtepi32_ps(integers)
#define LOAD_SOME(from, count) first_values(from, count)
#define MULTIPLIED(a, b) _mm256_mul_ps(a, b)
#define MOST_BITS(integers, value)                                                                                     \
    _mm256_max_epi32(integers, _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(INT32_MAX)))
#define LARGEST(integers) largest_lane(integers)
#define ROUND_8(to, value) eight_bytes(to, _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm256_set1_epi32(128)))
#define ROUND_16(to, value) eight_pairs(to, _mm256_cvtps_epi32(value))

DOT_BY_NAME(dot_8, TARGET_AVXVNNI, __m256i, "x", "%{vex%} vpdpbusd")
DOT_BY_NAME(dot_16, TARGET_AVXVNNI, __m256i, "x", "%{vex%} vpdpwssd")

static inline TARGET __m256 first_values(const float *from, int count)
{
    return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
}

static inline TARGET int32_t largest_lane(__m256i lanes)
{
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1))));
}

/* The lowest byte of each lane. */
static inline TARGET void eight_bytes(uint8_t *to, __m256i values)
{
    const __m256i lowest = _mm256_set1_epi32(0x0c080400);
    __m256i bytes = _mm256_shuffle_epi8(values, lowest); /* within each half */
    _mm_storel_epi64((__m128i *)(void *)to,
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
}

/* The lowest two bytes of each lane, which hold its value. */
static inline TARGET void eight_pairs(uint8_t *to, __m256i values)
{
    _mm_storeu_si128((__m128i *)(void *)to,
                     _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1)));
}
#endif

#include "plan_kernels.h"

const PlanKernels *plan_avx2(void)
{
#ifdef TARGET_DOT
    if (processor_avxvnni())
        return &rounded_kernels;
#endif
    return processor_avx2() ? &kernels : NULL;
}

#else

const PlanKernels *plan_avx2(void)
{
    return NULL;
}

#endif
