/* SPDX-License-Identifier: Apache-2.0
 *
 * The outline of a map: traced, moved onto the map's level, and what borders cut of it; `contour` and `cut` of silhouette.py.
 */
#include "core.h"
#include "processor.h"

#include <math.h>
#include <string.h>

/* Cells that are looked at abreast. */
#define LANES 16

static ptrdiff_t clamped(ptrdiff_t value, ptrdiff_t last)
{
    return value < 0 ? 0 : value > last ? last : value;
}

static int finite(const float *cells, ptrdiff_t count)
{
    float odd[LANES] = {0.0f}, any = 0.0f; /* NaN of what is not finite */
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int k = 0; k < LANES; k++)
            odd[k] += cells[i + k] - cells[i + k];
    for (; i < count; i++)
        any += cells[i] - cells[i];
    for (int k = 0; k < LANES; k++)
        any += odd[k];
    return any == 0.0f;
}

/* One row of a map at twice its width: between two cells a quarter of the way from one to the other. */
CORE_INLINE void double_row(const float *restrict row, ptrdiff_t side, float *restrict wide)
{
    const ptrdiff_t last = side - 1;
    wide[0] = row[0];
    for (ptrdiff_t cell = 0; cell < last; cell++) {
        wide[2 * cell + 1] = row[cell] * 0.75f + row[cell + 1] * 0.25f;
        wide[2 * cell + 2] = row[cell] * 0.25f + row[cell + 1] * 0.75f;
    }
    wide[2 * last + 1] = row[last];
}

CORE_INLINE void mark_row(const float *restrict near, const float *restrict far, ptrdiff_t width, float level, int8_t *restrict marks)
{
    for (ptrdiff_t column = 0; column < width; column++)
        marks[column] = near[column] * 0.75f + far[column] * 0.25f >= level;
}

/* Where a map of twice the size is on the level, between the cells of `map` linearly: rows first, as OpenCV does, so that
 * both round alike. `marks` has a border of zeros, `rows` room for three rows. */
CORE_INLINE void mark(const float *map, ptrdiff_t side, float level, int8_t *marks, float *rows)
{
    const ptrdiff_t width = 2 * side, last = side - 1, line = width + 2;
    float *before = rows, *here = rows + width, *after = rows + 2 * width;
    memset(marks, 0, (size_t)(line * line));
    double_row(map, side, here);
    memcpy(before, here, (size_t)width * sizeof *here);
    for (ptrdiff_t row = 0; row < side; row++) {
        int8_t *upper = marks + (2 * row + 1) * line + 1;
        double_row(map + (row < last ? row + 1 : last) * side, side, after);
        mark_row(here, before, width, level, upper);
        mark_row(here, after, width, level, upper + line);
        float *free = before;
        before = here, here = after, after = free;
    }
}

#if defined(__GNUC__) && defined(__x86_64__)
TARGET_AVX2 static void mark_avx2(const float *map, ptrdiff_t side, float level, int8_t *marks, float *rows)
{
    mark(map, side, level, marks, rows);
}
#endif

static void mark_quickly(const float *map, ptrdiff_t side, float level, int8_t *marks, float *rows)
{
#if defined(__GNUC__) && defined(__x86_64__)
    if (processor_avx2()) {
        mark_avx2(map, side, level, marks, rows);
        return;
    }
#endif
    mark(map, side, level, marks, rows);
}

/* A cell of the map at twice its size, beyond whose border it goes on as there. */
static float doubled(const float *map, ptrdiff_t side, ptrdiff_t x, ptrdiff_t y)
{
    const ptrdiff_t last = side - 1;
    x = clamped(x, 2 * side - 1);
    y = clamped(y, 2 * side - 1);
    const float *near = map + y / 2 * side, *far = map + clamped(y % 2 ? y / 2 + 1 : y / 2 - 1, last) * side;
    const ptrdiff_t here = x / 2, other = clamped(x % 2 ? here + 1 : here - 1, last);
    return (near[here] * 0.75f + near[other] * 0.25f) * 0.75f + (far[here] * 0.75f + far[other] * 0.25f) * 0.25f;
}

/* The same of one whose cells all lie in the map. */
CORE_INLINE float doubled_inside(const float *map, ptrdiff_t side, ptrdiff_t x, ptrdiff_t y)
{
    const float *near = map + y / 2 * side + x / 2;
    const ptrdiff_t other = x % 2 ? 1 : -1;
    const float *far = y % 2 ? near + side : near - side;
    return (near[0] * 0.75f + near[other] * 0.25f) * 0.75f + (far[0] * 0.75f + far[other] * 0.25f) * 0.25f;
}

/* A cell's value, and by how much those beside it differ, across and down: of those beside it, half. */
typedef struct {
    float value, across, down;
} Slope;

CORE_INLINE Slope slope_of(float (*at)(const float *, ptrdiff_t, ptrdiff_t, ptrdiff_t), const float *map, ptrdiff_t side,
                           ptrdiff_t x, ptrdiff_t y)
{
    return (Slope){at(map, side, x, y), 0.5f * (at(map, side, x + 1, y) - at(map, side, x - 1, y)),
                   0.5f * (at(map, side, x, y + 1) - at(map, side, x, y - 1))};
}

/* Points of the map at twice its size, moved onto its level and multiplied by the scale as pixels' edges are. */
static void refine(const float *map, ptrdiff_t side, const int32_t *points, ptrdiff_t count, float level, float scale,
                   float *outline)
{
    const ptrdiff_t last = 2 * side - 1;
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t x = points[2 * i], y = points[2 * i + 1];
        const int inside = x > 1 && y > 1 && x < last - 1 && y < last - 1;
        const Slope here = inside ? slope_of(doubled_inside, map, side, x, y) : slope_of(doubled, map, side, x, y);
        const float excess = here.value - level, across = here.across, down = here.down;
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

/* How many cells of a row, 32 or 8, are as the one before them; 0 if those are not. */
static ptrdiff_t alike_from(const int8_t *cells, ptrdiff_t left)
{
    if (left >= 32 && !memcmp(cells, cells - 1, 32))
        return 32;
    return left >= 8 && !memcmp(cells, cells - 1, 8) ? 8 : 0;
}

/* The outline, traced, of that region whose outline encloses most; 0 if there is none, -1 if there is too little room. */
static ptrdiff_t trace(ptrdiff_t side, const CoreRoom *room, const int32_t **points, double *area)
{
    const Marks all = {room->marks, side + 2};
    int32_t *best = room->points, *other = room->points + 2 * room->most;
    ptrdiff_t count = 0;
    *area = -1.0;
    for (ptrdiff_t y = 0; y < side; y++) {
        int8_t last = 0; /* of the marks of this row so far: of what is inside a region, nothing is an outer border */
        int8_t *row = all.cells + (y + 1) * all.row + 1;
        for (ptrdiff_t x = 0; x < side; x++) {
            const ptrdiff_t alike = row[x] == 0 || row[x] == 1 ? alike_from(row + x, side - x) : 0;
            if (alike) { /* with the cell before: nothing begins or ends */
                x += alike - 1;
                continue;
            }
            if (row[x] == 1 && !row[x - 1] && last <= 0) {
                const ptrdiff_t found = follow(&all, row + x - all.cells, (int32_t)x, (int32_t)y, other, room->most);
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
    *points = best;
    return count;
}

ptrdiff_t core_outline(const float *map, ptrdiff_t side, float level, float scale, ptrdiff_t fewest, double least,
                       const CoreRoom *room, float *outline)
{
    const int32_t *points;
    double area;
    if (!finite(map, side * side))
        return -1;
    mark_quickly(map, side, level, room->marks, room->rows);
    const ptrdiff_t count = trace(2 * side, room, &points, &area);
    if (count <= 0)
        return count;
    if (count < fewest || area < least)
        return 0;
    refine(map, side, points, count, level, scale, outline);
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
