/* SPDX-License-Identifier: Apache-2.0
 *
 * Networks as a few fused layers over channels-last maps: see the package's plan/, which lays out what is read here.
 *
 * Maps are rows of pixels, each a row of channels filled up to whole panels of 16 floats. Matrices of weights are
 * panels of 16 columns, one after the other.
 */
#ifndef CMR_PLAN_H
#define CMR_PLAN_H

#include <stddef.h>
#include <stdint.h>

/* Where the compiler and the system have what the files below need: vectors as types, threads of POSIX. */
#if defined(__GNUC__) && !defined(_WIN32)
#define PLAN_HERE
#endif

#define PLAN_PANEL 16
/* Most threads of a plan: twice as many parts are bits of a word. */
#define PLAN_MOST_THREADS 16

/* Largest value of A in 8 and 16 bits, with which sums stay in 32 bits (see plan/rounding.py). */
#define PLAN_MOST_8 127.0f
#define PLAN_MOST_16 4095.0f

/* A and B of a product of whole numbers in 8 or 16 bits: A and each column of B have a scale of their own. Row i of A is
 * at a + i * a_row bytes, `words` times four bytes: 4 values or 2. Word k of the columns of panel p of B is at
 * b + (p * words + k) * 64, column by column. `starts`, of 8 bits, is -128 times the sum of each column of B: for kernels
 * that have A without a sign, 128 more. */
typedef struct {
    ptrdiff_t words, a_row;
    const uint8_t *a;
    float a_scale;
    const int8_t *b;
    const float *b_scales;
    const int32_t *starts;
} PlanRounded;

/* C = then(act(A B + bias) + add), or C += A B; act and then keep values within limits. Row i, column k of A is
 * a[i * a_row + offsets[k]]; row k of panel p of B is at b + p * b_panel + k * b_k. Row i of C is at
 * c + (rows ? rows[i] : i * c_row), of `add` at add + (i >> half) * add_row. */
typedef struct {
    ptrdiff_t m, panels, k;
    const float *a, *b, *bias, *add;
    const int32_t *offsets, *rows;
    float *c;
    ptrdiff_t a_row, b_panel, b_k, c_row, add_row;
    int half, accumulate;
    float low, high, then_low, then_high;
    const float *slope, *then_slope; /* for each column, of values below 0 in act and then; NULL: as they are */
    int plain;                       /* told by `product` itself: within low and high, and nothing then */
    ptrdiff_t add_panels;            /* of C to which `add` is added, from the first on */
    const PlanRounded *rounded;      /* of products of whole numbers, which need neither a, b, k nor offsets; else NULL */
} PlanProduct;

/* One row of a depthwise convolution: output x, channel c is act(bias[c] + sum of rows[dy][(x stride + dx) channels + c]
 * times weights[c / 16][dy][dx][c % 16]). A row that is NULL has zeros. */
typedef struct {
    const float *const *rows;
    const float *weights, *bias;
    float *out;
    ptrdiff_t panels, channels, width, out_channels;
    int kernel, stride;
    float low, high;
    uint8_t *rounded; /* where whole numbers go in place of `out`: values times `gain` plus `start`, to the nearest */
    float gain, start;
} PlanDepthwise;

/* out[v][c] = act(bias[c] + sum of x[index[v, s]][c] times w), w of (s, c), or of (v, s) if `each`. */
typedef struct {
    const float *x, *weights, *bias;
    const int32_t *index;
    float *out;
    ptrdiff_t count, taps, panels, x_row, out_row;
    int each;
    float low, high;
} PlanGather;

/* Rows of A that are rounded at a time, with one scale: an even number. */
#define PLAN_ROUNDED 100

/* Rows of A, k values each, as whole numbers, one after the other and filled up to whole panels: returns their scale. Then
 * products of such, and depthwise convolutions that give such. */
typedef struct {
    float (*round)(const float *x, ptrdiff_t rows, ptrdiff_t x_row, ptrdiff_t k, uint8_t *to);
    void (*product)(const PlanProduct *);
    void (*depthwise)(const PlanDepthwise *);
} PlanRounding;

/* The same in the instructions of one kind of processor. */
typedef struct {
    const char *name;
    void (*product)(const PlanProduct *);
    void (*depthwise)(const PlanDepthwise *);
    void (*gather)(const PlanGather *);
    void (*sigmoid)(const float *x, ptrdiff_t count, float *out);
    void (*limit)(const float *x, ptrdiff_t count, float low, float high, float *out);
    void (*bend)(const float *x, ptrdiff_t count, const float *slope, float *out); /* those below 0 times a slope */
    const PlanRounding *eight, *sixteen; /* bits; NULL where the processor does not multiply these any quicker */
} PlanKernels;

/* NULL where this processor, or the compiler, has none of the instructions. */
const PlanKernels *plan_avx512(void);
const PlanKernels *plan_avx2(void);
const PlanKernels *plan_neon(void);

/* A layer: what to do, where its maps lie in `memory` and its constants in `weights` and `whole` (offsets; -1: none). The
 * names and their order are those of FIELDS in plan/layout.py, which sees to it that everything fits. */
typedef struct {
    int32_t kind;
    int32_t array;                      /* of the caller, where x or out is one */
    int32_t x, h, w, c, x_row, planar;  /* a map (h, w, c) with x_row floats a pixel, or planes (c, h, w) */
    int32_t out, out_h, out_w, out_row;
    /* convolution, or the one that expands a block; k = 0: a block's maps are taken as they are, within limits */
    int32_t k, offsets, kernel_h, stride, top, left, padded, weights, bias, panels;
    /* depthwise convolution of a block */
    int32_t mid_h, mid_w, d_kernel, d_stride, d_top, d_left, d_weights, d_bias, rows;
    int32_t chunk, ring;                /* panels at a time, rows of them that are kept */
    /* projection of a block; 0 panels: there is none */
    int32_t mid_c, p_weights, p_bias, p_panels;
    int32_t slope, add, add_row, add_panels, half, then_slope;
    int32_t partial; /* maps of a block's sums, one for each thread but one */
    int32_t index, taps, each, count;
    /* bits of the products of a convolution or of what expands a block, and of what projects it: 8, 16, 32 (floats) */
    int32_t bits, scales, starts, p_bits, p_scales, p_starts;
} PlanLayer;

typedef struct {
    float low, high, d_low, d_high, p_low, p_high, then_low, then_high, little;
    float p_scale, p_start; /* of the whole numbers that a block projects; scale 0: of each part its own, and start 0 */
} PlanNumbers;

#define PLAN_LAYER (sizeof(PlanLayer) / sizeof(int32_t))
#define PLAN_NUMBERS (sizeof(PlanNumbers) / sizeof(float))

/* Kinds of layers, as in KINDS of plan/layout.py. */
enum {
    PLAN_TAKE_PLANES, PLAN_TAKE, PLAN_CONV, PLAN_BLOCK, PLAN_MAX_POOL, PLAN_MEAN_POOL, PLAN_LIMIT, PLAN_SIGMOID, PLAN_COPY,
    PLAN_MEAN, PLAN_ATTEND, PLAN_ROWS, PLAN_FEW_ROWS, PLAN_GATHER, PLAN_RESHAPE, PLAN_AFFINE, PLAN_ENLARGE,
    PLAN_GIVE_PLANES, PLAN_GIVE_BLOCKS, PLAN_GIVE, PLAN_SIGMOID_ARRAY
};

/* A graph's layers and where everything lies. Each thread has `room` values of memory from `scratch` on for itself. */
typedef struct {
    const PlanKernels *kernels;
    const PlanLayer *layers;
    const PlanNumbers *numbers;
    ptrdiff_t count, scratch, room;
    float *memory;
    const float *weights;
    const int32_t *whole;
    float *const *arrays; /* the caller's inputs and outputs */
    int threads;
} Plan;

/* Into how many parts a layer falls, which may be run at the same time, and then how many come after those. */
void plan_parts(const Plan *plan, const PlanLayer *layer, int parts[2]);

/* Run a part of a layer, of its first parts or of those after them, as one of the plan's threads. */
void plan_run_part(const Plan *plan, ptrdiff_t layer, int stage, int part, int parts, int thread);

/* Run all layers. The result depends on the number of threads that are asked for, not on how many there are. */
void plan_run(const Plan *plan);

#endif
