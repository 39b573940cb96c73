/* SPDX-License-Identifier: Apache-2.0
 *
 * The outline of a map: traced, moved onto the map's level, and what borders cut of it; `contour` and `cut` of silhouette.py.
 */
#include "core.h"

#include <math.h>
#include <string.h>

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

/* Neighbours of a cell, counterclockwise as seen: right, upper right, above, ... */
static const int32_t AROUND_X[8] = {1, 1, 0, -1, -1, -1, 0, 1}, AROUND_Y[8] = {0, -1, -1, -1, 0, 1, 1, 1};
#define LEFT 4
/* A cell of a region whose outline was traced; one beyond which, to its right, that region ends. */
#define TRACED 2
#define LAST (-2)

typedef struct {
    int8_t *cells; /* with a border of zeros */
    ptrdiff_t row; /* from a cell to the one below it */
} Marks;

/* Follow the outer border from its first cell by rows (S. Suzuki and K. Abe, CVGIP 30(1), 1985) and mark it. Returns how
 * many points it has, -1 if more than there is room for. */
static ptrdiff_t follow(const Marks *marks, ptrdiff_t first, int32_t x, int32_t y, int32_t *points, ptrdiff_t most)
{
    ptrdiff_t beside[8], count = 0;
    for (int k = 0; k < 8; k++)
        beside[k] = AROUND_Y[k] * marks->row + AROUND_X[k];
    /* The border comes back from the first neighbour clockwise after what lies to the left, which is none. */
    int side = LEFT;
    do
        side = (side + 7) % 8;
    while (side != LEFT && !marks->cells[first + beside[side]]);
    const int alone = side == LEFT;
    const ptrdiff_t final = first + beside[side];
    for (ptrdiff_t here = first;;) {
        if (count == most)
            return -1;
        points[2 * count] = x;
        points[2 * count + 1] = y;
        count++;
        if (alone) {
            marks->cells[here] = LAST;
            return count;
        }
        /* From where it came, counterclockwise to the next cell of the region. */
        int ends = 0, next = side;
        do {
            next = (next + 1) % 8;
            if (marks->cells[here + beside[next]])
                break;
            ends |= next == 0;
        } while (next != side);
        if (ends)
            marks->cells[here] = LAST;
        else if (marks->cells[here] == 1)
            marks->cells[here] = TRACED;
        const ptrdiff_t there = here + beside[next];
        if (there == first && here == final)
            return count;
        x += AROUND_X[next];
        y += AROUND_Y[next];
        here = there;
        side = (next + 4) % 8;
    }
}

static double enclosed(const int32_t *points, ptrdiff_t count)
{
    double twice = 0.0;
    const int32_t *last = points + 2 * (count - 1);
    for (const int32_t *point = points; point < points + 2 * count; last = point, point += 2)
        twice += (double)last[0] * point[1] - (double)last[1] * point[0];
    return 0.5 * fabs(twice);
}

ptrdiff_t core_trace(const uint8_t *mask, ptrdiff_t side, int8_t *marks, int32_t *points, int32_t *spare, ptrdiff_t most,
                     double *area)
{
    const Marks all = {marks, side + 2};
    int32_t *best = points, *other = spare;
    ptrdiff_t count = 0;
    *area = -1.0;
    memset(marks, 0, (size_t)(all.row * all.row));
    for (ptrdiff_t y = 0; y < side; y++)
        memcpy(marks + (y + 1) * all.row + 1, mask + y * side, (size_t)side);
    for (ptrdiff_t y = 0; y < side; y++) {
        int8_t last = 0; /* of the marks of this row so far: of what is inside a region, nothing is an outer border */
        int8_t *row = marks + (y + 1) * all.row + 1;
        for (ptrdiff_t x = 0; x < side; x++) {
            if (row[x] == 1 && !row[x - 1] && last <= 0) {
                const ptrdiff_t found = follow(&all, row + x - marks, (int32_t)x, (int32_t)y, other, most);
                if (found < 0)
                    return -1;
                const double size = enclosed(other, found);
                if (size >= *area) {
                    int32_t *swapped = best;
                    best = other;
                    other = swapped;
                    count = found;
                    *area = size;
                }
            }
            if (row[x] != 0 && row[x] != 1)
                last = row[x];
        }
    }
    if (best != points)
        memcpy(points, best, (size_t)(2 * count) * sizeof *points);
    return count;
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
