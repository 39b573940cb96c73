/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolutions and blocks of them; each in parts, for threads.
 */
#include "plan_layers.h"

#ifdef PLAN_HERE

#include <math.h>
#include <string.h>

/* Values from one cell to the next. */
static ptrdiff_t pixel_of(const PlanLayer *l)
{
    return l->planar ? 1 : l->x_row;
}

/* Rows of pixels that a convolution's row y reads, one after the other, with zeros around them. */
static const float *padded_rows(const Plan *plan, const PlanLayer *l, ptrdiff_t y, float *to)
{
    const float *x = plan_source(plan, l);
    const ptrdiff_t planes = l->planar ? l->c : 1, pixel = pixel_of(l);
    const ptrdiff_t right = l->padded - l->left - l->w;
    const ptrdiff_t values = (l->w - 1) * pixel + (l->planar ? 1 : l->c); /* the last pixel may be a part of a wider one */
    float *row = to;
    for (ptrdiff_t plane = 0; plane < planes; plane++)
        for (ptrdiff_t dy = 0; dy < l->kernel_h; dy++, row += l->padded * pixel) {
            ptrdiff_t at = y * l->stride - l->top + dy;
            if (at < 0 || at >= l->h) {
                memset(row, 0, (size_t)(l->padded * pixel) * sizeof(float));
                continue;
            }
            memset(row, 0, (size_t)(l->left * pixel) * sizeof(float));
            memcpy(row + l->left * pixel, x + (plane * l->h + at) * l->w * pixel, (size_t)values * sizeof(float));
            memset(row + (l->left + l->w) * pixel, 0, (size_t)(right * pixel) * sizeof(float));
        }
    return to;
}

static const PlanRounding *rounding(const Plan *plan, int bits)
{
    return bits == 8 ? plan->kernels->eight : plan->kernels->sixteen;
}

/* A product of whole numbers, some rows of A at a time: `room` has space for these. If there are no more than that, `scale`
 * keeps what rounding them told, and if it is set already, they are in `room` from before. */
static void multiply_rounded(const Plan *plan, int bits, PlanProduct p, PlanRounded e, float *room, float *scale)
{
    const PlanRounding *kind = rounding(plan, bits);
    const ptrdiff_t m = p.m;
    p.rounded = &e;
    e.a = (const uint8_t *)room;
    e.a_row = (p.k + PLAN_PANEL - 1) / PLAN_PANEL * PLAN_PANEL * bits / 8;
    for (ptrdiff_t first = 0; first < m; first += PLAN_ROUNDED) {
        p.m = m - first < PLAN_ROUNDED ? m - first : PLAN_ROUNDED;
        if (m > PLAN_ROUNDED || *scale < 0.0f)
            *scale = kind->round(p.a, p.m, p.a_row, p.k, (uint8_t *)room);
        e.a_scale = *scale;
        kind->product(&p);
        p.a += PLAN_ROUNDED * p.a_row;
        p.add = p.add ? p.add + (PLAN_ROUNDED >> p.half) * p.add_row : NULL;
        if (p.rows)
            p.rows += PLAN_ROUNDED;
        else
            p.c += PLAN_ROUNDED * p.c_row;
    }
}

/* Some panels of a convolution's cells, `cells` of them from `a` on, as far apart as its stride says. `room` and
 * `scale`: of products of whole numbers. */
static void convolve(const Plan *plan, const PlanLayer *l, const float *a, ptrdiff_t cells, ptrdiff_t panel,
                     ptrdiff_t panels, float *room, float *scale, PlanProduct *p)
{
    p->m = cells;
    p->panels = panels;
    p->k = l->k;
    p->offsets = plan->whole + l->offsets;
    p->a = a;
    p->a_row = l->stride * pixel_of(l);
    p->b = plan->weights + l->weights + panel * PLAN_PANEL * l->k;
    p->b_panel = (ptrdiff_t)PLAN_PANEL * l->k;
    p->b_k = PLAN_PANEL;
    p->bias = l->bias < 0 ? NULL : plan->weights + l->bias + panel * PLAN_PANEL;
    if (l->bits < 32) {
        const ptrdiff_t words = (l->k * l->bits + 31) / 32;
        PlanRounded e = {.words = words, .b = (const int8_t *)(plan->weights + l->weights) + panel * words * 4 * PLAN_PANEL,
                         .b_scales = plan->weights + l->scales + panel * PLAN_PANEL,
                         .starts = plan->whole + l->starts + panel * PLAN_PANEL};
        multiply_rounded(plan, l->bits, *p, e, room, scale);
    } else
        plan->kernels->product(p);
}

/* Where the cells that row y of a convolution reads begin. */
static const float *row_of(const Plan *plan, const PlanLayer *l, ptrdiff_t y, float *room)
{
    return l->padded ? padded_rows(plan, l, y, room) : plan_source(plan, l) + y * l->stride * l->w * pixel_of(l);
}

/* What is added to a layer's map, from its row y on. */
static const float *added(const Plan *plan, const PlanLayer *l, ptrdiff_t y)
{
    return l->add < 0 ? NULL : plan->memory + l->add + (y >> l->half) * (l->out_w >> l->half) * l->add_row;
}

void plan_conv(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *room, int part, int parts)
{
    PlanProduct p = {.add_row = l->add_row, .add_panels = l->add_panels, .half = l->half, .c_row = l->out_row,
                     .low = n->low, .high = n->high, .then_low = n->then_low, .then_high = n->then_high,
                     .slope = plan_constants(plan, l->slope), .then_slope = plan_constants(plan, l->then_slope)};
    const ptrdiff_t cells = (ptrdiff_t)l->out_h * l->out_w;
    if (cells < FEW_CELLS) { /* few cells: each part has some of the channels */
        ptrdiff_t first = plan_share(l->panels, part, parts), panels = plan_share(l->panels, part + 1, parts) - first;
        p.add_panels -= first;
        p.slope = p.slope ? p.slope + first * PLAN_PANEL : NULL;
        p.then_slope = p.then_slope ? p.then_slope + first * PLAN_PANEL : NULL;
        for (ptrdiff_t y = 0; y < l->out_h; y++) {
            p.c = plan->memory + l->out + y * l->out_w * l->out_row + first * PLAN_PANEL;
            p.add = l->add < 0 ? NULL : added(plan, l, y) + first * PLAN_PANEL;
            convolve(plan, l, row_of(plan, l, y, room), plan_pointwise(l) ? cells : l->out_w, first, panels, room, &(float){-1.0f}, &p);
            if (plan_pointwise(l))
                return;
        }
    } else if (plan_pointwise(l)) {
        ptrdiff_t first = plan_share(cells, part, parts), end = plan_share(cells, part + 1, parts);
        p.c = plan->memory + l->out + first * l->out_row;
        p.add = l->add < 0 ? NULL : plan->memory + l->add + first * l->add_row;
        convolve(plan, l, plan_source(plan, l) + first * pixel_of(l), end - first, 0, l->panels, room, &(float){-1.0f}, &p);
    } else {
        for (ptrdiff_t y = plan_share(l->out_h, part, parts); y < plan_share(l->out_h, part + 1, parts); y++) {
            p.c = plan->memory + l->out + y * l->out_w * l->out_row;
            p.add = added(plan, l, y);
            convolve(plan, l, row_of(plan, l, y, room), l->out_w, 0, l->panels, room, &(float){-1.0f}, &p);
        }
    }
}

/* A block's rows of the expanded map at a time, and what is made of them: in a thread's own memory. */
typedef struct {
    ptrdiff_t channels, ring_row; /* values of a pixel and of a row */
    float *ring, *middle, *rest;  /* the rest: padded rows, or rounded cells */
    float *p_rest;                /* rounded cells, for the projection */
} Ring;

/* Rows first to end of the expanded map, some panels of it, into the ring. */
static void expand(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end,
                   ptrdiff_t panel, ptrdiff_t panels, const Ring *r, float *scale)
{
    const ptrdiff_t left = l->d_left * r->channels, right = (l->d_kernel - 1 - l->d_left) * r->channels;
    PlanProduct p = {.c_row = r->channels, .low = n->low, .high = n->high, .then_low = -INFINITY, .then_high = INFINITY};
    for (ptrdiff_t y = first; y < end; y++) {
        float *row = r->ring + y % l->ring * r->ring_row, *to = row + left;
        memset(row, 0, (size_t)left * sizeof(float));
        memset(to + l->mid_w * r->channels, 0, (size_t)right * sizeof(float));
        if (l->k == 0) {
            const float *from = plan_source(plan, l) + y * l->w * l->x_row + panel * PLAN_PANEL;
            const int close = l->x_row == r->channels; /* then the whole row at once */
            const ptrdiff_t count = close ? l->mid_w * r->channels : panels * PLAN_PANEL;
            for (ptrdiff_t x = 0; x < (close ? 1 : l->mid_w); x++)
                plan->kernels->limit(from + x * l->x_row, count, n->low, n->high, to + x * r->channels);
        } else if (!plan_expanded_whole(l)) {
            p.c = to;
            convolve(plan, l, row_of(plan, l, y, r->rest), l->mid_w, panel, panels, r->rest, &(float){-1.0f}, &p);
        }
    }
    if (plan_expanded_whole(l)) {
        p.c = r->ring + left;
        p.rows = plan->whole + l->rows;
        convolve(plan, l, plan_source(plan, l), (ptrdiff_t)l->mid_h * l->mid_w, panel, panels, r->rest, scale, &p);
    }
}

/* Rows y to end of a block, from some panels of the expanded map: depthwise, and projected onto `out`. */
static void contract(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t y, ptrdiff_t end,
                     ptrdiff_t panel, ptrdiff_t panels, const Ring *r, PlanProduct *p)
{
    PlanDepthwise d = {.weights = plan->weights + l->d_weights + panel * PLAN_PANEL * l->d_kernel * l->d_kernel,
                       .bias = plan->weights + l->d_bias + panel * PLAN_PANEL, .panels = panels, .channels = r->channels,
                       .width = l->out_w, .kernel = l->d_kernel, .stride = l->d_stride, .low = n->d_low, .high = n->d_high,
                       .gain = 1.0f / n->p_scale, .start = n->p_start};
    const int rounded = n->p_scale > 0.0f;
    for (ptrdiff_t row = y; row < end; row++) {
        const float *rows[8];
        for (ptrdiff_t dy = 0; dy < l->d_kernel; dy++) {
            ptrdiff_t at = row * l->d_stride - l->d_top + dy;
            rows[dy] = at < 0 || at >= l->mid_h ? NULL : r->ring + at % l->ring * r->ring_row;
        }
        d.rows = rows;
        d.out = l->p_panels ? r->middle + (row - y) * l->out_w * r->channels
                            : plan->memory + l->out + row * l->out_w * l->out_row + panel * PLAN_PANEL;
        d.out_channels = l->p_panels ? r->channels : l->out_row;
        if (rounded) {
            d.rounded = (uint8_t *)r->middle + (row - y) * l->out_w * r->channels * l->p_bits / 8;
            rounding(plan, l->p_bits)->depthwise(&d);
        } else
            plan->kernels->depthwise(&d);
    }
    if (!l->p_panels)
        return;
    const ptrdiff_t left = l->mid_c - panel * PLAN_PANEL;
    p->m = (end - y) * l->out_w;
    p->panels = l->p_panels;
    p->k = left < panels * PLAN_PANEL ? left : panels * PLAN_PANEL;
    p->a = r->middle;
    p->a_row = r->channels;
    p->offsets = plan->whole;
    p->b = plan->weights + l->p_weights + panel * PLAN_PANEL * l->p_panels * PLAN_PANEL; /* chunk by chunk */
    p->b_panel = p->k * PLAN_PANEL;
    p->b_k = PLAN_PANEL;
    if (l->p_bits < 32) {
        PlanRounded e = {.words = (p->k * l->p_bits + 31) / 32,
                         .b = (const int8_t *)(plan->weights + l->p_weights) + panel * PLAN_PANEL * l->p_panels * PLAN_PANEL * l->p_bits / 8,
                         .b_scales = plan->weights + l->p_scales,
                         .starts = plan->whole + l->p_starts + panel / l->chunk * l->p_panels * PLAN_PANEL};
        if (rounded) {
            PlanProduct whole = *p;
            e.a = (const uint8_t *)r->middle;
            e.a_row = r->channels * l->p_bits / 8;
            e.a_scale = n->p_scale;
            whole.rounded = &e;
            rounding(plan, l->p_bits)->product(&whole);
        } else
            multiply_rounded(plan, l->p_bits, *p, e, r->p_rest, &(float){-1.0f});
    } else
        plan->kernels->product(p);
}

/* Expand, depthwise, project: some channels at a time, so that what lies between stays in the first cache. A part has some
 * rows; of a block that is expanded as a whole, some of the channels, whose sums are put together afterwards. */
void plan_block(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *room, int part, int parts)
{
    const int whole = plan_expanded_whole(l);
    const ptrdiff_t all = (l->mid_c + PLAN_PANEL - 1) / PLAN_PANEL, chunks = (all + l->chunk - 1) / l->chunk;
    const ptrdiff_t first_chunk = whole ? plan_share(chunks, part, parts) : 0, end_chunk = whole ? plan_share(chunks, part + 1, parts) : chunks;
    const ptrdiff_t top = whole ? 0 : plan_share(l->out_h, part, parts), bottom = whole ? l->out_h : plan_share(l->out_h, part + 1, parts);
    const ptrdiff_t band = whole ? l->out_h : 1, apart = whole && parts > 1;
    Ring r = {.channels = (ptrdiff_t)l->chunk * PLAN_PANEL, .ring = room};
    r.ring_row = (l->mid_w + l->d_kernel - 1) * r.channels;
    r.middle = r.ring + l->ring * r.ring_row;
    r.rest = r.middle + (l->p_panels ? band * l->out_w * r.channels : 0);
    r.p_rest = room + plan->room - (l->p_bits < 32 ? PLAN_ROUNDED * r.channels * l->p_bits / 32 : 0);
    float *out = plan->memory + l->out, scale = -1.0f; /* of rounded cells, which all channels are made of */
    ptrdiff_t out_row = l->out_row;
    if (apart && part > 0) {
        out_row = (ptrdiff_t)l->p_panels * PLAN_PANEL;
        out = plan->memory + l->partial + (part - 1) * l->out_h * l->out_w * out_row;
    }
    for (ptrdiff_t chunk = first_chunk; chunk < end_chunk; chunk++) {
        const ptrdiff_t panel = chunk * l->chunk, panels = all - panel < l->chunk ? all - panel : l->chunk;
        const int last = chunk + 1 == end_chunk && !apart;
        PlanProduct p = {.bias = chunk == 0 ? plan_constants(plan, l->p_bias) : NULL, .accumulate = chunk > first_chunk,
                         .c_row = out_row, .low = -INFINITY, .high = INFINITY, .then_low = -INFINITY,
                         .then_high = INFINITY};
        if (last) {
            p.low = n->p_low, p.high = n->p_high, p.then_low = n->then_low, p.then_high = n->then_high;
            p.slope = plan_constants(plan, l->slope), p.then_slope = plan_constants(plan, l->then_slope);
            p.add_row = l->add_row, p.add_panels = l->add_panels, p.half = l->half;
        }
        ptrdiff_t done = top * l->d_stride - l->d_top;
        done = done > 0 ? done : 0;
        for (ptrdiff_t y = top; y < bottom; y += band) {
            ptrdiff_t end = (y + band - 1) * l->d_stride - l->d_top + l->d_kernel;
            end = whole || end > l->mid_h ? l->mid_h : end;
            expand(plan, l, n, done, end, panel, panels, &r, &scale);
            done = end > done ? end : done;
            p.c = out + y * l->out_w * out_row;
            p.add = last ? added(plan, l, y) : NULL;
            contract(plan, l, n, y, y + band, panel, panels, &r, &p);
        }
    }
}

/* Put the sums of a block's parts together, from a cell on to another. */
void plan_finish_block(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, int others, ptrdiff_t cell, ptrdiff_t end)
{
    const ptrdiff_t row = (ptrdiff_t)l->p_panels * PLAN_PANEL, map = (ptrdiff_t)l->out_h * l->out_w * row;
    for (; cell < end; cell++) {
        float *out = plan->memory + l->out + cell * l->out_row;
        const float *partial = plan->memory + l->partial + cell * row;
        for (int other = 0; other < others; other++)
            for (ptrdiff_t i = 0; i < row; i++)
                out[i] += partial[other * map + i];
        plan->kernels->limit(out, row, n->p_low, n->p_high, out);
        if (l->slope >= 0)
            plan->kernels->bend(out, row, plan->weights + l->slope, out);
        if (l->add >= 0) {
            const float *add = plan->memory + l->add + cell * l->add_row;
            for (ptrdiff_t i = 0; i < l->add_panels * PLAN_PANEL; i++)
                out[i] += add[i];
        }
        plan->kernels->limit(out, row, n->then_low, n->then_high, out);
        if (l->then_slope >= 0)
            plan->kernels->bend(out, row, plan->weights + l->then_slope, out);
    }
}

#endif
