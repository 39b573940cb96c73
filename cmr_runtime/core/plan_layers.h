/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files that run layers of plan.h share.
 */
#ifndef CMR_PLAN_LAYERS_H
#define CMR_PLAN_LAYERS_H

#include "plan.h"

/* Cells below which a convolution is shared by channels. */
#define FEW_CELLS 64

/* Constants at a place; NULL if there are none. */
static inline const float *plan_constants(const Plan *plan, int32_t at)
{
    return at < 0 ? NULL : plan->weights + at;
}

/* The map that a layer reads. */
static inline const float *plan_source(const Plan *plan, const PlanLayer *l)
{
    return l->array < 0 ? plan->memory + l->x : plan->arrays[l->array];
}

/* Where part `part` of `parts` begins of so many. */
static inline ptrdiff_t plan_share(ptrdiff_t count, int part, int parts)
{
    return count * part / parts;
}

/* Whether a convolution's cells may be taken as one long row. */
static inline int plan_pointwise(const PlanLayer *l)
{
    return l->kernel_h == 1 && l->stride == 1 && l->padded == 0 && l->k == l->c && !l->half;
}

/* Whether a block's map is expanded as a whole. */
static inline int plan_expanded_whole(const PlanLayer *l)
{
    return l->rows >= 0;
}

/* plan_convolutions.c; `room` is the thread's own memory. */
void plan_conv(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *room, int part, int parts);
void plan_block(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *room, int part, int parts);
void plan_finish_block(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, int others, ptrdiff_t cell, ptrdiff_t end);

/* plan_others.c; from a row, cell or panel on to another. */
void plan_pool(const Plan *plan, const PlanLayer *l, ptrdiff_t y, ptrdiff_t end);
void plan_mean(const Plan *plan, const PlanLayer *l);
void plan_attend(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end);
void plan_rows(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end);
void plan_few_rows(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, float *turned, ptrdiff_t first, ptrdiff_t end);
void plan_gather(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end);
void plan_each(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t first, ptrdiff_t end);
void plan_reshape(const Plan *plan, const PlanLayer *l);
void plan_affine(const Plan *plan, const PlanLayer *l, const PlanNumbers *n);
void plan_enlarge(const Plan *plan, const PlanLayer *l, const PlanNumbers *n, ptrdiff_t y, ptrdiff_t end);
void plan_take(const Plan *plan, const PlanLayer *l);
void plan_give_planes(const Plan *plan, const PlanLayer *l, ptrdiff_t first, ptrdiff_t end);
void plan_give_blocks(const Plan *plan, const PlanLayer *l);
void plan_copy(const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row, ptrdiff_t rows, ptrdiff_t count);

#endif
