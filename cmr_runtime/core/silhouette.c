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
