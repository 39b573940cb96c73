/* SPDX-License-Identifier: Apache-2.0
 *
 * From an image to a network's input in one pass: `Roi.fill` of roi.py, there a crop and its normalisation.
 *
 * Positions, blends and their rounding are those of OpenCV 5, whose crops are the same, byte by byte, where the processor
 * has fused multiply-adds; elsewhere one in 60,000 is off by a grey level. Neighbours are gathered first and blended
 * afterwards, which compilers turn into vector instructions.
 */
#include "core.h"
#include "processor.h"

#include <math.h>
#include <string.h>
#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#endif

/* Pixels that are sampled at a time. */
#define CHUNK 64
/* Farthest that a crop may reach, pixels: whole numbers up to there are exact in single precision. */
#define FARTHEST 16777216.0

typedef struct {
    const uint8_t *pixels;
    ptrdiff_t height, width;
    float gain[3], bias[3];
} Source;

/* A row of the crop: its pixel x lies at (x dx + x0, x dy + y0) of the image. */
typedef struct {
    float dx, dy, x0, y0;
} Row;

/* Pixels of a crop: the neighbour to the upper left, how far right and below it they lie, and all four neighbours. */
typedef struct {
    int32_t column[CHUNK], line[CHUNK];
    float right[CHUNK], below[CHUNK];
    uint32_t a[CHUNK], b[CHUNK], c[CHUNK], d[CHUNK];
} Sampled;

/* a b + c, rounded once, where the processor does that. */
CORE_INLINE float fused_or_not(int fused, float a, float b, float c)
{
    return fused ? fmaf(a, b, c) : a * b + c;
}

CORE_INLINE void locate(int fused, const Row *row, ptrdiff_t first, int count, Sampled *to)
{
    for (int i = 0; i < count; i++) {
        const float at = (float)((int32_t)first + i);
        const float x = fused_or_not(fused, row->dx, at, row->x0), y = fused_or_not(fused, row->dy, at, row->y0);
        const int32_t column = (int32_t)x - (x < (float)(int32_t)x), line = (int32_t)y - (y < (float)(int32_t)y);
        to->column[i] = column, to->line[i] = line;
        to->right[i] = x - (float)column, to->below[i] = y - (float)line;
    }
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
static uint32_t pixel(const Source *source, ptrdiff_t x, ptrdiff_t y)
{
    if (x < 0 || y < 0 || x >= source->width || y >= source->height)
        return 0;
    const uint8_t *at = source->pixels + 3 * (y * source->width + x);
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
}

static void gather_checked(const Source *source, int count, Sampled *to)
{
    for (int i = 0; i < count; i++) {
        const ptrdiff_t x = to->column[i], y = to->line[i];
        to->a[i] = pixel(source, x, y);
        to->b[i] = pixel(source, x + 1, y);
        to->c[i] = pixel(source, x, y + 1);
        to->d[i] = pixel(source, x + 1, y + 1);
    }
}

static void gather(const Source *source, int count, Sampled *to)
{
    const ptrdiff_t line = source->width * 3;
    for (int i = 0; i < count; i++) {
        const uint8_t *at = source->pixels + to->line[i] * line + (ptrdiff_t)to->column[i] * 3;
        to->a[i] = four_bytes(at);
        /* From the byte before: the last pixel of an image has none behind it. */
        to->b[i] = four_bytes(at + 2) >> 8;
        to->c[i] = four_bytes(at + line);
        to->d[i] = four_bytes(at + line + 2) >> 8;
    }
}

#if defined(__GNUC__) && defined(__x86_64__)

/* Of 16 places in the image, eight bytes each that begin with two pixels and `before` bytes of others: both pixels. */
static inline TARGET_AVX512 void gather_pairs(const uint8_t *pixels, const __m256i at[2], int before, uint32_t *left, uint32_t *right)
{
    const __m512i low = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); /* halves of the pairs */
    const __m512i a = _mm512_srli_epi64(_mm512_i32gather_epi64(at[0], pixels - before, 1), 8 * before);
    const __m512i b = _mm512_srli_epi64(_mm512_i32gather_epi64(at[1], pixels - before, 1), 8 * before);
    _mm512_storeu_si512(left, _mm512_permutex2var_epi32(a, low, b));
    _mm512_storeu_si512(right, _mm512_permutex2var_epi32(_mm512_srli_epi64(a, 24), low, _mm512_srli_epi64(b, 24)));
}

/* As `gather`, of a number of pixels that is a multiple of 16; offsets in the image are 32 bits. */
static TARGET_AVX512 void gather_sixteen(const Source *source, int count, Sampled *to)
{
    const int line = (int)source->width * 3;
    for (int i = 0; i < count; i += 16) {
        __m256i at[2];
        for (int half = 0; half < 2; half++) {
            const __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)(to->line + i + 8 * half));
            const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(to->column + i + 8 * half));
            at[half] = _mm256_add_epi32(_mm256_mullo_epi32(y, _mm256_set1_epi32(line)),
                                        _mm256_mullo_epi32(x, _mm256_set1_epi32(3)));
        }
        gather_pairs(source->pixels, at, 0, to->a + i, to->b + i);
        /* From two bytes before: the last pixels of an image have none behind them. */
        gather_pairs(source->pixels + line, at, 2, to->c + i, to->d + i);
    }
}

#endif

/* Whether all neighbours lie in the image. */
CORE_INLINE int whole(const Source *source, int count, const Sampled *to)
{
    const int32_t last_column = (int32_t)source->width - 2, last_line = (int32_t)source->height - 2;
    int outside = 0;
    for (int i = 0; i < count; i++)
        outside |= (to->column[i] < 0) | (to->column[i] > last_column) | (to->line[i] < 0) | (to->line[i] > last_line);
    return !outside;
}

CORE_INLINE float low_byte(uint32_t value)
{
    return (float)(int32_t)(value & 255);
}

CORE_INLINE float blended(int fused, const Sampled *from, int i, int shift)
{
    const float a = low_byte(from->a[i] >> shift), b = low_byte(from->b[i] >> shift);
    const float c = low_byte(from->c[i] >> shift), d = low_byte(from->d[i] >> shift);
    const float upper = fused_or_not(fused, from->right[i], b - a, a), lower = fused_or_not(fused, from->right[i], d - c, c);
    /* To the nearest whole grey level, as a crop of bytes has them, by what single precision cannot hold. */
    const float whole = fused_or_not(fused, from->below[i], lower - upper, upper) + 12582912.0f;
    return whole - 12582912.0f;
}

/* `sixteen`: gathers 16 pixels at a time, or NULL. */
CORE_INLINE void sample(int fused, void (*sixteen)(const Source *, int, Sampled *), const Source *source, const Row *row,
                        ptrdiff_t size, float *out)
{
    const ptrdiff_t plane = size * size;
    Sampled found;
    for (ptrdiff_t first = 0; first < size; first += CHUNK, out += CHUNK) {
        const int count = size - first < CHUNK ? (int)(size - first) : CHUNK;
        locate(fused, row, first, count, &found);
        if (whole(source, count, &found)) {
            if (sixteen && count % 16 == 0)
                sixteen(source, count, &found);
            else
                gather(source, count, &found);
        } else
            gather_checked(source, count, &found);
        for (int channel = 0; channel < 3; channel++)
            for (int i = 0; i < count; i++)
                out[channel * plane + i] = blended(fused, &found, i, 8 * channel) * source->gain[channel] - source->bias[channel];
    }
}

/* Where along an axis of the image, of so many pixels, a crop may lie, by a row of its map. */
static void reach(const float m[3], ptrdiff_t size, ptrdiff_t pixels, ptrdiff_t *first, ptrdiff_t *end)
{
    const float u = m[0] * (float)(size - 1), v = m[1] * (float)(size - 1);
    const float least = m[2] + fminf(u, 0.0f) + fminf(v, 0.0f), most = m[2] + fmaxf(u, 0.0f) + fmaxf(v, 0.0f) + 2.0f;
    *first = least > 0.0f ? (ptrdiff_t)least : 0;
    *end = most < (float)pixels ? (ptrdiff_t)most : pixels;
}

/* The same for each kind of processor. */
typedef void (*Sample)(const Source *, const Row *, ptrdiff_t, float *);

#define SAMPLE(name, target, fused, sixteen)                                                                           \
    target static void name(const Source *source, const Row *row, ptrdiff_t size, float *out)                          \
    {                                                                                                                  \
        sample(fused, sixteen, source, row, size, out);                                                                \
    }

#if defined(__GNUC__) && defined(__x86_64__)
SAMPLE(sample_plain, , 0, NULL)
SAMPLE(sample_avx2, TARGET_AVX2, 1, NULL)
SAMPLE(sample_avx512, TARGET_AVX512, 1, NULL)
SAMPLE(sample_gathering, TARGET_AVX512, 1, gather_sixteen)

static Sample quickest(const Source *source)
{
    if (processor_gathers() && source->height * source->width <= INT32_MAX / 3)
        return sample_gathering;
    if (processor_avx512())
        return sample_avx512;
    return processor_avx2() ? sample_avx2 : sample_plain;
}
#else
#if defined(__aarch64__)
SAMPLE(sample_plain, , 1, NULL)
#else
SAMPLE(sample_plain, , 0, NULL)
#endif

static Sample quickest(const Source *source)
{
    (void)source;
    return sample_plain;
}
#endif

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
    float m[6];
    for (int i = 0; i < 6; i++)
        m[i] = (float)to_image[i];
    ptrdiff_t left, right, top, bottom;
    reach(m, size, width, &left, &right);
    reach(m + 3, size, height, &top, &bottom);
    if (left < right && top < bottom)
        bring_near(image + 3 * (top * width + left), 3 * width, bottom - top, 3 * (right - left));
    const Sample quick = quickest(&source);
    for (ptrdiff_t y = 0; y < size; y++) {
        const float fine_y = m[1] * (float)y, fine_line = m[4] * (float)y; /* rounded before the sum */
        const Row row = {m[0], m[3], fine_y + m[2], fine_line + m[5]};
        quick(&source, &row, size, out + y * size);
    }
    return 1;
}
