/* SPDX-License-Identifier: Apache-2.0
 *
 * Products in eight bits, for processors that sum four products of bytes in one instruction. plan_kernels.h includes this
 * where a file says, besides what that needs: INTEGERS (LANES of int32), LOAD_INTEGERS, SPREAD_INTEGERS, DOT (a sum, four
 * values of A, those of B), FLOAT (integers as floats), START (of sums), ROUND (floats as bytes, to memory), MULTIPLIED,
 * LOAD_SOME (the first values of a vector, and zeros), MOST_BITS (of integers and the bits of floats without signs), LARGEST
 * (of lanes), TARGET_DOT (what tells the compiler).
 */
#define INLINE_DOT static inline __attribute__((always_inline)) TARGET_DOT

INLINE_DOT void eight_tile(const int rows, const int panels, const PlanProduct *p, ptrdiff_t first, ptrdiff_t panel)
{
    const PlanEight *e = p->eight;
    INTEGERS sums[ROWS][MOST_PANELS * PER_PANEL];
    const uint8_t *a = e->a + first * e->a_row;
    const int8_t *b = e->b + panel * e->fours * 4 * PLAN_PANEL;
    const ptrdiff_t row = e->a_row, row3 = 3 * row, b_panel = e->fours * 4 * PLAN_PANEL, column = panel * PLAN_PANEL;
    float *c[ROWS];
    rows_of(rows, p, first, column, c);
    UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) {
        INTEGERS start = START(e->starts + column + j * LANES);
        UNROLLED for (int i = 0; i < rows; i++) sums[i][j] = start;
    }
    for (ptrdiff_t k = 0; k < e->fours; k++) {
        const uint8_t *at = a;
        INTEGERS right[MOST_PANELS * PER_PANEL];
        UNROLLED for (int j = 0; j < panels; j++)
            UNROLLED for (int v = 0; v < PER_PANEL; v++) right[j * PER_PANEL + v] = LOAD_INTEGERS(b + j * b_panel + v * LANES * 4);
        a += 4;
        b += 4 * PLAN_PANEL;
        UNROLLED for (int i = 0; i < rows; i++) {
            int32_t four;
            memcpy(&four, i % 4 == 3 ? at + row3 : at + (i % 4) * row, sizeof four);
            INTEGERS left = SPREAD_INTEGERS(four);
            UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) sums[i][j] = DOT(sums[i][j], left, right[j]);
            if (i % 4 == 3)
                at += 4 * row;
        }
    }
    VECTOR values[ROWS][MOST_PANELS * PER_PANEL];
    UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) {
        const VECTOR scale = MULTIPLIED(LOAD(e->b_scales + column + j * LANES), SPREAD(e->a_scale));
        const VECTOR bias = p->bias ? LOAD(p->bias + column + j * LANES) : SPREAD(0.0f);
        UNROLLED for (int i = 0; i < rows; i++) {
            VECTOR start = p->accumulate ? LOAD(c[i] + j * LANES) : bias;
            values[i][j] = FUSED(FLOAT(sums[i][j]), scale, start);
        }
    }
    finish(rows, panels, p, first, panel, c, values);
}

EVERY_TILE(eight_tile, TARGET_DOT)

static TARGET_DOT void product_eight(const PlanProduct *p)
{
    all_tiles(p, eight_tiles, WIDE(eight_tile));
}

/* Rows whose values are `whole` vectors and `left` more: what fills up the last one may be anything in memory. The largest
 * magnitude is that of the largest bits, without the sign: so what is no number is found, too, and stays none. */
INLINE_DOT float rounded(const float *x, ptrdiff_t rows, ptrdiff_t x_row, ptrdiff_t whole, int left, uint8_t *to)
{
    INTEGERS most = SPREAD_INTEGERS(0);
    for (ptrdiff_t row = 0; row < rows; row++) {
        const float *from = x + row * x_row;
        for (ptrdiff_t at = 0; at < whole; at++)
            most = MOST_BITS(most, LOAD(from + at * LANES));
        if (left)
            most = MOST_BITS(most, LOAD_SOME(from + whole * LANES, left));
    }
    const int32_t bits = LARGEST(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    const VECTOR gain = SPREAD(largest > 0.0f ? 127.0f / largest : 0.0f);
    const ptrdiff_t filled = ((whole * LANES + left) + PLAN_PANEL - 1) / PLAN_PANEL * PLAN_PANEL;
    for (ptrdiff_t row = 0; row < rows; row++, to += filled) {
        const float *from = x + row * x_row;
        for (ptrdiff_t at = 0; at < whole; at++)
            ROUND(to + at * LANES, MULTIPLIED(LOAD(from + at * LANES), gain));
        if (left)
            ROUND(to + whole * LANES, MULTIPLIED(LOAD_SOME(from + whole * LANES, left), gain));
    }
    return largest / 127.0f;
}

static TARGET_DOT float round_rows(const float *x, ptrdiff_t rows, ptrdiff_t x_row, ptrdiff_t k, uint8_t *to)
{
    if (k == LANES)
        return rounded(x, rows, x_row, 1, 0, to);
    return rounded(x, rows, x_row, k / LANES, (int)(k % LANES), to);
}

static const PlanKernels eight_kernels = {NAME, product, depthwise, gather, sigmoid, limit, bend, round_rows, product_eight};
