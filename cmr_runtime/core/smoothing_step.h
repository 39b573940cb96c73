/* SPDX-License-Identifier: Apache-2.0
 *
 * A step of `AlphaBeta` for one type of number: smoothing.c includes this twice, with REAL, ROOT and STEP defined.
 */

/* Filter `size` points, at most BLOCK, of `axes` coordinates. A coordinate of `seen` begins `seen_stride` after the one
 * before it; those of values, velocities and lags, which follow each other, `stride`. */
static void STEP(const Filter *filter, const REAL *seen, ptrdiff_t seen_stride, int axes, int size, REAL *value,
                 ptrdiff_t stride)
{
    const double turn = 2.0 * PI * filter->dt;
    double mean = turn * filter->lag_cutoff;
    mean /= 1.0 + mean;
    const REAL dt = (REAL)filter->dt, pull = (REAL)filter->pull;
    const REAL kept = (REAL)(1.0 - mean), taken = (REAL)(mean / filter->dt);
    const REAL fading = (REAL)exp((filter->pull - 1.0) * filter->dt / FADING);
    const REAL between = (REAL)(filter->dt < SHORT ? SHORT : filter->dt);
    const REAL rest = (REAL)(turn * filter->cutoff), gain = (REAL)(turn * filter->gain * filter->unit);
    REAL *velocity = value + axes * stride, *lag = velocity + axes * stride;
    REAL alpha[BLOCK] = {0}, beta[BLOCK];
    for (int d = 0; d < axes; d++)
        for (int k = 0; k < size; k++) {
            const ptrdiff_t at = d * stride + k;
            velocity[at] *= fading;
            REAL off = seen[d * seen_stride + k] - (value[at] + dt * velocity[at]);
            REAL late = kept * lag[at] + taken * off;
            lag[at] = late;
            alpha[k] += late * late;
        }
    for (int k = 0; k < size; k++) {
        REAL turning = rest + gain * ROOT(alpha[k]);
        alpha[k] = turning * pull / ((REAL)1 + turning);
        beta[k] = alpha[k] * alpha[k] / (between * ((REAL)2 - alpha[k]));
    }
    for (int d = 0; d < axes; d++)
        for (int k = 0; k < size; k++) {
            const ptrdiff_t at = d * stride + k;
            REAL predicted = value[at] + dt * velocity[at];
            REAL off = seen[d * seen_stride + k] - predicted;
            value[at] = predicted + alpha[k] * off;
            velocity[at] += beta[k] * off;
        }
}
