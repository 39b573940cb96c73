/* SPDX-License-Identifier: Apache-2.0
 *
 * The layers that are no convolutions.
 */
#include "plan_layers.h"

#ifdef PLAN_HERE

#include <math.h>
#include <string.h>

void plan_pool(const Plan *plan, const PlanLayer *l, ptrdiff_t y, ptrdiff_t end)
{
    const float *x = plan->memory + l->x;
    for (; y < end; y++)
        for (ptrdiff_t column = 0; column < l->out_w; column++) {
            const float *a = x + (2 * y * l->w + 2 * column) * l->x_row, *b = a + l->x_row;
            const float *c = a + l->w * l->x_row, *d = c + l->x_row;
            float *out = plan->memory + l->out + (y * l->out_w + column) * l->out_row;
            if (l->kind == PLAN_MEAN_POOL)
                for (ptrdiff_t i = 0; i < l->count; i++)
                    out[i] = 0.25f * ((a[i] + b[i]) + (c[i] + d[i]));
            else
                for (ptrdiff_t i = 0; i < l->count; i++) {
                    float upper = a[i] > b[i] ? a[i] : b[i], lower = c[i] > d[i] ? c[i] : d[i];
                    out[i] = upper > lower ? upper : lower;
                }
        }
}

void plan_mean(const Plan *plan, const PlanLayer *l)
{
    float *out = plan->memory + l->out;
    ptrdiff_t cells = (ptrdiff_t)l->h * l->w;
    memset(out, 0, (size_t)l->count * sizeof(float));
    for (ptrdiff_t p = 0; p < cells; p++)
        for (ptrdiff_t i = 0; i < l->count; i++)
            out[i] += plan->memory[l->x + p * l->x_row + i];
    for (ptrdiff_t i = 0; i < l->count; i++)
        out[i] /= (float)cells;
}

/* Features of a map, weighted by heat maps: x' maps over the sum of maps. */
void plan_attend(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end)
{
    const float *maps = plan->memory + l->index;
    const ptrdiff_t cells = (ptrdiff_t)l->h * l->w;
    PlanProduct p = {.m = end - first, .panels = l->panels, .k = cells, .a = maps + first, .a_row = 1,
                     .offsets = plan->whole + l->offsets, .b = plan->memory + l->x, .b_panel = PLAN_PANEL, .b_k = l->x_row,
                     .c = plan->memory + l->out + first * l->out_row, .c_row = l->out_row, .low = -INFINITY, .high = INFINITY, .then_low = -INFINITY, .then_high = INFINITY};
    plan->kernels->product(&p);
    for (ptrdiff_t j = first; j < end; j++) {
        float *out = plan->memory + l->out + j * l->out_row, sum = 0.0f;
        for (ptrdiff_t cell = 0; cell < cells; cell++)
            sum += maps[cell * l->each + j];
        for (ptrdiff_t i = 0; i < l->panels * PLAN_PANEL; i++)
            out[i] /= sum + n->little;
    }
}

/* Rows first to end of a constant matrix (out_h, h) times a matrix (h, c). */
void plan_rows(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end)
{
    PlanProduct p = {.m = end - first, .panels = l->panels, .k = l->h, .a = plan->weights + l->weights + first * l->h,
                     .a_row = l->h, .offsets = plan->whole, .b = plan->memory + l->x, .b_panel = PLAN_PANEL, .b_k = l->x_row,
                     .c = plan->memory + l->out + first * l->out_row, .c_row = l->out_row,
                     .bias = plan_constants(plan, l->bias), .low = n->low, .high = n->high, .then_low = -INFINITY,
                     .then_high = INFINITY};
    plan->kernels->product(&p);
}

/* The same where c is small, as (c, h) times (h, out_h): panels first to end, turned back. */
void plan_few_rows(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *turned, ptrdiff_t first,
                         ptrdiff_t end)
{
    const ptrdiff_t width = (end - first) * PLAN_PANEL, from = first * PLAN_PANEL, left = l->out_h - from;
    PlanProduct p = {.m = l->c, .panels = end - first, .k = l->h, .a = plan->memory + l->x, .a_row = 1,
                     .offsets = plan->whole + l->offsets, .b = plan->weights + l->weights + from * l->h,
                     .b_panel = (ptrdiff_t)PLAN_PANEL * l->h, .b_k = PLAN_PANEL, .c = turned, .c_row = width,
                     .low = -INFINITY, .high = INFINITY, .then_low = -INFINITY, .then_high = INFINITY};
    plan->kernels->product(&p);
    for (ptrdiff_t c = 0; c < l->c; c++) {
        float start = l->bias < 0 ? 0.0f : plan->weights[l->bias + c];
        for (ptrdiff_t q = 0; q < (width < left ? width : left); q++) {
            float value = turned[c * width + q] + start;
            value = value < n->low ? n->low : value;
            plan->memory[l->out + (from + q) * l->out_row + c] = value > n->high ? n->high : value;
        }
    }
}

void plan_gather(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end)
{
    PlanGather g = {.x = plan->memory + l->x, .weights = plan->weights + l->weights + (l->each ? first * l->taps : 0),
                    .bias = plan_constants(plan, l->bias), .index = plan->whole + l->index + first * l->taps,
                    .out = plan->memory + l->out + first * l->out_row, .count = end - first, .taps = l->taps,
                    .panels = l->panels, .x_row = l->x_row, .out_row = l->out_row, .each = l->each, .low = n->low,
                    .high = n->high};
    plan->kernels->gather(&g);
}

typedef float Four __attribute__((vector_size(16)));

/* Four values of two vectors. */
#ifdef __clang__
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Order __attribute__((vector_size(16)));
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Order){__VA_ARGS__})
#endif

/* Rows and columns of a matrix, changed: four by four, so that lines of both are used while they are at hand. */
static void turn(const float *from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, float *to, ptrdiff_t to_row)
{
    ptrdiff_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        ptrdiff_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            Four in[4], out[4];
            for (int i = 0; i < 4; i++)
                memcpy(&in[i], from + (r + i) * from_row + c, sizeof in[i]);
            Four a = PICK(in[0], in[1], 0, 4, 1, 5), b = PICK(in[2], in[3], 0, 4, 1, 5);
            out[0] = PICK(a, b, 0, 1, 4, 5), out[1] = PICK(a, b, 2, 3, 6, 7);
            a = PICK(in[0], in[1], 2, 6, 3, 7), b = PICK(in[2], in[3], 2, 6, 3, 7);
            out[2] = PICK(a, b, 0, 1, 4, 5), out[3] = PICK(a, b, 2, 3, 6, 7);
            for (int i = 0; i < 4; i++)
                memcpy(to + (c + i) * to_row + r, &out[i], sizeof out[i]);
        }
        for (; c < columns; c++)
            for (int i = 0; i < 4; i++)
                to[c * to_row + r + i] = from[(r + i) * from_row + c];
    }
    for (; r < rows; r++)
        for (ptrdiff_t c = 0; c < columns; c++)
            to[c * to_row + r] = from[r * from_row + c];
}

/* Channels of a cell as cells of a map twice as fine. */
void plan_give_blocks(const Plan *plan, const PlanLayer *l)
{
    const ptrdiff_t planes = l->c / 4;
    for (ptrdiff_t plane = 0; plane < planes; plane++)
        for (ptrdiff_t y = 0; y < 2 * l->h; y++) {
            float *out = plan->arrays[l->array] + (plane * 2 * l->h + y) * 2 * l->w;
            const float *row = plan->memory + l->x + (y >> 1) * l->w * l->x_row + (y & 1) * 2 * planes + plane;
            for (ptrdiff_t column = 0; column < l->w; column++) {
                out[2 * column] = row[column * l->x_row];
                out[2 * column + 1] = row[column * l->x_row + planes];
            }
        }
}

void plan_copy(const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row, ptrdiff_t rows, ptrdiff_t count)
{
    for (ptrdiff_t row = 0; row < rows; row++)
        memcpy(to + row * to_row, from + row * from_row, (size_t)count * sizeof(float));
}

/* Element by element: `count` values of each of some cells, or all at once. */
void plan_each(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end)
{
    const int close = l->x_row == l->count && l->out_row == l->count;
    const ptrdiff_t count = close ? (end - first) * l->count : l->count;
    for (ptrdiff_t cell = first; cell < end; cell += close ? end - first : 1) {
        const float *x = plan->memory + l->x + cell * l->x_row;
        float *out = plan->memory + l->out + cell * l->out_row;
        if (l->kind == PLAN_SIGMOID)
            plan->kernels->sigmoid(x, count, out);
        else
            plan->kernels->limit(x, count, n->low, n->high, out);
    }
}

/* The same values, in their order, in rows of another length. */
void plan_reshape(const Plan *plan, const PlanLayer *l)
{
    const float *x = plan->memory + l->x;
    float *out = plan->memory + l->out;
    const ptrdiff_t all = (ptrdiff_t)l->h * l->w * l->c;
    for (ptrdiff_t done = 0, count; done < all; done += count) {
        const ptrdiff_t column = done % l->c, to = done % l->count;
        count = l->c - column < l->count - to ? l->c - column : l->count - to;
        memcpy(out + done / l->count * l->out_row + to, x + done / l->c * l->x_row + column, (size_t)count * sizeof(float));
    }
}

/* (x + constants) scale. */
void plan_affine(const Plan *plan, const PlanLayer *l, const PlanNumbers *n)
{
    const float *offset = plan->weights + l->weights;
    for (ptrdiff_t cell = 0; cell < (ptrdiff_t)l->h * l->w; cell++)
        for (ptrdiff_t c = 0; c < l->c; c++)
            plan->memory[l->out + cell * l->out_row + c] = (plan->memory[l->x + cell * l->x_row + c] + offset[cell * l->c + c]) * n->little;
}

/* Twice as high and wide, between cells linearly: a quarter of one neighbour, three of the other. Then the activation, and
 * what is added. Rows y to end. */
void plan_enlarge(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t y, ptrdiff_t end)
{
    const float *slope = plan_constants(plan, l->slope);
    for (; y < end; y++) {
        const ptrdiff_t near_y = y >> 1, beside_y = y & 1 ? near_y + 1 : near_y - 1;
        const ptrdiff_t far_y = beside_y < 0 ? 0 : beside_y < l->h ? beside_y : l->h - 1;
        for (ptrdiff_t x = 0; x < l->out_w; x++) {
            const ptrdiff_t near_x = x >> 1, beside_x = x & 1 ? near_x + 1 : near_x - 1;
            const ptrdiff_t far_x = beside_x < 0 ? 0 : beside_x < l->w ? beside_x : l->w - 1;
            const float *map = plan->memory + l->x;
            const float *a = map + (near_y * l->w + near_x) * l->x_row, *b = map + (near_y * l->w + far_x) * l->x_row;
            const float *c = map + (far_y * l->w + near_x) * l->x_row, *d = map + (far_y * l->w + far_x) * l->x_row;
            const float *add = l->add < 0 ? NULL : plan->memory + l->add + (y * l->out_w + x) * l->add_row;
            float *out = plan->memory + l->out + (y * l->out_w + x) * l->out_row;
            for (ptrdiff_t i = 0; i < l->count; i++)
                out[i] = 0.75f * (0.75f * a[i] + 0.25f * b[i]) + 0.25f * (0.75f * c[i] + 0.25f * d[i]);
            plan->kernels->limit(out, l->count, n->low, n->high, out);
            if (slope)
                plan->kernels->bend(out, l->count, slope, out);
            for (ptrdiff_t i = 0; add && i < l->count; i++)
                out[i] += add[i];
        }
    }
}

/* Channels first to channels last, and back. */
void plan_take(const Plan *plan, const PlanLayer *l)
{
    const ptrdiff_t cells = (ptrdiff_t)l->h * l->w;
    turn(plan->arrays[l->array], cells, l->c, cells, plan->memory + l->out, l->out_row);
}

void plan_give_planes(const Plan *plan, const PlanLayer *l, ptrdiff_t first, ptrdiff_t end)
{
    const float *x = plan->memory + l->x + first * l->x_row;
    turn(x, l->x_row, end - first, l->c, plan->arrays[l->array] + first, (ptrdiff_t)l->h * l->w);
}

#endif
