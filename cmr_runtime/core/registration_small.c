/* SPDX-License-Identifier: Apache-2.0
 *
 * Systems of three unknowns (registration/linalg.py, problem.offset) and medians (registration/robust.py).
 */
#include "registration.h"

#include <math.h>

/* L, lower triangular, with P + added I = L L^T. */
int registration_cholesky(const Quadratic *quadratic, double added, double L[3][3])
{
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column <= row; column++) {
            double rest = quadratic->P[row][column] + (row == column ? added : 0.0);
            for (int k = 0; k < column; k++)
                rest -= L[row][k] * L[column][k];
            if (row != column) {
                L[row][column] = rest / L[column][column];
                continue;
            }
            if (!(rest > 0.0)) /* not a number, too */
                return 0;
            L[row][row] = sqrt(rest);
        }
    }
    return 1;
}

/* x with (P + added I) x = g. */
int registration_solve(const Quadratic *quadratic, double added, double x[3])
{
    double L[3][3];
    const double *b = quadratic->g;
    if (!registration_cholesky(quadratic, added, L))
        return 0;
    double y0 = b[0] / L[0][0];
    double y1 = (b[1] - L[1][0] * y0) / L[1][1];
    double y2 = (b[2] - L[2][0] * y0 - L[2][1] * y1) / L[2][2];
    x[2] = y2 / L[2][2];
    x[1] = (y1 - L[2][1] * x[2]) / L[1][1];
    x[0] = (y0 - L[1][0] * x[1] - L[2][0] * x[2]) / L[0][0];
    return 1;
}

/* Diagonal of the inverse of P + added I: squares of the columns of L's inverse. */
int registration_inverse_diagonal(const Quadratic *quadratic, double added, double diagonal[3])
{
    double L[3][3];
    if (!registration_cholesky(quadratic, added, L))
        return 0;
    double a = 1.0 / L[0][0], b = 1.0 / L[1][1], c = 1.0 / L[2][2];
    double ba = -L[1][0] * a * b, cb = -L[2][1] * b * c;
    double ca = -(L[2][0] * a + L[2][1] * ba) * c;
    diagonal[0] = a * a + ba * ba + ca * ca;
    diagonal[1] = b * b + cb * cb;
    diagonal[2] = c * c;
    return 1;
}

void registration_offset(const double x[4], const double start[4], double u[3])
{
    double factor = x[3] / start[3];
    for (int k = 0; k < 3; k++)
        u[k] = x[k] - start[k] * factor;
}

/* Upper median; reorders the values. Hoare's selection: every turn moves a boundary, whatever the values are, and no
 * index leaves them, as each half holds a value that stops the search. */
double registration_median(double *values, int count)
{
    int wanted = count / 2, first = 0, last = count - 1;
    while (first < last) {
        double pivot = values[wanted];
        int low = first, high = last;
        do {
            while (values[low] < pivot)
                low++;
            while (pivot < values[high])
                high--;
            if (low <= high) {
                double held = values[low];
                values[low++] = values[high];
                values[high--] = held;
            }
        } while (low <= high);
        if (high < wanted)
            first = low;
        if (wanted < low)
            last = high;
    }
    return values[wanted];
}
