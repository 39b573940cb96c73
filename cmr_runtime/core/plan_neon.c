/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels for 64-bit Arm, whose processors all have NEON: 32 registers of 4 floats.
 */
#include "plan.h"

#if defined(PLAN_HERE) && defined(__aarch64__)

#include <arm_neon.h>

#define TARGET
#define VECTOR float32x4_t
#define LANES 4
#define LOAD(from) vld1q_f32(from)
#define STORE(to, value) vst1q_f32(to, value)
#define SPREAD(value) vdupq_n_f32(value)
#define FUSED(a, b, c) vfmaq_f32(c, a, b)
#define ADD(a, b) vaddq_f32(a, b)
#define LEAST(a, b) vminq_f32(a, b)
#define MOST(a, b) vmaxq_f32(a, b)
#define ROWS 6
#define PANELS 1
#define NAME "NEON"

#include "plan_kernels.h"

const PlanKernels *plan_neon(void)
{
    return &kernels;
}

#else

const PlanKernels *plan_neon(void)
{
    return NULL;
}

#endif
