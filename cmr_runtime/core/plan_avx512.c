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

#include "plan_kernels.h"

const PlanKernels *plan_avx512(void)
{
    return processor_avx512() ? &kernels : NULL;
}

#else

const PlanKernels *plan_avx512(void)
{
    return NULL;
}

#endif
