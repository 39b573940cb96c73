/* SPDX-License-Identifier: Apache-2.0
 *
 * Points of a hand between the network, the camera and the image; see camera.py, roi.py, pipeline.py and motion.py.
 */
#include "core.h"

#include <math.h>

static void map_point(double x, double y, const double matrix[4], const double shift[2], double mapped[2])
{
    mapped[0] = matrix[0] * x + matrix[1] * y + shift[0];
    mapped[1] = matrix[2] * x + matrix[3] * y + shift[1];
}

void core_map_single(const float *points, ptrdiff_t count, const double matrix[4], const double shift[2], double *mapped)
{
    for (ptrdiff_t k = 0; k < count; k++)
        map_point(points[2 * k], points[2 * k + 1], matrix, shift, mapped + 2 * k);
}

void core_map_double(const double *points, ptrdiff_t count, const double matrix[4], const double shift[2], double *mapped)
{
    for (ptrdiff_t k = 0; k < count; k++)
        map_point(points[2 * k], points[2 * k + 1], matrix, shift, mapped + 2 * k);
}

void core_map_to_single(const float *points, ptrdiff_t count, const double matrix[4], const double shift[2], float *mapped)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        double at[2];
        map_point(points[2 * k], points[2 * k + 1], matrix, shift, at);
        mapped[2 * k] = (float)at[0];
        mapped[2 * k + 1] = (float)at[1];
    }
}

void core_project(const CoreCamera *camera, const double *points, ptrdiff_t count, double *pixels)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        const double *p = points + 3 * k;
        double depth = p[2] > 0.0 ? p[2] : NAN;
        pixels[2 * k] = camera->fx * p[0] / depth + camera->cx;
        pixels[2 * k + 1] = camera->fy * p[1] / depth + camera->cy;
    }
}

double core_project_placed(const CoreCamera *camera, const float *points, ptrdiff_t count, const double translation[3],
                           double *pixels)
{
    double farthest = 0.0;
    for (ptrdiff_t k = 0; k < count; k++) {
        const float *p = points + 3 * k;
        const double placed[3] = {p[0] + translation[0], p[1] + translation[1], p[2] + translation[2]};
        core_project(camera, placed, 1, pixels + 2 * k);
        for (int d = 0; d < 2; d++)
            if (!(fabs(pixels[2 * k + d]) <= farthest)) /* NaN stays */
                farthest = isnan(farthest) ? farthest : fabs(pixels[2 * k + d]);
    }
    return farthest;
}

double core_extent(const double *points, ptrdiff_t count)
{
    double largest = 0.0;
    for (int axis = 0; axis < 2; axis++) {
        double low = points[axis], high = points[axis];
        for (ptrdiff_t k = 0; k < count; k++) {
            double value = points[2 * k + axis];
            if (isnan(value))
                return NAN;
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        double side = high - low; /* NaN of two infinities of one sign */
        if (!(side <= largest))
            largest = side;
        if (isnan(largest))
            return NAN;
    }
    return largest;
}

/* Least and greatest x, then y, along axes that are turned by an angle; NaN if a point is. */
static void turned_box(const double *points, ptrdiff_t count, double angle, double box[4])
{
    const double c = cos(angle), s = sin(angle);
    box[0] = box[2] = INFINITY;
    box[1] = box[3] = -INFINITY;
    for (ptrdiff_t k = 0; k < count; k++) {
        const double x = points[2 * k], y = points[2 * k + 1], turned[2] = {c * x + s * y, c * y - s * x};
        if (isnan(turned[0] + turned[1])) {
            box[0] = box[1] = box[2] = box[3] = NAN;
            return;
        }
        for (int axis = 0; axis < 2; axis++) {
            box[2 * axis] = turned[axis] < box[2 * axis] ? turned[axis] : box[2 * axis];
            box[2 * axis + 1] = turned[axis] > box[2 * axis + 1] ? turned[axis] : box[2 * axis + 1];
        }
    }
}

void core_square(const double *points, ptrdiff_t count, double scale, double angle, ptrdiff_t wrist, ptrdiff_t knuckle,
                 double part, double square[4])
{
    double box[4];
    if (wrist >= 0) {
        const double across = points[2 * knuckle] - points[2 * wrist], down = points[2 * knuckle + 1] - points[2 * wrist + 1];
        turned_box(points, count, 0.0, box);
        const double width = box[1] - box[0], height = box[3] - box[2];
        if (hypot(across, down) > part * (width > height ? width : height))
            angle = atan2(across, -down);
    }
    turned_box(points, count, angle, box);
    const double width = box[1] - box[0], height = box[3] - box[2], larger = width > height ? width : height;
    const double x = 0.5 * (box[0] + box[1]), y = 0.5 * (box[2] + box[3]), c = cos(angle), s = sin(angle);
    square[0] = c * x - s * y;
    square[1] = s * x + c * y;
    square[2] = scale * (larger < 1.0 ? 1.0 : larger);
    square[3] = angle;
}

double core_mean_distance(const double *points, const double *others, ptrdiff_t count)
{
    double sum = 0.0;
    for (ptrdiff_t k = 0; k < count; k++) {
        double x = points[2 * k] - others[2 * k], y = points[2 * k + 1] - others[2 * k + 1];
        sum += sqrt(x * x + y * y);
    }
    return sum / (double)count;
}

void core_rotation(const CoreCamera *camera, const CoreRegion *region, double rotation[9])
{
    double x = (region->cx - camera->cx) / camera->fx, y = (region->cy - camera->cy) / camera->fy;
    double z = 1.0 / sqrt(x * x + y * y + 1.0);
    x *= z;
    y *= z;
    double k = 1.0 / (1.0 + z);
    const double towards[9] = {1.0 - k * x * x, -k * x * y, x, -k * x * y, 1.0 - k * y * y, y, -x, -y, z};
    double c = cos(region->angle), s = sin(region->angle), mirror = region->mirrored ? -1.0 : 1.0;
    for (int row = 0; row < 3; row++) {
        const double *from = towards + 3 * row;
        rotation[3 * row] = mirror * (from[0] * c + from[1] * s);
        rotation[3 * row + 1] = from[1] * c - from[0] * s;
        rotation[3 * row + 2] = from[2];
    }
}

int core_entries_fit(const CoreEntries *entries, ptrdiff_t columns)
{
    int bad = entries->starts[0] < 0 || entries->starts[entries->rows] > entries->count;
    for (ptrdiff_t j = 0; j < entries->rows; j++)
        bad |= entries->starts[j + 1] < entries->starts[j];
    for (ptrdiff_t k = 0; k < entries->count; k++)
        bad |= entries->columns[k] < 0 || entries->columns[k] >= columns;
    return !bad;
}

int core_relative_hand(const float *network, ptrdiff_t count, const double rotation[9], const CoreEntries *regressor,
                       ptrdiff_t root, double *vertices, double *joints)
{
    double finite = 0.0; /* becomes NaN with the first value that is not finite */
    for (ptrdiff_t v = 0; v < count; v++) {
        double x = network[3 * v], y = network[3 * v + 1], z = network[3 * v + 2];
        for (int d = 0; d < 3; d++) {
            const double *row = rotation + 3 * d;
            double value = x * row[0] + y * row[1] + z * row[2];
            vertices[3 * v + d] = value;
            finite += 0.0 * value;
        }
    }
    for (ptrdiff_t j = 0; j < regressor->rows; j++) {
        double sum[3] = {0.0, 0.0, 0.0};
        for (int k = regressor->starts[j]; k < regressor->starts[j + 1]; k++)
            for (int d = 0; d < 3; d++)
                sum[d] += regressor->weights[k] * vertices[3 * regressor->columns[k] + d];
        for (int d = 0; d < 3; d++)
            joints[3 * j + d] = sum[d];
    }
    const double origin[3] = {joints[3 * root], joints[3 * root + 1], joints[3 * root + 2]};
    for (ptrdiff_t v = 0; v < count; v++)
        for (int d = 0; d < 3; d++)
            vertices[3 * v + d] -= origin[d];
    for (ptrdiff_t j = 0; j < regressor->rows; j++)
        for (int d = 0; d < 3; d++)
            joints[3 * j + d] -= origin[d];
    return finite == 0.0 && isfinite(origin[0]) && isfinite(origin[1]) && isfinite(origin[2]);
}

void core_place(const double *points, ptrdiff_t count, double scale, const double translation[3], float *placed)
{
    for (ptrdiff_t k = 0; k < count; k++)
        for (int d = 0; d < 3; d++)
            placed[3 * k + d] = (float)(scale * points[3 * k + d] + translation[d]);
}

void core_settle_keypoints(const CoreCamera *camera, const double *joints, ptrdiff_t count, double scale,
                           const double translation[3], const double *keypoints, const double *scores, double weight,
                           double *pixels, float *settled)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        double placed[3], *pixel = pixels + 2 * k;
        for (int d = 0; d < 3; d++)
            placed[d] = scale * joints[3 * k + d] + translation[d];
        core_project(camera, placed, 1, pixel);
        for (int d = 0; d < 2; d++)
            settled[2 * k + d] = (float)((scores[k] * keypoints[2 * k + d] + weight * pixel[d]) / (scores[k] + weight));
    }
}
