/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels for 64-bit Arm, whose processors all have NEON: 32 registers of 4 floats.
 */
#include "plan.h"

#if defined(PLAN_HERE) && defined(__aarch64__)

#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#endif

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

/* Whole numbers in eight bits (those in 16 are multiplied no quicker than floats), where the compiler makes such instructions
 * for single functions. clang does from 16 on; GCC does not put what is compiled for more than Armv8.2 into them, as on the
 * processors named, which lack the instructions anyway. */
#if defined(__ARM_FEATURE_DOTPROD)
#define TARGET_DOT
#elif defined(__clang__) && __clang_major__ >= 16
#define TARGET_DOT __attribute__((target("dotprod")))
#elif !defined(__clang__) && __GNUC__ >= 8 && !defined(__ARM_FEATURE_CRYPTO) && !defined(__ARM_FEATURE_AES) &&            \
    !defined(__ARM_FEATURE_SVE) && !defined(__ARM_FEATURE_FP16_SCALAR_ARITHMETIC)
#define TARGET_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

#ifdef TARGET_DOT
#define INTEGERS int32x4_t
#define LOAD_INTEGERS(from) vreinterpretq_s32_s8(vld1q_s8(from))
#define SPREAD_INTEGERS(value) vdupq_n_s32(value)
#define DOT_8(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#define START_8(from) ((void)(from), vdupq_n_s32(0))
#define FLOAT(integers) vcvtq_f32_s32(integers)
#define LOAD_SOME(from, count) first_values(from, count)
#define MULTIPLIED(a, b) vmulq_f32(a, b)
#define MOST_BITS(integers, value) vmaxq_s32(integers, vreinterpretq_s32_f32(vabsq_f32(value)))
#define LARGEST(integers) vmaxvq_s32(integers)
#define ROUND_8(to, value) four_bytes(to, vcvtnq_s32_f32(value))

static inline float32x4_t first_values(const float *from, int count)
{
    float values[4] = {0.0f};
    for (int i = 0; i < count; i++)
        values[i] = from[i];
    return vld1q_f32(values);
}

static inline void four_bytes(uint8_t *to, int32x4_t values)
{
    int16x4_t narrow = vmovn_s32(values);
    int8x8_t bytes = vmovn_s16(vcombine_s16(narrow, narrow));
    vst1_lane_s32((int32_t *)(void *)to, vreinterpret_s32_s8(bytes), 0);
}
#endif

#include "plan_kernels.h"

/* The instructions came with Armv8.2 and belong to Armv8.4; all of Apple's computers have them. */
const PlanKernels *plan_neon(void)
{
#if defined(TARGET_DOT) && defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &rounded_kernels : &kernels;
#elif defined(TARGET_DOT) && defined(__APPLE__)
    return &rounded_kernels;
#else
    return &kernels;
#endif
}

#else

const PlanKernels *plan_neon(void)
{
    return NULL;
}

#endif
