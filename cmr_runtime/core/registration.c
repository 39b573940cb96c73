/* SPDX-License-Identifier: Apache-2.0
 *
 * The registration of one hand (registration/registrar.py) in the ordinary case: valid inputs, and both terms blended by
 * covariance. All else is "not mine": the caller then does it in NumPy from the start.
 */
#include "registration.h"

#include <math.h>
#include <string.h>

#define MOST_ROUNDS 1000.0
/* What is known of the scale, over what the image says of it where the depth is given: with less, rounding decides, and NumPy
 * may find nothing determined. */
#define ROUNDING 1e-12

typedef struct {
    const RegistrationSettings *settings;
    const RegistrationInputs *inputs;
    double depths[2], scales[2];
    double span, hand_px;
    JointTerm joints;
    ExtentTerm extents;
} Registration;

/* As Registrar._set_bounds. */
static void set_bounds(Registration *self)
{
    const RegistrationSettings *s = self->settings;
    const RegistrationInputs *inputs = self->inputs;
    double foremost = inputs->joints[2], reach = s->spreads * inputs->spread;
    for (size_t i = 1; i < inputs->joint_count; i++)
        foremost = inputs->joints[3 * i + 2] < foremost ? inputs->joints[3 * i + 2] : foremost;
    for (size_t i = 0; i < inputs->vertex_count; i++)
        foremost = inputs->vertices[3 * i + 2] < foremost ? inputs->vertices[3 * i + 2] : foremost;
    double nearest = s->least_distance - foremost * (inputs->mean + reach);
    nearest = nearest > inputs->depths[0] ? nearest : inputs->depths[0];
    self->depths[0] = nearest;
    self->depths[1] = inputs->depths[1] > nearest + s->least_distance ? inputs->depths[1] : nearest + s->least_distance;
    self->scales[0] = inputs->mean - reach;
    self->scales[1] = inputs->mean + reach;
}

static void take_joints(Registration *self, const uint8_t *used)
{
    const RegistrationInputs *inputs = self->inputs;
    JointTerm *term = &self->joints;
    int n = 0;
    for (size_t i = 0; i < inputs->joint_count; i++) {
        if (!used[i])
            continue;
        for (int k = 0; k < 3; k++)
            term->points[k][n] = inputs->joints[3 * i + (size_t)k];
        for (int k = 0; k < 2; k++)
            term->seen[k][n] = inputs->keypoints[2 * i + (size_t)k] - inputs->centre[k];
        term->scores[n++] = inputs->scores[i] < 1.0 ? inputs->scores[i] : 1.0;
    }
    term->settings = self->settings;
    term->count = n;
    term->levered = 0;
    term->focal[0] = inputs->focal[0];
    term->focal[1] = inputs->focal[1];
}

/* As problem.starting_point, clipped. */
static int start(const Registration *self, double x[4])
{
    const JointTerm *term = &self->joints;
    Quadratic sums;
    double t[3];
    memset(&sums, 0, sizeof sums);
    for (int i = 0; i < term->count; i++) {
        for (int k = 0; k < 2; k++) {
            double across = term->focal[k], along = -term->seen[k][i];
            double size = across * term->points[k][i] + along * term->points[2][i];
            sums.P[k][k] += term->scores[i] * across * across;
            sums.P[2][k] += term->scores[i] * across * along;
            sums.P[2][2] += term->scores[i] * along * along;
            sums.g[k] += term->scores[i] * across * size;
            sums.g[2] += term->scores[i] * along * size;
        }
    }
    sums.P[2][2] *= 1.0 + self->settings->lift;
    if (!registration_solve(&sums, 0.0, t))
        return 0;
    x[3] = self->inputs->mean;
    for (int k = 0; k < 3; k++)
        x[k] = -x[3] * t[k];
    x[2] = x[2] > self->depths[0] ? x[2] : self->depths[0];
    x[2] = x[2] < self->depths[1] ? x[2] : self->depths[1];
    return isfinite(x[0]) && isfinite(x[1]) && isfinite(x[2]);
}

/* Hand in pixels, and with it what both terms expect; returns whether there is a 1D term, or -1 for "not mine". */
static int set_terms(Registration *self, double depth)
{
    const RegistrationSettings *s = self->settings;
    const RegistrationInputs *inputs = self->inputs;
    ExtentTerm *extents = &self->extents;
    double hand_px = 0.5 * (inputs->focal[0] + inputs->focal[1]) * self->span * inputs->mean / depth;
    self->hand_px = hand_px = hand_px > s->least_hand_px ? hand_px : s->least_hand_px;
    self->joints.least = extents->least = s->least_level * hand_px;
    self->joints.expected = extents->expected = s->expected_level * hand_px;
    if ((inputs->contour_single == NULL && inputs->contour_double == NULL) || inputs->contour_count < 3 ||
        inputs->vertex_count < 3)
        return 0;
    extents->settings = s;
    extents->inputs = inputs;
    registration_contour_extents(inputs, s->cut_tolerance, s->directions, extents->seen, extents->usable);
    int usable = 0;
    for (int k = 0; k < REGISTRATION_DIRECTIONS; k++)
        usable += extents->usable[k];
    if (!(usable >= s->least_extents))
        return 0;
    double jitter = registration_roughness(inputs, s->samples, s->rayleigh_median);
    extents->dilation = hypot(s->dilation * hand_px, s->jitter_dilation * jitter);
    return jitter >= 0.0 ? 1 : -1;
}

/* The minimum y at the depth y[2], and at the scale y[3] if that is held; the prior of the scale counts in both. */
static int solve_at_depth(const Registration *self, const Quadratic *quadratic, const double x[4], int held, double y[4])
{
    /* u = A v + c of registration_offset in the unknowns v = (t_x, t_y, s): A has units in its first two columns, and in its
     * last one, of the scale, this. */
    const double scale[3] = {-x[0] / x[3], -x[1] / x[3], -x[2] / x[3]};
    const double c[3] = {held ? scale[0] * y[3] : 0.0, held ? scale[1] * y[3] : 0.0, y[2] + (held ? scale[2] * y[3] : 0.0)};
    const double information = 1.0 / (self->inputs->spread * self->inputs->spread);
    double H[3][3], Hs[3], rest[3], v[3];
    Quadratic normal;
    for (int k = 0; k < 3; k++) {
        for (int m = 0; m < 3; m++)
            H[k][m] = quadratic->P[k][m] + (k == m ? self->settings->little : 0.0);
        Hs[k] = H[k][0] * scale[0] + H[k][1] * scale[1] + H[k][2] * scale[2];
        rest[k] = -(H[k][0] * c[0] + H[k][1] * c[1] + H[k][2] * c[2] + quadratic->g[k]);
    }
    for (int k = 0; k < 2; k++) {
        normal.P[k][0] = H[k][0];
        normal.P[k][1] = H[k][1];
        normal.P[2][k] = normal.P[k][2] = held ? 0.0 : Hs[k];
        normal.g[k] = rest[k];
    }
    const double sHs = scale[0] * Hs[0] + scale[1] * Hs[1] + scale[2] * Hs[2];
    if (!(information > ROUNDING * sHs))
        return 0;
    normal.P[2][2] = held ? 1.0 : sHs + information;
    normal.g[2] = held ? y[3] : scale[0] * rest[0] + scale[1] * rest[1] + scale[2] * rest[2] + information * self->inputs->mean;
    if (!registration_solve(&normal, 0.0, v))
        return 0;
    y[0] = v[0];
    y[1] = v[1];
    y[3] = v[2];
    return isfinite(y[0]) && isfinite(y[1]) && isfinite(y[3]);
}

/* As Registrar._solve. Without bounds the scale is the prior's mean, which lies within its own; so where the minimum without
 * bounds leaves those of the depth, the one within them lies on the bound that it leaves by. */
static int solve(const Registration *self, const Quadratic *quadratic, const double x[4], double y[4])
{
    double step[3], factor = self->inputs->mean / x[3];
    if (!registration_solve(quadratic, self->settings->little, step))
        return 0;
    for (int k = 0; k < 3; k++)
        y[k] = x[k] * factor - step[k];
    y[3] = self->inputs->mean;
    if (self->depths[0] <= y[2] && y[2] <= self->depths[1])
        return 1;
    y[2] = y[2] < self->depths[0] ? self->depths[0] : self->depths[1];
    if (!solve_at_depth(self, quadratic, x, 0, y))
        return 0;
    if (self->scales[0] <= y[3] && y[3] <= self->scales[1])
        return 1;
    y[3] = y[3] < self->scales[0] ? self->scales[0] : self->scales[1];
    return solve_at_depth(self, quadratic, x, 1, y);
}

/* As Registrar._settle for the 2D term. */
static int settle(Registration *self, double x[4], Quadratic *quadratic)
{
    double slope[3] = {0.0, 0.0, 0.0}, rounds = self->settings->rounds_2d;
    for (int turn = 0; turn < rounds; turn++) {
        double y[4], step[3], moved = 0.0;
        registration_linearise_joints(&self->joints, x, quadratic);
        if (!solve(self, quadratic, x, y))
            return 0;
        registration_offset(y, x, step);
        for (int k = 0; k < 3; k++) {
            slope[k] = quadratic->P[k][0] * step[0] + quadratic->P[k][1] * step[1] + quadratic->P[k][2] * step[2];
            moved += step[k] * slope[k];
        }
        memcpy(x, y, sizeof y);
        if (moved < self->settings->settled)
            break;
    }
    for (int k = 0; k < 3; k++)
        quadratic->g[k] += slope[k];
    return 1;
}

static void add(const Quadratic *a, const Quadratic *b, Quadratic *total)
{
    for (int k = 0; k < 3; k++) {
        total->g[k] = a->g[k] + b->g[k];
        for (int m = 0; m < 3; m++)
            total->P[k][m] = a->P[k][m] + b->P[k][m];
    }
}

/* As Registrar._with_extents and blend.information_share; `quadratic` becomes that of both terms. */
static int with_extents(Registration *self, double x[4], Quadratic *quadratic, RegistrationResult *result)
{
    const RegistrationSettings *s = self->settings;
    Quadratic joints = *quadratic, extents;
    double alone[4], last[4], x_1d[4], factor[2][3][3];
    memcpy(alone, x, sizeof alone);
    memcpy(last, x, sizeof last);
    if (!registration_linearise_extents(&self->extents, x, &extents))
        return 0;
    for (int turn = 0; turn < s->rounds_both; turn++) {
        if (turn) {
            registration_reweight_joints(&self->joints, x, &joints);
            if (!registration_reweight_extents(&self->extents, x, &extents))
                return 0;
        }
        add(&joints, &extents, quadratic);
        memcpy(last, x, sizeof last);
        if (!solve(self, quadratic, last, x))
            return 0;
    }
    if (!solve(self, &extents, last, x_1d) || !registration_cholesky(&joints, s->floor, factor[0]) ||
        !registration_cholesky(&extents, s->floor, factor[1]))
        return 0;
    double gap[3] = {x_1d[0] - alone[0], x_1d[1] - alone[1], x_1d[2] - alone[2]};
    result->gap = sqrt(gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2]);
    double known_2d = factor[0][2][2] * factor[0][2][2], known_1d = factor[1][2][2] * factor[1][2][2];
    result->weight_1d = known_1d / (known_2d + known_1d);
    return isfinite(result->gap) && isfinite(result->weight_1d);
}

/* As JointTerm.rms and ExtentTerm.rms. */
static double rms(const double *weights, const double *squares, const double *scores, int count)
{
    double sum = 0.0, total = 0.0;
    for (int i = 0; i < count; i++) {
        sum += weights[i] * squares[i];
        total += scores == NULL ? weights[i] : weights[i] * scores[i];
    }
    return sqrt(sum / total);
}

/* As Registrar._sigma. */
static int set_sigma(const Registration *self, const Quadratic *quadratic, const double x[4], double level,
                     double sigma[3])
{
    const RegistrationSettings *s = self->settings;
    double diagonal[3], misfit = level / self->hand_px;
    double common = hypot(self->inputs->spread / x[3], s->mesh_error * misfit);
    double shift = s->mesh_shift * misfit * self->span;
    if (!registration_inverse_diagonal(quadratic, s->little, diagonal))
        return 0;
    for (int k = 0; k < 3; k++)
        sigma[k] = sqrt(diagonal[k] + x[k] * common * (x[k] * common) + shift * shift);
    return 1;
}

static int on_edge(double value, const double bounds[2], double edge)
{
    return !(bounds[0] + edge < value && value < bounds[1] - edge);
}

int core_register(const RegistrationSettings *settings, const RegistrationInputs *inputs, RegistrationResult *result,
                  uint8_t *inliers)
{
    Registration self;
    Quadratic quadratic;
    double x[4];
    self.settings = settings;
    self.inputs = inputs;
    if (!(settings->rounds_2d >= 1.0 && settings->rounds_2d <= MOST_ROUNDS && settings->rounds_both >= 1.0 &&
          settings->rounds_both <= MOST_ROUNDS) || !registration_check(settings, inputs, inliers, &self.span))
        return 0;
    set_bounds(&self);
    take_joints(&self, inliers);
    if (!start(&self, x))
        return 0;
    int both = set_terms(&self, x[2]);
    if (both < 0 || !settle(&self, x, &quadratic))
        return 0;
    result->gap = result->residual_1d = NAN;
    result->weight_1d = 0.0;
    double level = self.joints.sigma;
    if (both) {
        if (!with_extents(&self, x, &quadratic, result))
            return 0;
        level = sqrt(self.joints.sigma * self.extents.sigma);
        result->residual_1d = rms(self.extents.weights, self.extents.squares, NULL, REGISTRATION_DIRECTIONS);
    }
    if (!set_sigma(&self, &quadratic, x, level, result->sigma))
        return 0;
    double sum = 0.0;
    for (int k = 0; k < 3; k++) {
        result->translation[k] = x[k];
        sum += x[k] * x[k] + result->sigma[k] * result->sigma[k];
    }
    result->scale = x[3];
    result->residual_2d = rms(self.joints.weights, self.joints.squares, self.joints.scores, self.joints.count);
    result->bounds_active = on_edge(x[2], self.depths, settings->edge) || on_edge(x[3], self.scales, settings->edge);
    for (size_t i = 0, n = 0; i < inputs->joint_count; i++)
        inliers[i] = inliers[i] && self.joints.weights[n++] >= 0.5;
    return isfinite(sum) && isfinite(result->residual_2d) && !(both && !isfinite(result->residual_1d));
}
