/* SPDX-License-Identifier: Apache-2.0
 *
 * What a registration accepts (registration/checks.py); what is wrong is for NumPy to say.
 */
#include "registration.h"

#include <math.h>

/* Whether all values are finite and of a magnitude up to `limit`. */
static int within(const double *values, size_t count, double limit)
{
    int outside = 0;
    for (size_t i = 0; i < count; i++)
        outside |= !(fabs(values[i]) <= limit);
    return !outside;
}

static int contour_within(const RegistrationInputs *inputs, double limit)
{
    int outside = 0;
    if (inputs->contour_single == NULL)
        return inputs->contour_double == NULL || within(inputs->contour_double, 2 * inputs->contour_count, limit);
    for (size_t i = 0; i < 2 * inputs->contour_count; i++)
        outside |= !(fabs((double)inputs->contour_single[i]) <= limit);
    return !outside;
}

int registration_check(const RegistrationSettings *settings, const RegistrationInputs *inputs, uint8_t *used,
                       double *span)
{
    size_t count = inputs->joint_count;
    int some = 0;
    if (count < 1 || count > REGISTRATION_MOST_JOINTS ||
        !within(inputs->vertices, 3 * inputs->vertex_count, settings->most_size) ||
        !within(inputs->joints, 3 * count, settings->most_size) ||
        !within(inputs->keypoints, 2 * count, settings->most_pixel) ||
        !within(inputs->scores, count, settings->most_score) || !contour_within(inputs, settings->most_pixel))
        return 0;
    for (size_t i = 0; i < count; i++) {
        used[i] = inputs->scores[i] >= settings->least_score;
        some += used[i];
    }
    *span = 0.0;
    for (int k = 0; k < 3; k++) {
        double least = inputs->joints[k], most = least;
        for (size_t i = 1; i < count; i++) {
            double value = inputs->joints[3 * i + (size_t)k];
            least = value < least ? value : least;
            most = value > most ? value : most;
        }
        *span = most - least > *span ? most - least : *span;
    }
    return some >= settings->least_joints && *span >= settings->least_span;
}
