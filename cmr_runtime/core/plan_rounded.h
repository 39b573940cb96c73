/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of whole numbers in 8 or 16 bits, for processors that sum four or two such products in one instruction.
 * plan_kernels.h includes this where a file says, besides what that needs: INTEGERS (LANES of int32), LOAD_INTEGERS,
 * SPREAD_INTEGERS, DOT_8 (a sum, four bytes of A, those of B), START_8 (of sums), DOT_16 (two values of each; absent where
 * that is no quicker than floats), FLOAT (integers as floats), ROUND_8 and ROUND_16 (floats as whole numbers, to memory),
 * MULTIPLIED, LOAD_SOME (the first values of a vector, and zeros), MOST_BITS (of integers and the bits of floats without
 * signs), LARGEST (of lanes), TARGET_DOT (what tells the compiler).
 */
#define INLINE_DOT static inline __attribute__((always_inline)) TARGET_DOT

#ifdef DOT_16
#define DOT(sum, a, b) (bits == 8 ? DOT_8(sum, a, b) : DOT_16(sum, a, b))
#else
#define DOT(sum, a, b) DOT_8(sum, a, b)
#endif

INLINE_DOT void rounded_tile(const int bits, const int rows, const int panels, const PlanProduct *p, ptrdiff_t first,
                             ptrdiff_t panel)
{
    const PlanRounded *e = p->rounded;
    INTEGERS sums[ROWS][MOST_PANELS * PER_PANEL];
    const uint8_t *a = e->a + first * e->a_row;
    const int8_t *b = e->b + panel * e->words * 4 * PLAN_PANEL;
    const ptrdiff_t row = e->a_row, row3 = 3 * row, b_panel = e->words * 4 * PLAN_PANEL, column = panel * PLAN_PANEL;
    float *c[ROWS];
    rows_of(rows, p, first, column, c);
    UNROLLED for (int j = 0; j < panels * PER_PANEL; j++) {
        INTEGERS start = bits == 8 ? START_8(e->starts + column + j * LANES) : SPREAD_INTEGERS(0);
        UNROLLED for (int i = 0; i < rows; i++) sums[i][j] = start;
    }
    for (ptrdiff_t k = 0; k < e->words; k++) {
        const uint8_t *at = a;
        INTEGERS right[MOST_PANELS * PER_PANEL];
        UNROLLED for (int j = 0; j < panels; j++)
            UNROLLED for (int v = 0; v < PER_PANEL; v++) right[j * PER_PANEL + v] = LOAD_INTEGERS(b + j * b_panel + v * LANES * 4);
        a += 4;
        b += 4 * PLAN_PANEL;
        UNROLLED for (int i = 0; i < rows; i++) {
            int32_t word;
            memcpy(&word, i % 4 == 3 ? at + row3 : at + (i % 4) * row, sizeof word);
            INTEGERS left = SPREAD_INTEGERS(word);
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

/* Rows whose values are `whole` vectors and `left` more: what fills up the last one may be anything in memory. The largest
 * magnitude is that of the largest bits, without the sign: so what is no number is found, too, and stays none. */
INLINE_DOT float rounded(const int bits, const float *x, ptrdiff_t rows, ptrdiff_t x_row, ptrdiff_t whole, int left, uint8_t *to)
{
    const ptrdiff_t bytes = bits / 8, filled = ((whole * LANES + left) + PLAN_PANEL - 1) / PLAN_PANEL * PLAN_PANEL * bytes;
    const float most = bits == 8 ? PLAN_MOST_8 : PLAN_MOST_16;
    INTEGERS found = SPREAD_INTEGERS(0);
    for (ptrdiff_t row = 0; row < rows; row++) {
        const float *from = x + row * x_row;
        for (ptrdiff_t at = 0; at < whole; at++)
            found = MOST_BITS(found, LOAD(from + at * LANES));
        if (left)
            found = MOST_BITS(found, LOAD_SOME(from + whole * LANES, left));
    }
    const int32_t found_bits = LARGEST(found);
    float largest;
    memcpy(&largest, &found_bits, sizeof largest);
    const VECTOR gain = SPREAD(largest > 0.0f ? most / largest : 0.0f);
    for (ptrdiff_t row = 0; row < rows; row++, to += filled) {
        const float *from = x + row * x_row;
        for (ptrdiff_t at = 0; at < whole + (left > 0); at++) {
            const VECTOR value = MULTIPLIED(at < whole ? LOAD(from + at * LANES) : LOAD_SOME(from + at * LANES, left), gain);
            if (bits == 8)
                ROUND_8(to + at * LANES, value);
            else
                ROUND_16(to + at * LANES * 2, value);
        }
    }
    return largest / most;
}

/* What plan.h wants of so many bits. */
#define ROUNDED(bits)                                                                                                  \
    INLINE_DOT void tile_##bits(const int rows, const int panels, const PlanProduct *p, ptrdiff_t first, ptrdiff_t panel) \
    {                                                                                                                  \
        rounded_tile(bits, rows, panels, p, first, panel);                                                             \
    }                                                                                                                  \
    EVERY_TILE(tile_##bits, TARGET_DOT)                                                                                \
    static TARGET_DOT void product_##bits(const PlanProduct *p)                                                        \
    {                                                                                                                  \
        all_tiles(p, tile_##bits##s, WIDE(tile_##bits));                                                               \
    }                                                                                                                  \
    static TARGET_DOT float round_##bits(const float *x, ptrdiff_t rows, ptrdiff_t x_row, ptrdiff_t k, uint8_t *to)     \
    {                                                                                                                  \
        if (k == LANES)                                                                                                \
            return rounded(bits, x, rows, x_row, 1, 0, to);                                                            \
        return rounded(bits, x, rows, x_row, k / LANES, (int)(k % LANES), to);                                         \
    }                                                                                                                  \
    EVERY_DEPTHWISE(bits)                                                                                              \
    static const PlanRounding rounding_##bits = {round_##bits, product_##bits, depthwise_##bits};

ROUNDED(8)
#ifdef DOT_16
ROUNDED(16)
#define SIXTEEN &rounding_16
#else
#define SIXTEEN NULL
#endif

static const PlanKernels rounded_kernels = {NAME, product, depthwise_32, gather, sigmoid, limit, bend, &rounding_8, SIXTEEN};
