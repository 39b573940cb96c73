/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the registration share. The Python modules of the same ideas (registration/terms.py, extents.py,
 * problem.py, linalg.py) hold the mathematics in words.
 */
#ifndef CMR_REGISTRATION_H
#define CMR_REGISTRATION_H

#include "core.h"

#define REGISTRATION_MOST_JOINTS 64
#define REGISTRATION_DIRECTIONS 24
#define REGISTRATION_AXES 12

/* 1/2 u^T P u + g^T u around a placement, as problem.Quadratic. */
typedef struct {
    double P[3][3], g[3];
} Quadratic;

/* As terms.JointTerm: the used joints, one array for each quantity. */
typedef struct {
    const RegistrationSettings *settings;
    int count, levered;
    double focal[2], least, expected, sigma;
    double at[4];
    double points[3][REGISTRATION_MOST_JOINTS], seen[2][REGISTRATION_MOST_JOINTS], scores[REGISTRATION_MOST_JOINTS];
    /* The coefficients of joint_rows that are not zero: of t_x or t_y, and of t_z. */
    double across[2][REGISTRATION_MOST_JOINTS], along[2][REGISTRATION_MOST_JOINTS];
    double residuals[2][REGISTRATION_MOST_JOINTS];
    double weights[REGISTRATION_MOST_JOINTS], squares[REGISTRATION_MOST_JOINTS], precisions[REGISTRATION_MOST_JOINTS];
} JointTerm;

/* As terms.ExtentTerm. */
typedef struct {
    const RegistrationSettings *settings;
    const RegistrationInputs *inputs;
    int usable_count;
    uint8_t usable[REGISTRATION_DIRECTIONS];
    double least, expected, dilation, sigma;
    double at[4];
    double seen[REGISTRATION_DIRECTIONS], rows[REGISTRATION_DIRECTIONS][3], residuals[REGISTRATION_DIRECTIONS];
    double weights[REGISTRATION_DIRECTIONS], squares[REGISTRATION_DIRECTIONS];
} ExtentTerm;

/* registration_checks.c: returns whether the inputs are valid; sets which joints (J,) are used, and the longest side of
 * the box around all of them. */
int registration_check(const RegistrationSettings *settings, const RegistrationInputs *inputs, uint8_t *used,
                       double *span);

/* registration_small.c: systems of three unknowns, with a number added to P's diagonal, and medians. Those that return
 * int return 0 where the matrix is not positive definite, or not a number. */
int registration_cholesky(const Quadratic *quadratic, double added, double L[3][3]);
int registration_solve(const Quadratic *quadratic, double added, double x[3]);
int registration_inverse_diagonal(const Quadratic *quadratic, double added, double diagonal[3]);
void registration_offset(const double x[4], const double start[4], double u[3]);
double registration_median(double *values, int count);

/* registration_extents.c. Contour and vertices have at least one point. */
void registration_contour_extents(const RegistrationInputs *inputs, double cut_tolerance, const double (*directions)[2],
                                  double values[REGISTRATION_DIRECTIONS], uint8_t usable[REGISTRATION_DIRECTIONS]);
void registration_extremal_vertices(const RegistrationInputs *inputs, const double (*directions)[2], const double x[4],
                                    size_t chosen[REGISTRATION_DIRECTIONS]);
/* Returns a negative number where the contour has no three points, or more samples of it are asked for than fit. */
double registration_roughness(const RegistrationInputs *inputs, double samples, double rayleigh_median);

/* registration_terms.c. Those that return int return 0 where a matrix is not positive definite. */
void registration_linearise_joints(JointTerm *term, const double x[4], Quadratic *quadratic);
void registration_reweight_joints(JointTerm *term, const double x[4], Quadratic *quadratic);
int registration_linearise_extents(ExtentTerm *term, const double x[4], Quadratic *quadratic);
int registration_reweight_extents(ExtentTerm *term, const double x[4], Quadratic *quadratic);

#endif
