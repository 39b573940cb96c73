/* SPDX-License-Identifier: Apache-2.0
 *
 * A traced outline: moved onto the level of its map, and what borders cut of it; `contour` and `cut` of silhouette.py.
 */
#include "core.h"

#include <math.h>

static ptrdiff_t clamped(ptrdiff_t value, ptrdiff_t last)
{
    return value < 0 ? 0 : value > last ? last : value;
}

/* One row of a map at twice its width: between two cells a quarter of the way from one to the other. */
static void double_row(const float *row, ptrdiff_t side, float *wide)
{
    const ptrdiff_t last = side - 1;
    for (ptrdiff_t column = 0; column < side; column++) {
        const float before = row[column > 0 ? column - 1 : 0], here = row[column];
        const float after = row[column < last ? column + 1 : last];
        wide[2 * column] = before * 0.25f + here * 0.75f;
        wide[2 * column + 1] = here * 0.75f + after * 0.25f;
    }
}

int core_double_map(const float *map, ptrdiff_t side, float level, float *fine, uint8_t *mask)
{
    float odd = 0.0f;
    for (ptrdiff_t cell = 0; cell < side * side; cell++)
        odd += map[cell] - map[cell]; /* NaN of what is not finite */
    if (odd != 0.0f)
        return 0;
    /* Rows first, as OpenCV does, so that both round alike: each coarse row goes where its upper half will be. */
    const ptrdiff_t last = side - 1, width = 2 * side;
    for (ptrdiff_t row = 0; row < side; row++)
        double_row(map + row * side, side, fine + 2 * row * width);
    for (ptrdiff_t row = 0; row < side; row++) {
        float *here = fine + 2 * row * width, *lower = here + width;
        const float *after = row < last ? lower + width : here;
        for (ptrdiff_t column = 0; column < width; column++)
            lower[column] = here[column] * 0.75f + after[column] * 0.25f;
    }
    /* Upper halves from below: a row is needed as it was by the one below it, whose lower half is done. */
    for (ptrdiff_t row = last; row > 0; row--) {
        float *here = fine + 2 * row * width;
        const float *before = here - 2 * width;
        for (ptrdiff_t column = 0; column < width; column++)
            here[column] = before[column] * 0.25f + here[column] * 0.75f;
    }
    for (ptrdiff_t cell = 0; cell < width * width; cell++)
        mask[cell] = (uint8_t)(fine[cell] >= level);
    return 1;
}

void core_refine_contour(const float *map, ptrdiff_t side, const int32_t *points, ptrdiff_t count, float level,
                         float scale, float *outline)
{
    const ptrdiff_t last = side - 1;
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t x = clamped(points[2 * i], last), y = clamped(points[2 * i + 1], last);
        const ptrdiff_t left = clamped(x - 1, last), right = clamped(x + 1, last);
        const ptrdiff_t above = clamped(y - 1, last), below = clamped(y + 1, last);
        const float excess = map[y * side + x] - level;
        const float across = 0.5f * (map[y * side + right] - map[y * side + left]);
        const float down = 0.5f * (map[below * side + x] - map[above * side + x]);
        /* Comparisons that leave NaN as it is, as np.maximum does. */
        float squared = across * across + down * down;
        squared = squared < 1e-8f ? 1e-8f : squared;
        const float limit = fabsf(excess) * sqrtf(squared);
        const float step = excess / (limit > squared ? limit : squared);
        const float free_x = (float)(x > 0 && x < last), free_y = (float)(y > 0 && y < last);
        outline[2 * i] = ((float)x - across * step * free_x + 0.5f) * scale - 0.5f;
        outline[2 * i + 1] = ((float)y - down * step * free_y + 0.5f) * scale - 0.5f;
    }
}

static int beyond(const float point[2], double low, double right, double bottom)
{
    return point[0] < low || point[1] < low || point[0] > right || point[1] > bottom;
}

void core_cut(const float *crop_points, const float *image_points, ptrdiff_t count, double side, double width,
              double height, double margin, uint8_t *flags)
{
    /* A border lies half a pixel outside the centres of the outermost pixels. */
    const double low = margin - 0.5, far = -0.5 - margin;
    for (ptrdiff_t i = 0; i < count; i++)
        flags[i] = (uint8_t)(beyond(crop_points + 2 * i, low, side + far, side + far) ||
                             beyond(image_points + 2 * i, low, width + far, height + far));
}
