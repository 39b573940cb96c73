/* SPDX-License-Identifier: Apache-2.0
 *
 * What a layer of plan.h does, and into how many parts it falls, for threads.
 */
#include "plan_layers.h"

#ifdef PLAN_HERE

#include <string.h>

/* Cells and rows that make a part worth while. */
#define MANY_CELLS 256
#define MANY_ROWS 24
/* Rows of a block that falls into more parts than there are threads. */
#define LARGE 40
/* Rows of a block's band: those at its edges are expanded twice. */
#define BAND 5

/* What of a layer may be shared: rows, panels or cells; 1 where it is not worth it. */
static ptrdiff_t shared(const PlanLayer *l)
{
    const ptrdiff_t cells = (ptrdiff_t)l->h * l->w, out_cells = (ptrdiff_t)l->out_h * l->out_w;
    switch (l->kind) {
    case PLAN_CONV:
        return out_cells < FEW_CELLS ? l->panels / 2 : plan_pointwise(l) ? out_cells / MANY_ROWS : l->out_h / 2;
    case PLAN_BLOCK:
        return plan_expanded_whole(l) ? ((l->mid_c + PLAN_PANEL - 1) / PLAN_PANEL + l->chunk - 1) / l->chunk : l->out_h / BAND;
    case PLAN_MAX_POOL:
    case PLAN_MEAN_POOL:
    case PLAN_ENLARGE: return out_cells < MANY_CELLS ? 1 : l->out_h;
    case PLAN_LIMIT:
    case PLAN_SIGMOID:
    case PLAN_GIVE_PLANES: return cells / MANY_CELLS;
    case PLAN_ATTEND: return l->taps / 8;
    case PLAN_ROWS:
    case PLAN_GATHER: return l->out_h / MANY_ROWS;
    case PLAN_FEW_ROWS: return l->panels / 8;
    default: return 1;
    }
}

void plan_parts(const Plan *plan, const PlanLayer *l, int parts[2])
{
    ptrdiff_t most = plan->threads == 1 ? 1 : shared(l);
    /* of the largest, the first of a network, twice as many as threads, for those that come late */
    ptrdiff_t threads = plan->threads < PLAN_MOST_THREADS ? plan->threads : PLAN_MOST_THREADS;
    ptrdiff_t wanted = l->kind == PLAN_BLOCK && l->out_h >= LARGE && !plan_expanded_whole(l) ? 2 * threads : threads;
    parts[0] = (int)(most < 1 ? 1 : most < wanted ? most : wanted);
    parts[1] = l->kind == PLAN_BLOCK && plan_expanded_whole(l) && parts[0] > 1 ? parts[0] : 0;
}

void plan_run_part(const Plan *plan, ptrdiff_t layer, int stage, int part, int parts, int thread)
{
    const PlanLayer *l = &plan->layers[layer];
    const PlanNumbers *n = &plan->numbers[layer];
    float *memory = plan->memory, *room = memory + plan->scratch + thread * plan->room;
    const ptrdiff_t cells = (ptrdiff_t)l->h * l->w;
    float *array = l->array < 0 ? NULL : plan->arrays[l->array];
#define SHARE(count) plan_share(count, part, parts), plan_share(count, part + 1, parts)
    if (stage == 1) {
        plan_finish_block(plan, l, n, parts - 1, SHARE((ptrdiff_t)l->out_h * l->out_w));
        return;
    }
    switch (l->kind) {
    case PLAN_TAKE_PLANES: memcpy(memory + l->out, array, (size_t)l->count * sizeof(float)); return;
    case PLAN_TAKE: plan_take(plan, l); return;
    case PLAN_CONV: plan_conv(plan, l, n, room, part, parts); return;
    case PLAN_BLOCK: plan_block(plan, l, n, room, part, parts); return;
    case PLAN_MAX_POOL:
    case PLAN_MEAN_POOL: plan_pool(plan, l, SHARE(l->out_h)); return;
    case PLAN_LIMIT:
    case PLAN_SIGMOID: plan_each(plan, l, n, SHARE(cells)); return;
    case PLAN_COPY: plan_copy(memory + l->x, l->x_row, memory + l->out, l->out_row, cells, l->count); return;
    case PLAN_MEAN: plan_mean(plan, l); return;
    case PLAN_ATTEND: plan_attend(plan, l, n, SHARE(l->taps)); return;
    case PLAN_ROWS: plan_rows(plan, l, n, SHARE(l->out_h)); return;
    case PLAN_FEW_ROWS: plan_few_rows(plan, l, n, room, SHARE(l->panels)); return;
    case PLAN_GATHER: plan_gather(plan, l, n, SHARE(l->out_h)); return;
    case PLAN_RESHAPE: plan_reshape(plan, l); return;
    case PLAN_AFFINE: plan_affine(plan, l, n); return;
    case PLAN_ENLARGE: plan_enlarge(plan, l, n, SHARE(l->out_h)); return;
    case PLAN_GIVE_PLANES: plan_give_planes(plan, l, SHARE(cells)); return;
    case PLAN_GIVE_BLOCKS: plan_give_blocks(plan, l); return;
    case PLAN_GIVE: plan_copy(memory + l->x, l->x_row, array, l->c, l->count, l->c); return;
    case PLAN_SIGMOID_ARRAY: plan->kernels->sigmoid(array, l->count, array); return;
    }
}

#endif
