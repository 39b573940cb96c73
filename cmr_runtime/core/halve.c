/* SPDX-License-Identifier: Apache-2.0
 *
 * An image at half its size: what `Roi` averages a large region down with; roi.py. OpenCV has vector instructions for one and
 * for four channels only.
 */
#include "core.h"
#include "processor.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* Rows ahead of which the image is brought near. */
#define AHEAD 4

/* Two rows of 2 * width pixels to one of `width`, from pixel x on. */
static void halve_rest(const uint8_t *above, const uint8_t *below, ptrdiff_t x, ptrdiff_t width, uint8_t *out)
{
    for (; x < width; x++)
        for (int channel = 0; channel < 3; channel++) {
            const ptrdiff_t at = 6 * x + channel;
            out[3 * x + channel] = (uint8_t)((above[at] + above[at + 3] + below[at] + below[at + 3] + 2) >> 2);
        }
}

#if defined(__GNUC__) && defined(__x86_64__)

/* Four pixels of a row, twelve bytes in each half of a vector: sums of two neighbours, channel by channel. */
CORE_INLINE TARGET_AVX2 __m256i neighbours(const uint8_t *row)
{
    const __m256i pairs = _mm256_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1, /* and the other half */
                                           0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1);
    const __m128i first = _mm_loadu_si128((const __m128i *)row), second = _mm_loadu_si128((const __m128i *)(row + 12));
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(both, pairs), _mm256_set1_epi8(1));
}

static TARGET_AVX2 void halve_avx2(const uint8_t *above, const uint8_t *below, ptrdiff_t width, uint8_t *out)
{
    ptrdiff_t x = 0;
    /* Four pixels at a time; what is read beyond them and written after them (two bytes) is still of this row. */
    for (; x + 6 <= width; x += 4) {
        const __m256i sums = _mm256_add_epi16(neighbours(above + 6 * x), neighbours(below + 6 * x));
        const __m256i means = _mm256_srli_epi16(_mm256_add_epi16(sums, _mm256_set1_epi16(2)), 2);
        const __m256i bytes = _mm256_packus_epi16(means, means);
        _mm_storel_epi64((__m128i *)(out + 3 * x), _mm256_castsi256_si128(bytes));
        _mm_storel_epi64((__m128i *)(out + 3 * x + 6), _mm256_extracti128_si256(bytes, 1));
    }
    halve_rest(above, below, x, width, out);
}

#endif

static void halve_row(const uint8_t *above, const uint8_t *below, ptrdiff_t width, uint8_t *out)
{
    ptrdiff_t x = 0;
#if defined(__ARM_NEON)
    for (; x + 8 <= width; x += 8) {
        const uint8x16x3_t a = vld3q_u8(above + 6 * x), b = vld3q_u8(below + 6 * x);
        uint8x8x3_t means;
        for (int channel = 0; channel < 3; channel++)
            means.val[channel] = vrshrn_n_u16(vpadalq_u8(vpaddlq_u8(a.val[channel]), b.val[channel]), 2);
        vst3_u8(out + 3 * x, means);
    }
#endif
    halve_rest(above, below, x, width, out);
}

void core_halve(const uint8_t *image, ptrdiff_t line, ptrdiff_t height, ptrdiff_t width, uint8_t *out)
{
    void (*quickest)(const uint8_t *, const uint8_t *, ptrdiff_t, uint8_t *) = halve_row;
#if defined(__GNUC__) && defined(__x86_64__)
    if (processor_avx2())
        quickest = halve_avx2;
#endif
    bring_near(image, line, 2 * (AHEAD < height ? AHEAD : height), 6 * width);
    for (ptrdiff_t y = 0; y < height; y++) {
        if (y + AHEAD < height)
            bring_near(image + 2 * (y + AHEAD) * line, line, 2, 6 * width);
        quickest(image + 2 * y * line, image + (2 * y + 1) * line, width, out + 3 * y * width);
    }
}
