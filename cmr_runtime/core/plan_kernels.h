/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels of plan.h. A file that includes this says first by which instructions: VECTOR of LANES floats, LOAD, STORE,
 * SPREAD, FUSED (a b + c), ADD, LEAST and MOST (of what is no number, the second), TARGET (what tells the compiler), ROWS
 * and PANELS of a tile, NAME.
 *
 * A tile of C stays in registers while its rows of A are spread and multiplied with rows of B; the loops of tiles have
 * constant bounds and vanish.
 */
#include <math.h>
#include <string.h>

#define PER_PANEL (PLAN_PANEL / LANES)
#define INLINE static inline __attribute__((always_inline)) TARGET
#define MOST_PANELS (PANELS > 1 ? 6 : 1)
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* Values below 0 times a slope. */
INLINE VECTOR bent(VECTOR value, VECTOR slope)
{
    const VECTOR zero = SPREAD(0.0f);
    return FUSED(slope, LEAST(zero, value), MOST(zero, value));
}

/* What comes after the sums of a tile, and C. */
INLINE void finish(const int rows, const int panels, const PlanProduct *p, ptrdiff_t first, ptrdiff_t panel, float **c,
                   VECTOR (*sums)[MOST_PANELS * PER_PANEL])
{
    const ptrdiff_t column = panel * PLAN_PANEL;
    if (p->plain && p->low == -INFINITY && p->high == INFINITY) {
        UNROLLED for (int i = 0; i < rows; i++)
            UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) STORE(c[i] + j * LANES, sums[i][j]);
        return;
    }
    const VECTOR low = SPREAD(p->low), high = SPREAD(p->high);
    if (p->plain) { /* most products, and where k is small this is much of their time */
        UNROLLED for (int i = 0; i < rows; i++)
            UNROLLED for (int j = 0; j < panels * PER_PANEL; j++)
                STORE(c[i] + j * LANES, LEAST(high, MOST(low, sums[i][j])));
        return;
    }
    const VECTOR then_low = SPREAD(p->then_low), then_high = SPREAD(p->then_high);
    UNROLLED for (int i = 0; i < rows; i++)
        UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) {
            VECTOR value = LEAST(high, MOST(low, sums[i][j]));
            if (p->slope)
                value = bent(value, LOAD(p->slope + column + j * LANES));
            if (p->add && panel + j / PER_PANEL < p->add_panels)
                value = ADD(value, LOAD(p->add + ((first + i) >> p->half) * p->add_row + column + j * LANES));
            value = LEAST(then_high, MOST(then_low, value));
            if (p->then_slope)
                value = bent(value, LOAD(p->then_slope + column + j * LANES));
            STORE(c[i] + j * LANES, value);
        }
}

INLINE void rows_of(const int rows, const PlanProduct *p, ptrdiff_t first, ptrdiff_t column, float **c)
{
    UNROLLED for (int i = 0; i < rows; i++)
        c[i] = p->c + column + (p->rows ? p->rows[first + i] : (first + i) * p->c_row);
}

INLINE void tile(const int rows, const int panels, const PlanProduct *p, ptrdiff_t first, ptrdiff_t panel)
{
    VECTOR sums[ROWS][MOST_PANELS * PER_PANEL];
    const float *a = p->a + first * p->a_row, *b = p->b + panel * p->b_panel;
    const ptrdiff_t row = p->a_row, row3 = 3 * row, b_panel = p->b_panel, b_k = p->b_k;
    const int32_t *offsets = p->offsets;
    const ptrdiff_t column = panel * PLAN_PANEL;
    float *c[ROWS];
    rows_of(rows, p, first, column, c);
    if (p->accumulate) {
        UNROLLED for (int i = 0; i < rows; i++)
            UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) sums[i][j] = LOAD(c[i] + j * LANES);
    } else {
        UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) {
            VECTOR start = p->bias ? LOAD(p->bias + column + j * LANES) : SPREAD(0.0f);
            UNROLLED for (int i = 0; i < rows; i++) sums[i][j] = start;
        }
    }
    for (ptrdiff_t k = 0; k < p->k; k++) {
        const float *at = a + offsets[k];
        VECTOR right[MOST_PANELS * PER_PANEL];
        UNROLLED for (int j = 0; j < panels; j++)
            UNROLLED for (int v = 0; v < PER_PANEL; v++) right[j * PER_PANEL + v] = LOAD(b + j * b_panel + v * LANES);
        b += b_k;
        UNROLLED for (int i = 0; i < rows; i++) {
            VECTOR left = SPREAD(i % 4 == 3 ? at[row3] : at[(i % 4) * row]);
            UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) sums[i][j] = FUSED(left, right[j], sums[i][j]);
            if (i % 4 == 3)
                at += 4 * row;
        }
    }
    finish(rows, panels, p, first, panel, c, sums);
}

#define TILE(kind, target, rows, panels)                                                                               \
    static target void kind##_##rows##_##panels(const PlanProduct *p, ptrdiff_t first, ptrdiff_t panel)                 \
    {                                                                                                                  \
        kind(rows, panels, p, first, panel);                                                                           \
    }
#define TILES(kind, target, panels)                                                                                    \
    TILE(kind, target, 1, panels) TILE(kind, target, 2, panels) TILE(kind, target, 3, panels)                           \
    TILE(kind, target, 4, panels) TILE(kind, target, 5, panels) TILE(kind, target, 6, panels)
#define MORE_TILES(kind, target, panels)                                                                               \
    TILE(kind, target, 7, panels) TILE(kind, target, 8, panels) TILE(kind, target, 9, panels)                           \
    TILE(kind, target, 10, panels) TILE(kind, target, 11, panels) TILE(kind, target, 12, panels)
#define LISTED(kind, panels)                                                                                           \
    kind##_1_##panels, kind##_2_##panels, kind##_3_##panels, kind##_4_##panels, kind##_5_##panels, kind##_6_##panels
#define MORE_LISTED(kind, panels)                                                                                      \
    kind##_7_##panels, kind##_8_##panels, kind##_9_##panels, kind##_10_##panels, kind##_11_##panels, kind##_12_##panels

typedef void (*Tile)(const PlanProduct *, ptrdiff_t, ptrdiff_t);

/* All tiles of a kind, and a table of them. */
#if PANELS > 1
#define EVERY_TILE(kind, target)                                                                                       \
    TILES(kind, target, 1) MORE_TILES(kind, target, 1) TILES(kind, target, 2) MORE_TILES(kind, target, 2)               \
    TILE(kind, target, 1, 6)                                                                                           \
    static const Tile kind##s[PANELS][ROWS] = {{LISTED(kind, 1), MORE_LISTED(kind, 1)},                                 \
                                               {LISTED(kind, 2), MORE_LISTED(kind, 2)}};
#else
#define EVERY_TILE(kind, target)                                                                                       \
    TILES(kind, target, 1) static const Tile kind##s[PANELS][ROWS] = {{LISTED(kind, 1)}};
#endif

EVERY_TILE(tile, TARGET)

static TARGET void all_tiles(const PlanProduct *given, const Tile tiles[PANELS][ROWS], Tile wide)
{
    PlanProduct whole = *given, *p = &whole;
    p->plain = !p->slope && !p->add && !p->then_slope && p->then_low == -INFINITY && p->then_high == INFINITY;
    ptrdiff_t panel = 0, parts = (p->m + ROWS - 1) / ROWS;
    if (p->m == 1 && wide) /* a row alone waits for weights: more of them at a time */
        for (; panel + 6 <= p->panels; panel += 6)
            wide(p, 0, panel);
    while (panel < p->panels) {
        int panels = p->panels - panel < PANELS ? (int)(p->panels - panel) : PANELS;
        for (ptrdiff_t part = 0, first = 0; part < parts; part++) { /* parts as equal as can be */
            ptrdiff_t end = (part + 1) * p->m / parts;
            tiles[panels - 1][end - first - 1](p, first, panel);
            first = end;
        }
        panel += panels;
    }
}

#if PANELS > 1
#define WIDE(kind) kind##_1_6
#else
#define WIDE(kind) NULL
#endif

static TARGET void product(const PlanProduct *p)
{
    all_tiles(p, tiles, WIDE(tile));
}

#ifndef TARGET_DOT
#define ROUND_8(to, value) ((void)(value))
#endif
#ifndef DOT_16
#define ROUND_16(to, value) ROUND_8(to, value)
#endif

INLINE void depthwise_part(const int bits, const int kernel, const int stride, const int count, const PlanDepthwise *d,
                           ptrdiff_t x, ptrdiff_t channel, const float *weights)
{
    VECTOR sums[10];
    UNROLLED for (int i = 0; i < count; i++) sums[i] = LOAD(d->bias + channel);
    UNROLLED for (int dy = 0; dy < kernel; dy++) {
        if (d->rows[dy] == NULL)
            continue;
        const float *from = d->rows[dy] + x * stride * d->channels + channel;
        UNROLLED for (int dx = 0; dx < kernel; dx++) {
            VECTOR weight = LOAD(weights + (dy * kernel + dx) * PLAN_PANEL);
            UNROLLED for (int i = 0; i < count; i++)
                sums[i] = FUSED(weight, LOAD(from + (i * stride + dx) * d->channels), sums[i]);
        }
    }
    const VECTOR low = SPREAD(d->low), high = SPREAD(d->high), gain = SPREAD(d->gain), start = SPREAD(d->start);
    UNROLLED for (int i = 0; i < count; i++) {
        const VECTOR value = LEAST(high, MOST(low, sums[i]));
        const ptrdiff_t at = (x + i) * d->out_channels + channel;
        if (bits == 32)
            STORE(d->out + at, value);
        else if (bits == 16)
            ROUND_16(d->rounded + 2 * at, FUSED(value, gain, start));
        else
            ROUND_8(d->rounded + at, FUSED(value, gain, start));
    }
}

INLINE void depthwise_row(const int bits, const int kernel, const int stride, const PlanDepthwise *d)
{
    for (ptrdiff_t panel = 0; panel < d->panels; panel++)
        for (int v = 0; v < PER_PANEL; v++) {
            ptrdiff_t x = 0, channel = panel * PLAN_PANEL + v * LANES;
            const float *weights = d->weights + panel * kernel * kernel * PLAN_PANEL + v * LANES;
            for (; x + 10 <= d->width; x += 10)
                depthwise_part(bits, kernel, stride, 10, d, x, channel, weights);
            for (; x + 5 <= d->width; x += 5)
                depthwise_part(bits, kernel, stride, 5, d, x, channel, weights);
            for (; x < d->width; x++)
                depthwise_part(bits, kernel, stride, 1, d, x, channel, weights);
        }
}

#define DEPTHWISE(bits, kernel, stride)                                                                                \
    static TARGET void depthwise_##bits##_##kernel##_##stride(const PlanDepthwise *d)                                  \
    {                                                                                                                  \
        depthwise_row(bits, kernel, stride, d);                                                                        \
    }
#define EVERY_DEPTHWISE(bits)                                                                                          \
    DEPTHWISE(bits, 3, 1)                                                                                              \
    DEPTHWISE(bits, 3, 2)                                                                                              \
    DEPTHWISE(bits, 5, 1)                                                                                              \
    DEPTHWISE(bits, 5, 2)                                                                                              \
    static TARGET void depthwise_##bits(const PlanDepthwise *d)                                                        \
    {                                                                                                                  \
        if (d->kernel == 3)                                                                                            \
            d->stride == 1 ? depthwise_##bits##_3_1(d) : depthwise_##bits##_3_2(d);                                    \
        else                                                                                                           \
            d->stride == 1 ? depthwise_##bits##_5_1(d) : depthwise_##bits##_5_2(d);                                    \
    }

EVERY_DEPTHWISE(32)

static TARGET void gather(const PlanGather *g)
{
    const VECTOR low = SPREAD(g->low), high = SPREAD(g->high);
    for (ptrdiff_t v = 0; v < g->count; v++) {
        const int32_t *index = g->index + v * g->taps;
        for (ptrdiff_t at = 0; at < g->panels * PLAN_PANEL; at += LANES) {
            VECTOR sum = g->bias ? LOAD(g->bias + at) : SPREAD(0.0f);
            for (ptrdiff_t s = 0; s < g->taps; s++) {
                VECTOR weight = g->each ? SPREAD(g->weights[v * g->taps + s])
                                        : LOAD(g->weights + s * g->panels * PLAN_PANEL + at);
                sum = FUSED(weight, LOAD(g->x + index[s] * g->x_row + at), sum);
            }
            STORE(g->out + v * g->out_row + at, LEAST(high, MOST(low, sum)));
        }
    }
}

/* 1 / (1 + exp(-x)). exp by powers of two and a polynomial of the rest, of Cephes' expf: within two units of the last
 * place. */
static TARGET void sigmoid(const float *x, ptrdiff_t count, float *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        float y = -x[i];
        y = y < -87.0f ? -87.0f : y > 87.0f ? 87.0f : y;
        float whole = (y * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest by what float32 cannot hold */
        float rest = (y - whole * 0.693359375f) + whole * 2.12194440e-4f;
        float value = 1.9875691500e-4f;
        value = value * rest + 1.3981999507e-3f;
        value = value * rest + 8.3334519073e-3f;
        value = value * rest + 4.1665795894e-2f;
        value = value * rest + 1.6666665459e-1f;
        value = value * rest + 5.0000001201e-1f;
        value = value * (rest * rest) + rest + 1.0f;
        union {
            uint32_t bits;
            float value;
        } power = {.bits = (uint32_t)((int32_t)(whole == whole ? whole : 0.0f) + 127) << 23}; /* what is no number stays none */
        out[i] = 1.0f / (1.0f + value * power.value);
    }
}

static TARGET void limit(const float *x, ptrdiff_t count, float low, float high, float *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        float value = x[i] < low ? low : x[i];
        out[i] = value > high ? high : value;
    }
}

static TARGET void bend(const float *x, ptrdiff_t count, const float *slope, float *out)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        STORE(out + i, bent(LOAD(x + i), LOAD(slope + i)));
    for (; i < count; i++)
        out[i] = fmaf(slope[i], x[i] > 0.0f ? 0.0f : x[i], x[i] < 0.0f ? 0.0f : x[i]);
}

static const PlanKernels kernels = {NAME, product, depthwise_32, gather, sigmoid, limit, bend, NULL, NULL};

#ifdef TARGET_DOT
#include "plan_rounded.h"
#endif
