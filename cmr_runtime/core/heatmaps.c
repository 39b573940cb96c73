/* SPDX-License-Identifier: Apache-2.0
 *
 * Heat maps to keypoints with scores: `decode` of heatmaps.py, which says what is fitted and why.
 */
#include "core.h"
#include "processor.h"

#include <float.h>
#include <math.h>

/* As in heatmaps.py. */
#define REACH 2
#define BACKGROUND 0.25
#define EPS 1e-6
#define RIDGE 1e-9
#define FLATTEST (-1e-3)

/* Cells that are looked at abreast, which compilers turn into vector instructions, and between looks at the result. */
#define LANES 16
#define BLOCK 128

/* The rows of the window's moments: 1, x, y, x^2, y^2. */
#define TERMS 5

typedef struct {
    ptrdiff_t best; /* the first of the largest cells */
    float floor;    /* the smallest cell */
} Extremes;

/* Take in one block of a map. `doubt` stays 0 while all cells are finite. */
CORE_INLINE void scan(const float *cells, ptrdiff_t count, float *high, float *low, float *doubt)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float cell = cells[i + k];
            high[k] = cell > high[k] ? cell : high[k];
            low[k] = cell < low[k] ? cell : low[k];
            doubt[k] += cell - cell;
        }
    for (; i < count; i++) {
        high[0] = cells[i] > high[0] ? cells[i] : high[0];
        low[0] = cells[i] < low[0] ? cells[i] : low[0];
        doubt[0] += cells[i] - cells[i];
    }
}

/* Returns 0 for a map with a cell that is not finite: which of these NumPy would take is its own affair. */
CORE_INLINE int extremes(const float *map, ptrdiff_t cells, Extremes *found)
{
    float high[LANES], low[LANES], doubt[LANES], best = -FLT_MAX, least = FLT_MAX, doubts = 0.0f;
    ptrdiff_t from = 0;
    for (int k = 0; k < LANES; k++)
        high[k] = -FLT_MAX, low[k] = FLT_MAX, doubt[k] = 0.0f;
    for (ptrdiff_t start = 0; start < cells; start += BLOCK) {
        scan(map + start, cells - start < BLOCK ? cells - start : BLOCK, high, low, doubt);
        float most = best;
        for (int k = 0; k < LANES; k++)
            most = high[k] > most ? high[k] : most;
        if (most > best)
            best = most, from = start;
    }
    for (int k = 0; k < LANES; k++) {
        least = low[k] < least ? low[k] : least;
        doubts += doubt[k];
    }
    if (!(doubts == 0.0f))
        return 0;
    found->best = from;
    while (found->best < cells - 1 && map[found->best] != best)
        found->best++;
    found->floor = least;
    return 1;
}

static int extremes_plain(const float *map, ptrdiff_t cells, Extremes *found)
{
    return extremes(map, cells, found);
}

#if defined(__GNUC__) && defined(__x86_64__)
static TARGET_AVX2 int extremes_avx2(const float *map, ptrdiff_t cells, Extremes *found)
{
    return extremes(map, cells, found);
}
#endif

/* x of A x = b by Cholesky, of A only the lower triangle; both are overwritten. Returns 0 where A is not positive. */
static int solve(double A[TERMS][TERMS], double b[TERMS])
{
    for (int j = 0; j < TERMS; j++) {
        for (int k = 0; k < j; k++)
            A[j][j] -= A[j][k] * A[j][k];
        if (!(A[j][j] > 0.0 && A[j][j] <= DBL_MAX))
            return 0;
        A[j][j] = sqrt(A[j][j]);
        for (int i = j + 1; i < TERMS; i++) {
            for (int k = 0; k < j; k++)
                A[i][j] -= A[i][k] * A[j][k];
            A[i][j] /= A[j][j];
        }
    }
    for (int i = 0; i < TERMS; i++) {
        for (int k = 0; k < i; k++)
            b[i] -= A[i][k] * b[k];
        b[i] /= A[i][i];
    }
    for (int i = TERMS - 1; i >= 0; i--) {
        for (int k = i + 1; k < TERMS; k++)
            b[i] -= A[k][i] * b[k];
        b[i] /= A[i][i];
    }
    return 1;
}

static double limited(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* The peak beside the largest cell, (x, y) in cells; 0 where the normal equations have no solution. */
static int peak(const float *map, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t best, double floor, double score,
                double offset[2])
{
    double A[TERMS][TERMS] = {{0.0}}, b[TERMS] = {0.0}, mass = 0.0, moment[2] = {0.0, 0.0};
    const ptrdiff_t row = best / columns, column = best % columns;
    const double height = score - floor > EPS ? score - floor : EPS;
    for (int dy = -REACH; dy <= REACH; dy++) {
        const ptrdiff_t y = row + dy;
        if (y < 0 || y >= rows)
            continue;
        double w[5] = {0.0}, v[3] = {0.0}, yy = dy * dy; /* sums over the row of weight x^n and of weighted x^n */
        for (int dx = -REACH; dx <= REACH; dx++) {
            const ptrdiff_t x = column + dx;
            if (x < 0 || x >= columns)
                continue;
            const double cell = (double)map[y * columns + x] - floor, above = cell - BACKGROUND * height;
            const double share = (above > 0.0 ? above : 0.0) + EPS, relative = cell / height, weight = relative * relative;
            mass += share, moment[0] += share * dx, moment[1] += share * dy;
            const double weighted = weight * log(cell > EPS ? cell : EPS), xx = dx * dx;
            v[0] += weighted, v[1] += weighted * dx, v[2] += weighted * xx;
            w[0] += weight, w[1] += weight * dx, w[2] += weight * xx, w[3] += weight * xx * dx, w[4] += weight * xx * xx;
        }
        b[0] += v[0], b[1] += v[1], b[2] += v[0] * dy, b[3] += v[2], b[4] += v[0] * yy;
        A[0][0] += w[0];
        A[1][0] += w[1], A[1][1] += w[2];
        A[2][0] += w[0] * dy, A[2][1] += w[1] * dy, A[2][2] += w[0] * yy;
        A[3][0] += w[2], A[3][1] += w[3], A[3][2] += w[2] * dy, A[3][3] += w[4];
        A[4][0] += w[0] * yy, A[4][1] += w[1] * yy, A[4][2] += w[0] * dy * yy, A[4][3] += w[2] * yy, A[4][4] += w[0] * yy * yy;
    }
    for (int i = 0; i < TERMS; i++)
        A[i][i] += RIDGE;
    if (!solve(A, b))
        return 0;
    double top[2];
    int fits = 1;
    for (int axis = 0; axis < 2; axis++) {
        double curve = b[3 + axis];
        top[axis] = -0.5 * b[1 + axis] / (curve < -EPS ? curve : -EPS);
        fits = fits && curve < FLATTEST && fabs(top[axis]) <= 1.0;
    }
    for (int axis = 0; axis < 2; axis++)
        offset[axis] = fits ? top[axis] : limited(moment[axis] / mass, -1.0, 1.0);
    return 1;
}

int core_decode_heatmaps(const float *maps, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns, double side,
                         double cell_centre, double *points, double *scores)
{
    int (*quickest)(const float *, ptrdiff_t, Extremes *) = extremes_plain;
    if (rows < 1 || columns < 1)
        return 0;
#if defined(__GNUC__) && defined(__x86_64__)
    if (processor_avx2())
        quickest = extremes_avx2;
#endif
    for (ptrdiff_t k = 0; k < count; k++) {
        const float *map = maps + k * rows * columns;
        Extremes found;
        double offset[2];
        if (!quickest(map, rows * columns, &found))
            return 0;
        scores[k] = limited(map[found.best], 0.0, 1.0);
        if (!peak(map, rows, columns, found.best, found.floor, scores[k], offset))
            return 0;
        const double x = offset[0] + (double)(found.best % columns), y = offset[1] + (double)(found.best / columns);
        points[2 * k] = (x + cell_centre) * (side / (double)columns) - 0.5;
        points[2 * k + 1] = (y + cell_centre) * (side / (double)rows) - 0.5;
    }
    return 1;
}
