/* SPDX-License-Identifier: Apache-2.0
 *
 * A followed hand made steadier; see smoothing.py and rig.py. Shapes are by coordinate, (3, N), as there.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846
/* Points that are worked on at a time; no fewer than there may be joints. */
#define BLOCK CORE_MOST_JOINTS
/* Shortest bone, metres: one of no length has no direction. */
#define LEAST 1e-9f
/* As in smoothing.py. */
#define FADING 0.03
#define SHORT (1.0 / 120.0)
#define ASTRAY 0.4

/* A filter as `AlphaBeta` is made, and what a call of it is given. */
typedef struct {
    double cutoff, gain, lag_cutoff, dt, pull, unit;
} Filter;

/* Joints, by coordinate. */
typedef float Joints[3][CORE_MOST_JOINTS];

#define REAL float
#define ROOT sqrtf
#define STEP step_float
#include "smoothing_step.h"
#undef REAL
#undef ROOT
#undef STEP

#define REAL double
#define ROOT sqrt
#define STEP step_double
#include "smoothing_step.h"

int core_rig_fits(const CoreRig *rig)
{
    const ptrdiff_t joints = rig->regressor.rows;
    if (joints < 1 || joints > CORE_MOST_JOINTS || rig->root < 0 || rig->root >= joints)
        return 0;
    for (ptrdiff_t b = 0; b < rig->bones; b++)
        if (rig->starts[b] < 0 || rig->starts[b] >= joints || rig->ends[b] < 0 || rig->ends[b] >= joints)
            return 0;
    return rig->follow.rows == rig->vertices && core_entries_fit(&rig->regressor, rig->vertices) &&
           core_entries_fit(&rig->follow, joints);
}

/* Learn from joints (J, 3) how long the bones are (`Smoother._settle`); by what factor to enlarge the hand. */
static double settle(const CoreRig *rig, const float *joints, float share, float *lengths)
{
    double seen_sum = 0.0, settled_sum = 0.0;
    for (ptrdiff_t b = 0; b < rig->bones; b++) {
        const float *end = joints + 3 * rig->ends[b], *start = joints + 3 * rig->starts[b];
        float x = end[0] - start[0], y = end[1] - start[1], z = end[2] - start[2];
        float length = sqrtf(x * x + y * y + z * z);
        lengths[b] += share * (length - lengths[b]);
        seen_sum += length;
        settled_sum += lengths[b];
    }
    return (float)(settled_sum / (seen_sum < LEAST ? LEAST : seen_sum));
}

/* Filter points (count, 3) relative to `root` and larger by `factor`. */
static void filter_shape(const Filter *filter, const float *points, ptrdiff_t count, const float root[3], float factor,
                         float *state)
{
    float columns[3 * BLOCK];
    for (ptrdiff_t first = 0; first < count; first += BLOCK) {
        const int size = count - first < BLOCK ? (int)(count - first) : BLOCK;
        for (int k = 0; k < size; k++)
            for (int d = 0; d < 3; d++)
                columns[d * BLOCK + k] = factor * (points[3 * (first + k) + d] - root[d]);
        step_float(filter, columns, BLOCK, 3, size, state + first, count);
    }
}

/* Joints (J, 3) relative to the root whose bones have a length, and the direction that they had (`Rig.stretch`). */
static void stretch(const CoreRig *rig, const float *lengths, Joints joints, Joints wanted)
{
    const ptrdiff_t count = rig->regressor.rows;
    memset(wanted, 0, sizeof(Joints));
    for (ptrdiff_t b = 0; b < rig->bones; b++) {
        float bone[3];
        for (int d = 0; d < 3; d++)
            bone[d] = joints[d][rig->ends[b]] - joints[d][rig->starts[b]];
        float length = sqrtf(bone[0] * bone[0] + bone[1] * bone[1] + bone[2] * bone[2]);
        float factor = lengths[b] / (length < LEAST ? LEAST : length);
        for (int d = 0; d < 3; d++)
            for (ptrdiff_t j = 0; j < count; j++)
                wanted[d][j] += factor * bone[d] * rig->paths[b * count + j];
    }
}

/* Moves of the joints times a matrix (J, J), added to `sum`. */
static void multiply(const CoreRig *rig, Joints move, const float *matrix, Joints sum)
{
    const ptrdiff_t count = rig->regressor.rows;
    for (ptrdiff_t from = 0; from < count; from++)
        for (int d = 0; d < 3; d++)
            for (ptrdiff_t j = 0; j < count; j++)
                sum[d][j] += move[d][from] * matrix[from * count + j];
}

/* Put the joints of a mesh (3, V), and the mesh, at `place`. */
static void place_mesh(const CoreRig *rig, const float *mesh, const float *lengths, const float place[3], float *vertices,
                       Joints joints)
{
    const CoreEntries *regressor = &rig->regressor, *follow = &rig->follow;
    Joints wanted, moves;
    memset(joints, 0, sizeof(Joints));
    memset(moves, 0, sizeof(Joints));
    for (ptrdiff_t j = 0; j < regressor->rows; j++)
        for (int k = regressor->starts[j]; k < regressor->starts[j + 1]; k++)
            for (int d = 0; d < 3; d++)
                joints[d][j] += regressor->weights[k] * mesh[d * rig->vertices + regressor->columns[k]];
    if (lengths != NULL) {
        stretch(rig, lengths, joints, wanted);
        for (int d = 0; d < 3; d++)
            for (ptrdiff_t j = 0; j < regressor->rows; j++)
                wanted[d][j] -= joints[d][j];
        multiply(rig, wanted, rig->then, joints);
        multiply(rig, wanted, rig->moves, moves);
    }
    const float root[3] = {joints[0][rig->root], joints[1][rig->root], joints[2][rig->root]};
    for (ptrdiff_t v = 0; v < rig->vertices; v++) {
        float sum[3] = {0.0f, 0.0f, 0.0f};
        for (int k = follow->starts[v]; k < follow->starts[v + 1]; k++)
            for (int d = 0; d < 3; d++)
                sum[d] += follow->weights[k] * moves[d][follow->columns[k]];
        for (int d = 0; d < 3; d++)
            vertices[3 * v + d] = mesh[d * rig->vertices + v] + sum[d] - root[d] + place[d];
    }
}

/* Joints alone, (3, J). */
static void place_joints(const CoreRig *rig, const float *points, const float *lengths, Joints joints)
{
    const ptrdiff_t count = rig->regressor.rows;
    Joints wanted;
    for (int d = 0; d < 3; d++)
        memcpy(joints[d], points + d * count, count * sizeof *points);
    if (lengths != NULL) {
        stretch(rig, lengths, joints, wanted);
        memcpy(joints, wanted, sizeof(Joints));
    }
}

/* What keypoints show beyond the joints, by coordinate; `metres` a pixel. */
static void filter_detail(const Filter *filter, const CoreSeen *seen, const CoreCamera *camera, double metres,
                          ptrdiff_t count, double *state)
{
    double detail[2 * BLOCK];
    for (ptrdiff_t j = 0; j < count; j++) {
        const double joint[3] = {seen->joints[3 * j], seen->joints[3 * j + 1], seen->joints[3 * j + 2]};
        double pixel[2];
        core_project(camera, joint, 1, pixel);
        for (int d = 0; d < 2; d++)
            detail[d * BLOCK + j] = (seen->keypoints[2 * j + d] - pixel[d]) * metres;
    }
    step_double(filter, detail, BLOCK, 2, (int)count, state, count);
}

/* Joints relative to their root are put at `place`, keypoints around them; 0 if one is not in front of the camera. */
static int show(const CoreRig *rig, Joints joints, const float place[3], const CoreCamera *camera, const double *detail,
                double metres, CoreShown *shown)
{
    const ptrdiff_t count = rig->regressor.rows;
    const float root[3] = {joints[0][rig->root], joints[1][rig->root], joints[2][rig->root]};
    int before = 1;
    for (ptrdiff_t j = 0; j < count; j++) {
        double joint[3], pixel[2];
        for (int d = 0; d < 3; d++)
            joint[d] = shown->joints[3 * j + d] = joints[d][j] - root[d] + place[d];
        before &= joint[2] > 0.0;
        core_project(camera, joint, 1, pixel);
        for (int d = 0; d < 2; d++)
            shown->keypoints[2 * j + d] = (float)(pixel[d] + detail[d * count + j] / metres);
    }
    return before;
}

double core_smooth(const CoreRig *rig, const CoreSmoothing *settings, const CoreCamera *camera, const CoreSeen *seen,
                   CoreFollowed *followed, CoreShown *shown)
{
    const double dt = settings->dt, lag = settings->lag_cutoff, z = seen->translation[2], metres = z / camera->fx;
    const ptrdiff_t count = rig->regressor.rows;
    double factor = 1.0;
    if (followed->lengths != NULL)
        factor = settle(rig, seen->joints, (float)settings->share, followed->lengths);

    const Filter of_depth = {settings->depth_cutoff, settings->depth_gain, lag, dt, settings->pull, 1.0};
    const double log_depth = log(factor * z);
    step_double(&of_depth, &log_depth, 1, 1, 1, followed->depth, 1);
    if (fabs(followed->depth[0] - log_depth) > ASTRAY) { /* as `AlphaBeta.hold` */
        followed->depth[0] = log_depth + (followed->depth[0] > log_depth ? ASTRAY : -ASTRAY);
        followed->depth[1] = 0.0;
    }
    const double depth = exp(followed->depth[0]);
    const Filter of_direction = {settings->direction_cutoff, settings->direction_gain, lag, dt, 1.0, factor * z};
    const double direction[3] = {seen->translation[0] / z, seen->translation[1] / z, seen->translation[2] / z};
    step_double(&of_direction, direction, 1, 3, 1, followed->direction, 1);
    float place[3], root[3];
    for (int d = 0; d < 3; d++) {
        shown->translation[d] = followed->direction[d] * depth;
        place[d] = (float)shown->translation[d];
        root[d] = (float)seen->translation[d];
    }

    const Filter of_shape = {settings->shape_cutoff, settings->shape_gain, lag, dt, 1.0, 1.0};
    filter_detail(&of_shape, seen, camera, metres, count, followed->detail);
    Joints joints;
    if (seen->vertices != NULL) {
        filter_shape(&of_shape, seen->vertices, rig->vertices, root, (float)factor, followed->shape);
        place_mesh(rig, followed->shape, followed->lengths, place, shown->vertices, joints);
    } else {
        filter_shape(&of_shape, seen->joints, count, root, (float)factor, followed->shape);
        place_joints(rig, followed->shape, followed->lengths, joints);
    }
    return show(rig, joints, place, camera, followed->detail, metres, shown) ? factor : 0.0;
}
