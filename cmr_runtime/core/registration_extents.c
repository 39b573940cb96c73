/* SPDX-License-Identifier: Apache-2.0
 *
 * How far points reach along the axes (registration/extents.py): of a contour, and of projected vertices.
 *
 * Points go through in blocks that stay in the first cache, x and y apart, so that compilers make vector code of it.
 */
#include "registration.h"

#include <math.h>

#define BLOCK 16 /* a power of two */
#define MOST_SAMPLES 256

/* Extent along each axis at both ends, first those of the axes as they point, as contour_extents has them. */
typedef struct {
    double values[REGISTRATION_DIRECTIONS];
    size_t chosen[REGISTRATION_DIRECTIONS];
    size_t before; /* points of the blocks seen so far */
} Reach;

typedef struct {
    double x[BLOCK], y[BLOCK];
    int count;
} Block;

static void start_reach(Reach *reach)
{
    for (int k = 0; k < REGISTRATION_DIRECTIONS; k++) {
        reach->values[k] = k < REGISTRATION_AXES ? -INFINITY : INFINITY;
        reach->chosen[k] = 0;
    }
    reach->before = 0;
}

/* In halves, of which compilers make vector code. */
static void most_and_least(const double values[BLOCK], double *most, double *least)
{
    double high[BLOCK / 2], low[BLOCK / 2];
    for (int i = 0; i < BLOCK / 2; i++) {
        high[i] = values[i] > values[i + BLOCK / 2] ? values[i] : values[i + BLOCK / 2];
        low[i] = values[i] < values[i + BLOCK / 2] ? values[i] : values[i + BLOCK / 2];
    }
    for (int half = BLOCK / 4; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            high[i] = high[i] > high[i + half] ? high[i] : high[i + half];
            low[i] = low[i] < low[i + half] ? low[i] : low[i + half];
        }
    }
    *most = high[0];
    *least = low[0];
}

/* First place of a value in a block; the first of all, which is never one of those filled up, if there is none. */
static size_t place_of(const double values[BLOCK], double value)
{
    for (size_t i = 0; i < BLOCK; i++) {
        if (values[i] == value)
            return i;
    }
    return 0;
}

/* Takes in a block, and empties it. Where the box around it reaches no further, an axis passes it over: neighbours in a
 * contour or a mesh lie together, so most blocks are far from most extents. */
static void reach_further(Reach *reach, Block *block, const double (*axes)[2])
{
    double values[BLOCK], most, least;
    if (!block->count)
        return;
    for (int i = block->count; i < BLOCK; i++) {
        block->x[i] = block->x[0];
        block->y[i] = block->y[0];
    }
    most_and_least(block->x, &most, &least);
    double x = 0.5 * (most + least), width = most - x;
    most_and_least(block->y, &most, &least);
    double y = 0.5 * (most + least), height = most - y;
    for (int k = 0; k < REGISTRATION_AXES; k++) {
        int other = k + REGISTRATION_AXES;
        double middle = axes[k][0] * x + axes[k][1] * y, margin = fabs(axes[k][0]) * width + fabs(axes[k][1]) * height;
        if (middle + margin < reach->values[k] && middle - margin > reach->values[other])
            continue;
        for (int i = 0; i < BLOCK; i++)
            values[i] = axes[k][0] * block->x[i] + axes[k][1] * block->y[i];
        most_and_least(values, &most, &least);
        if (most > reach->values[k]) {
            reach->values[k] = most;
            reach->chosen[k] = reach->before + place_of(values, most);
        }
        if (least < reach->values[other]) {
            reach->values[other] = least;
            reach->chosen[other] = reach->before + place_of(values, least);
        }
    }
    reach->before += (size_t)block->count;
    block->count = 0;
}

static void contour_point(const RegistrationInputs *inputs, size_t i, double point[2])
{
    if (inputs->contour_single != NULL) {
        point[0] = inputs->contour_single[2 * i];
        point[1] = inputs->contour_single[2 * i + 1];
    } else {
        point[0] = inputs->contour_double[2 * i];
        point[1] = inputs->contour_double[2 * i + 1];
    }
}

/* Extents of the contour, or of its marked points alone, from the image's origin; returns how many points these are. */
static size_t contour_reach(const RegistrationInputs *inputs, const uint8_t *marks, const double (*axes)[2],
                            double values[REGISTRATION_DIRECTIONS])
{
    Reach reach;
    Block block;
    start_reach(&reach);
    block.count = 0;
    for (size_t i = 0; i < inputs->contour_count; i++) {
        double point[2];
        if (marks != NULL && !marks[i])
            continue;
        contour_point(inputs, i, point);
        block.x[block.count] = point[0];
        block.y[block.count] = point[1];
        if (++block.count == BLOCK)
            reach_further(&reach, &block, axes);
    }
    reach_further(&reach, &block, axes);
    for (int k = 0; k < REGISTRATION_DIRECTIONS; k++)
        values[k] = k < REGISTRATION_AXES ? reach.values[k] : -reach.values[k];
    return reach.before;
}

void registration_contour_extents(const RegistrationInputs *inputs, double cut_tolerance, const double (*directions)[2],
                                  double values[REGISTRATION_DIRECTIONS], uint8_t usable[REGISTRATION_DIRECTIONS])
{
    double marked[REGISTRATION_DIRECTIONS];
    contour_reach(inputs, NULL, directions, values);
    int some = inputs->cut != NULL && contour_reach(inputs, inputs->cut, directions, marked) > 0;
    for (int k = 0; k < REGISTRATION_DIRECTIONS; k++) {
        usable[k] = !some || marked[k] < values[k] - cut_tolerance;
        values[k] -= directions[k][0] * inputs->centre[0] + directions[k][1] * inputs->centre[1];
    }
}

void registration_extremal_vertices(const RegistrationInputs *inputs, const double (*directions)[2], const double x[4],
                                    size_t chosen[REGISTRATION_DIRECTIONS])
{
    Reach reach;
    Block block;
    start_reach(&reach);
    for (size_t first = 0; first < inputs->vertex_count; first += BLOCK) {
        size_t left = inputs->vertex_count - first;
        const double *point = inputs->vertices + 3 * first;
        block.count = left < BLOCK ? (int)left : BLOCK;
        for (int i = 0; i < block.count; i++, point += 3) {
            double inverse = 1.0 / (x[3] * point[2] + x[2]);
            block.x[i] = inputs->focal[0] * inverse * (x[3] * point[0] + x[0]);
            block.y[i] = inputs->focal[1] * inverse * (x[3] * point[1] + x[1]);
        }
        reach_further(&reach, &block, directions);
    }
    for (int k = 0; k < REGISTRATION_DIRECTIONS; k++)
        chosen[k] = reach.chosen[k];
}

double registration_roughness(const RegistrationInputs *inputs, double samples, double rayleigh_median)
{
    double squares[MOST_SAMPLES];
    size_t count = inputs->contour_count, step = 1;
    int found = 0;
    if (count < 3 || !(samples >= 1.0 && samples <= MOST_SAMPLES))
        return -1.0;
    if (count / (size_t)samples > 1)
        step = count / (size_t)samples;
    for (size_t i = 0; i + 2 < count; i += step) {
        double before[2], here[2], after[2];
        if (found == MOST_SAMPLES)
            return -1.0;
        contour_point(inputs, i, before);
        contour_point(inputs, i + 1, here);
        contour_point(inputs, i + 2, after);
        double x = here[0] - 0.5 * (after[0] + before[0]), y = here[1] - 0.5 * (after[1] + before[1]);
        squares[found++] = x * x + y * y;
    }
    return sqrt(registration_median(squares, found) / 1.5) / rayleigh_median;
}
