/* SPDX-License-Identifier: Apache-2.0
 *
 * From an image to a network's input in one pass: `Roi.fill` of roi.py, there a crop and its normalisation.
 *
 * A row of the crop lies along a line of the image. Positions on it are whole numbers of 2^-32 pixels, so that the part
 * of the row whose pixels have all four neighbours in the image is found exactly, and needs no checks pixel by pixel.
 * Neighbours are gathered first and blended afterwards, which compilers turn into vector instructions.
 */
#include "core.h"

#include <string.h>

/* Pixels that are gathered at a time. */
#define CHUNK 64
/* Farthest that a crop may reach, pixels: the sums of positions then stay far from the limits of 64 bits. */
#define FARTHEST 16777216.0
#define ONE ((int64_t)1 << 32)

typedef struct {
    int64_t x, y;   /* a position in the image, 2^-32 pixels */
    int64_t dx, dy; /* from one pixel of the crop to the next */
} Line;

typedef struct {
    const uint8_t *pixels;
    int64_t height, width;
    float gain[3], bias[3];
} Source;

typedef struct {
    uint32_t upper_left[CHUNK], upper_right[CHUNK], lower_left[CHUNK], lower_right[CHUNK];
} Neighbours;

static int64_t divided_up(int64_t value, int64_t by)
{
    return value / by + (value % by > 0);
}

static int64_t limited(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Narrow begin <= i < end to where low <= at + i step < high. */
static void narrow(int64_t at, int64_t step, int64_t low, int64_t high, int64_t *begin, int64_t *end)
{
    if (step < 0) {
        int64_t turned = 1 - high;
        high = 1 - low, low = turned;
        at = -at, step = -step;
    }
    int64_t first = *begin, past = *end;
    if (step > 0) {
        first = divided_up(low - at, step);
        past = divided_up(high - at, step);
    } else if (at < low || at >= high) {
        past = first;
    }
    *end = limited(past, *begin, *end);
    *begin = limited(first, *begin, *end);
}

/* Three bytes and a fourth, which may be anything. */
static uint32_t four_bytes(const uint8_t *at)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
#else
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
#endif
}

/* A pixel's three bytes; black outside the image. */
static uint32_t pixel(const Source *source, int64_t x, int64_t y)
{
    if (x < 0 || y < 0 || x >= source->width || y >= source->height)
        return 0;
    const uint8_t *at = source->pixels + (ptrdiff_t)(3 * (y * source->width + x));
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Positions below 0 are shifted as all compilers do it: towards minus infinity. */
static void gather_checked(const Source *source, Line line, int count, Neighbours *found)
{
    for (int i = 0; i < count; i++) {
        int64_t x = line.x >> 32, y = line.y >> 32;
        found->upper_left[i] = pixel(source, x, y);
        found->upper_right[i] = pixel(source, x + 1, y);
        found->lower_left[i] = pixel(source, x, y + 1);
        found->lower_right[i] = pixel(source, x + 1, y + 1);
        line.x += line.dx, line.y += line.dy;
    }
}

static void gather(const Source *source, Line line, int count, Neighbours *found)
{
    const ptrdiff_t row = (ptrdiff_t)source->width * 3;
    for (int i = 0; i < count; i++) {
        const uint8_t *at = source->pixels + (ptrdiff_t)(line.y >> 32) * row + (ptrdiff_t)(line.x >> 32) * 3;
        found->upper_left[i] = four_bytes(at);
        /* From the byte before: the last pixel of an image has none behind it. */
        found->upper_right[i] = four_bytes(at + 2) >> 8;
        found->lower_left[i] = four_bytes(at + row);
        found->lower_right[i] = four_bytes(at + row + 2) >> 8;
        line.x += line.dx, line.y += line.dy;
    }
}

/* Part of a pixel, from the lower 32 bits of a position. */
static float fraction(uint32_t position)
{
    return (float)(int32_t)(position >> 8) * (1.0f / 16777216.0f);
}

static float low_byte(uint32_t value)
{
    return (float)(int32_t)(value & 255);
}

static float blended(uint32_t a, uint32_t b, uint32_t c, uint32_t d, float right, float down)
{
    float upper = low_byte(a) + (low_byte(b) - low_byte(a)) * right;
    float lower = low_byte(c) + (low_byte(d) - low_byte(c)) * right;
    /* Whole grey levels, as a crop of bytes has them. */
    return (float)(int32_t)(upper + (lower - upper) * down + 0.5f);
}

static void blend(const Neighbours *from, const Source *source, const Line *line, int count, float *red, float *green,
                  float *blue)
{
    const uint32_t *a = from->upper_left, *b = from->upper_right, *c = from->lower_left, *d = from->lower_right;
    const uint32_t x = (uint32_t)line->x, y = (uint32_t)line->y, dx = (uint32_t)line->dx, dy = (uint32_t)line->dy;
    const float g0 = source->gain[0], g1 = source->gain[1], g2 = source->gain[2];
    const float b0 = source->bias[0], b1 = source->bias[1], b2 = source->bias[2];
    for (int i = 0; i < count; i++) {
        float right = fraction(x + (uint32_t)i * dx), down = fraction(y + (uint32_t)i * dy);
        red[i] = blended(a[i], b[i], c[i], d[i], right, down) * g0 - b0;
        green[i] = blended(a[i] >> 8, b[i] >> 8, c[i] >> 8, d[i] >> 8, right, down) * g1 - b1;
        blue[i] = blended(a[i] >> 16, b[i] >> 16, c[i] >> 16, d[i] >> 16, right, down) * g2 - b2;
    }
}

/* Pixels begin to end - 1 of a row; `whole` says that all their neighbours lie in the image. */
static void sample(const Source *source, const Line *row, int64_t begin, int64_t end, int whole, float *out,
                   ptrdiff_t plane)
{
    Neighbours found;
    for (int64_t at = begin; at < end; at += CHUNK) {
        const int count = end - at < CHUNK ? (int)(end - at) : CHUNK;
        const Line line = {row->x + at * row->dx, row->y + at * row->dy, row->dx, row->dy};
        if (whole)
            gather(source, line, count, &found);
        else
            gather_checked(source, line, count, &found);
        blend(&found, source, &line, count, out + at, out + at + plane, out + at + 2 * plane);
    }
}

static void black(const Source *source, int64_t begin, int64_t end, float *out, ptrdiff_t plane)
{
    for (int channel = 0; channel < 3; channel++)
        for (int64_t i = begin; i < end; i++)
            out[channel * plane + i] = 0.0f * source->gain[channel] - source->bias[channel];
}

int core_warp(const uint8_t *image, ptrdiff_t height, ptrdiff_t width, const double to_image[6], ptrdiff_t size,
              const float gain[3], const float bias[3], float *out)
{
    const Source source = {image, height, width, {gain[0], gain[1], gain[2]}, {bias[0], bias[1], bias[2]}};
    for (int axis = 0; axis < 2; axis++) {
        const double *m = to_image + 3 * axis;
        double reach = 0.0;
        for (int i = 0; i < 3; i++)
            reach += (m[i] < 0.0 ? -m[i] : m[i]) * (i < 2 ? (double)size : 1.0);
        if (!(reach < FARTHEST)) /* nor is NaN */
            return 0;
    }
    if (height > (ptrdiff_t)FARTHEST || width > (ptrdiff_t)FARTHEST)
        return 0;
    for (ptrdiff_t y = 0; y < size; y++, out += size) {
        const ptrdiff_t plane = size * size;
        const double from_x = to_image[1] * (double)y + to_image[2], from_y = to_image[4] * (double)y + to_image[5];
        const Line row = {(int64_t)(from_x * ONE), (int64_t)(from_y * ONE), (int64_t)(to_image[0] * ONE),
                          (int64_t)(to_image[3] * ONE)};
        int64_t begin = 0, end = size;
        narrow(row.x, row.dx, -ONE, width * ONE, &begin, &end);
        narrow(row.y, row.dy, -ONE, height * ONE, &begin, &end);
        int64_t inner_begin = begin, inner_end = end;
        narrow(row.x, row.dx, 0, (width - 1) * ONE, &inner_begin, &inner_end);
        narrow(row.y, row.dy, 0, (height - 1) * ONE, &inner_begin, &inner_end);
        black(&source, 0, begin, out, plane);
        sample(&source, &row, begin, inner_begin, 0, out, plane);
        sample(&source, &row, inner_begin, inner_end, 1, out, plane);
        sample(&source, &row, inner_end, end, 0, out, plane);
        black(&source, end, size, out, plane);
    }
    return 1;
}
