/* SPDX-License-Identifier: Apache-2.0
 *
 * The 2D and the 1D term (registration/terms.py, with problem.py and robust.py): rows, weights, noise, quadratic.
 */
#include "registration.h"

#include <math.h>
#include <string.h>

/* See robust.robust_weights. */
static void robust_weights(const double *squares, int count, double level, double limit, double *weights)
{
    double farthest = limit * level, factor = 1.0 / (farthest * farthest);
    for (int i = 0; i < count; i++) {
        double ratio = squares[i] * factor;
        weights[i] = 1.0 / (1.0 + ratio * ratio);
    }
}

/* See robust.noise_level. */
static double noise_level(double weighted_squares, double degrees, double expected, double trust)
{
    double degrees_used = degrees > 0.0 ? degrees : 0.0;
    return sqrt((trust * expected * expected + weighted_squares) / (trust + degrees_used));
}

/* As JointTerm._levers. */
static void set_levers(JointTerm *term)
{
    const RegistrationSettings *s = term->settings;
    double evidence[REGISTRATION_LEVERS], distances[REGISTRATION_MOST_JOINTS];
    double total = 0.0, distance = 0.0, most = -INFINITY, mean = 0.0;
    for (int i = 0; i < term->count; i++) {
        double x = term->points[0][i], y = term->points[1][i], z = term->points[2][i];
        distances[i] = x * x + y * y + z * z;
        distance += distances[i];
        total += term->weights[i];
    }
    double factor = term->count / (distance > s->least_square ? distance : s->least_square);
    for (int k = 0; k < REGISTRATION_LEVERS; k++) {
        double misfit = 2.0 * s->trust * term->expected * term->expected, logarithms = 0.0;
        for (int i = 0; i < term->count; i++) {
            double variance = 1.0 + s->levers[k] * (distances[i] * factor);
            misfit += term->weights[i] * term->squares[i] / variance;
            logarithms += log(variance) * term->weights[i];
        }
        evidence[k] = (0.5 * s->unknowns - total) * log(misfit) - logarithms;
        most = evidence[k] > most ? evidence[k] : most;
    }
    memset(term->precisions, 0, sizeof term->precisions);
    for (int k = 0; k < REGISTRATION_LEVERS; k++) {
        double share = exp(evidence[k] - most);
        for (int i = 0; i < term->count; i++)
            term->precisions[i] += share / (1.0 + s->levers[k] * (distances[i] * factor));
    }
    for (int i = 0; i < term->count; i++)
        mean += term->weights[i] * term->precisions[i];
    for (int i = 0; i < term->count; i++)
        term->precisions[i] *= total / mean;
}

/* As JointTerm._weigh. */
static void weigh_joints(JointTerm *term, double residuals[2][REGISTRATION_MOST_JOINTS], Quadratic *quadratic)
{
    const RegistrationSettings *s = term->settings;
    double values[REGISTRATION_MOST_JOINTS];
    for (int i = 0; i < term->count; i++) {
        double x = residuals[0][i], y = residuals[1][i];
        values[i] = term->squares[i] = (x * x + y * y) * term->scores[i];
    }
    double level = sqrt(registration_median(values, term->count)) / s->rayleigh_median;
    level = level > term->least ? level : term->least;
    robust_weights(term->squares, term->count, level, s->inlier_limit, term->weights);
    if (!term->levered)
        set_levers(term);
    term->levered = 1;

    double total = 0.0, misfit = 0.0;
    for (int i = 0; i < term->count; i++) {
        values[i] = term->weights[i] * term->precisions[i];
        total += values[i];
        misfit += values[i] * term->squares[i];
    }
    term->sigma = noise_level(misfit, 2.0 * total - s->unknowns, term->expected, s->trust);
    double information = 1.0 / (term->sigma * term->sigma);
    memset(quadratic, 0, sizeof *quadratic);
    for (int i = 0; i < term->count; i++) {
        double weight = values[i] * term->scores[i] * information;
        for (int k = 0; k < 2; k++) {
            double across = weight * term->across[k][i], along = weight * term->along[k][i];
            quadratic->P[k][k] += across * term->across[k][i];
            quadratic->P[2][k] += across * term->along[k][i];
            quadratic->P[2][2] += along * term->along[k][i];
            quadratic->g[k] += across * residuals[k][i];
            quadratic->g[2] += along * residuals[k][i];
        }
    }
    quadratic->P[0][2] = quadratic->P[2][0];
    quadratic->P[1][2] = quadratic->P[2][1];
}

void registration_linearise_joints(JointTerm *term, const double x[4], Quadratic *quadratic)
{
    memcpy(term->at, x, sizeof term->at);
    for (int i = 0; i < term->count; i++) {
        double inverse = 1.0 / (x[3] * term->points[2][i] + x[2]);
        for (int k = 0; k < 2; k++) {
            double per_metre = term->focal[k] * inverse, pixel = per_metre * (x[3] * term->points[k][i] + x[k]);
            term->across[k][i] = per_metre;
            term->along[k][i] = -pixel * inverse;
            term->residuals[k][i] = pixel - term->seen[k][i];
        }
    }
    weigh_joints(term, term->residuals, quadratic);
}

void registration_reweight_joints(JointTerm *term, const double x[4], Quadratic *quadratic)
{
    double u[3], residuals[2][REGISTRATION_MOST_JOINTS];
    registration_offset(x, term->at, u);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < term->count; i++)
            residuals[k][i] = term->residuals[k][i] + term->across[k][i] * u[k] + term->along[k][i] * u[2];
    }
    weigh_joints(term, residuals, quadratic);
}

/* Weighted sums over the extents. */
typedef struct {
    Quadratic quadratic;
    double common[3], weight, residual, square;
} Sums;

static void sum_extents(const ExtentTerm *term, const double *residuals, Sums *sums)
{
    memset(sums, 0, sizeof *sums);
    for (int i = 0; i < REGISTRATION_DIRECTIONS; i++) {
        double weight = term->weights[i];
        const double *row = term->rows[i];
        sums->weight += weight;
        sums->residual += weight * residuals[i];
        sums->square += weight * term->squares[i];
        for (int k = 0; k < 3; k++) {
            double weighted = weight * row[k];
            sums->common[k] += weighted;
            sums->quadratic.g[k] += weighted * residuals[i];
            for (int m = 0; m <= k; m++)
                sums->quadratic.P[k][m] += weighted * row[m];
        }
    }
    sums->quadratic.P[0][1] = sums->quadratic.P[1][0];
    sums->quadratic.P[0][2] = sums->quadratic.P[2][0];
    sums->quadratic.P[1][2] = sums->quadratic.P[2][1];
}

/* As ExtentTerm._weigh. */
static int weigh_extents(ExtentTerm *term, const double residuals[REGISTRATION_DIRECTIONS], Quadratic *quadratic)
{
    const RegistrationSettings *s = term->settings;
    double values[REGISTRATION_DIRECTIONS], shift[3];
    int count = 0;
    Sums sums;
    for (int i = 0; i < REGISTRATION_DIRECTIONS; i++) {
        term->squares[i] = residuals[i] * residuals[i];
        if (term->usable[i])
            values[count++] = term->squares[i];
    }
    if (!count)
        return 0;
    double level = sqrt(registration_median(values, count)) / s->normal_median;
    level = level > term->least ? level : term->least;
    robust_weights(term->squares, REGISTRATION_DIRECTIONS, level, s->extent_limit, term->weights);
    for (int i = 0; i < REGISTRATION_DIRECTIONS; i++)
        term->weights[i] = term->usable[i] ? term->weights[i] : 0.0;

    sum_extents(term, residuals, &sums);
    if (!registration_solve(&sums.quadratic, s->little_shift, shift))
        return 0;
    const double *g = sums.quadratic.g;
    double unexplained = sums.square - (g[0] * shift[0] + g[1] * shift[1] + g[2] * shift[2]);
    unexplained = unexplained > 0.0 ? unexplained : 0.0;
    term->sigma = noise_level(unexplained, sums.weight - s->unknowns, term->expected, s->trust);
    double variance = term->sigma * term->sigma;

    double each = s->extents_each * variance;
    double dilation = term->dilation * term->dilation + s->level_dilation * s->level_dilation * variance;
    double known = each / dilation + sums.weight;
    for (int k = 0; k < 3; k++) {
        double share = sums.common[k] / known;
        quadratic->g[k] = (g[k] - sums.residual * share) / each;
        for (int m = 0; m < 3; m++)
            quadratic->P[k][m] = (sums.quadratic.P[k][m] - share * sums.common[m]) / each;
    }
    return 1;
}

int registration_linearise_extents(ExtentTerm *term, const double x[4], Quadratic *quadratic)
{
    const RegistrationInputs *inputs = term->inputs;
    const double(*directions)[2] = term->settings->directions;
    size_t chosen[REGISTRATION_DIRECTIONS];
    registration_extremal_vertices(inputs, directions, x, chosen);
    memcpy(term->at, x, sizeof term->at);
    for (int i = 0; i < REGISTRATION_DIRECTIONS; i++) {
        const double *point = inputs->vertices + 3 * chosen[i];
        double inverse = 1.0 / (x[3] * point[2] + x[2]), value = 0.0;
        for (int k = 0; k < 2; k++) {
            double per_metre = inputs->focal[k] * inverse;
            value += directions[i][k] * (per_metre * (x[3] * point[k] + x[k]));
            term->rows[i][k] = directions[i][k] * per_metre;
        }
        term->rows[i][2] = -value * inverse;
        term->residuals[i] = value - term->seen[i];
    }
    return weigh_extents(term, term->residuals, quadratic);
}

int registration_reweight_extents(ExtentTerm *term, const double x[4], Quadratic *quadratic)
{
    double u[3], residuals[REGISTRATION_DIRECTIONS];
    registration_offset(x, term->at, u);
    for (int i = 0; i < REGISTRATION_DIRECTIONS; i++) {
        const double *row = term->rows[i];
        residuals[i] = term->residuals[i] + row[0] * u[0] + row[1] * u[1] + row[2] * u[2];
    }
    return weigh_extents(term, residuals, quadratic);
}
