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

#include "plan_kernels.h"

const PlanKernels *plan_avx2(void)
{
    return processor_avx2() ? &kernels : NULL;
}

#else

const PlanKernels *plan_avx2(void)
{
    return NULL;
}

#endif
