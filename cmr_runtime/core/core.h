/* SPDX-License-Identifier: Apache-2.0
 *
 * The compiled core: what NumPy needs hundreds of small calls for, in plain C.
 *
 * Each file of mathematics (heatmaps.c, ...) knows nothing of Python, so that a program without Python can use it.
 * Arrays are C-contiguous; lengths are metres and pixels as in the Python modules of the same names, which say what
 * is computed and why, and which serve where this core was not built.
 */
#ifndef CMR_CORE_H
#define CMR_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Registration: registration*.c, the package's registration/. */

#define REGISTRATION_LEVERS 5

/* The constants of the Python modules, in the order of `settings` in registration/in_core.py; they stand there only. */
typedef struct {
    double most_size, most_pixel, most_score, least_score, least_joints, least_span;
    double least_distance, spreads, least_extents, little, mesh_error, mesh_shift, edge, least_hand_px;
    double rounds_2d, rounds_both, settled;
    double lift, cut_tolerance, samples, inlier_limit, rayleigh_median, floor;
    double least_level, expected_level, trust, least_square, extent_limit, extents_each;
    double dilation, level_dilation, jitter_dilation, normal_median, unknowns, little_shift;
    double levers[REGISTRATION_LEVERS];
    double directions[24][2];
} RegistrationSettings;

typedef struct {
    const double *vertices; /* (V, 3) root-relative metres */
    size_t vertex_count;
    const double *joints;    /* (J, 3) root-relative metres */
    const double *keypoints; /* (J, 2) pixels */
    const double *scores;    /* (J,) */
    size_t joint_count;
    const float *contour_single; /* (N, 2) pixels; this or the next, or neither */
    const double *contour_double;
    size_t contour_count;
    const uint8_t *cut;         /* (N,) marks of the contour's points on a border, or NULL */
    double focal[2], centre[2]; /* pixels */
    double mean, spread;        /* scale prior */
    double depths[2];           /* metres, smallest and largest */
} RegistrationInputs;

/* As registration.Registration. */
typedef struct {
    double translation[3], sigma[3], scale, residual_2d, residual_1d, gap, weight_1d;
    int bounds_active;
} RegistrationResult;

/* Returns 1, or 0 for a case that is left to NumPy: then nothing in `result` or `inliers` (J,) counts. */
int core_register(const RegistrationSettings *settings, const RegistrationInputs *inputs, RegistrationResult *result,
                  uint8_t *inliers);

/* End of the registration. */

/* ---- Geometry: camera.py, roi.py, pipeline.py, motion.py ---- */

/* Intrinsics, pixels. */
typedef struct {
    double fx, fy, cx, cy;
} CoreCamera;

/* A square of the image that the network saw: its centre, pixels; its turn, radians; whether it was mirrored. */
typedef struct {
    double cx, cy, angle;
    int mirrored;
} CoreRegion;

/* The entries of a matrix, float32, that are not 0: those of row j are starts[j] to starts[j + 1] - 1. */
typedef struct CoreEntries {
    ptrdiff_t rows, count;
    const int *starts, *columns;
    const float *weights;
} CoreEntries;

/* Whether there are such entries, of a matrix with so many columns. The functions below rely on it. */
int core_entries_fit(const CoreEntries *entries, ptrdiff_t columns);

/* Points (count, 2), single or double, times a matrix (2, 2) and moved: (x, y) becomes m (x, y) + shift. Of one kind, they
 * may be mapped in place. */
void core_map_single(const float *points, ptrdiff_t count, const double matrix[4], const double shift[2], double *mapped);
void core_map_double(const double *points, ptrdiff_t count, const double matrix[4], const double shift[2], double *mapped);
void core_map_to_single(const float *points, ptrdiff_t count, const double matrix[4], const double shift[2], float *mapped);

/* Pixels (count, 2) of points (count, 3); NaN of those that are not in front of the camera. */
void core_project(const CoreCamera *camera, const double *points, ptrdiff_t count, double *pixels);

/* The same of points that are moved; returns the largest distance of a pixel from 0 along an axis, NaN if there is one. */
double core_project_placed(const CoreCamera *camera, const float *points, ptrdiff_t count, const double translation[3],
                           double *pixels);

/* Larger side of the box around points (count, 2), of which there is one at least; NaN if one of them is. */
double core_extent(const double *points, ptrdiff_t count);

/* A square around points (count, 2), of which there is one at least: its centre, its side, a multiple of the larger side of
 * their box (of a pixel at least), and its turn: the angle, along which the box is taken, or upwards from the wrist to a
 * knuckle, both numbers of points, where these are farther apart than a part of the box that is not turned (a wrist of -1:
 * by the angle). NaN if a point is. */
void core_square(const double *points, ptrdiff_t count, double scale, double angle, ptrdiff_t wrist, ptrdiff_t knuckle,
                 double part, double square[4]);

double core_mean_distance(const double *points, const double *others, ptrdiff_t count);

/* From the crop camera's frame to the camera's, (3, 3), with the mirroring (`Roi.to_camera`). */
void core_rotation(const CoreCamera *camera, const CoreRegion *region, double rotation[9]);

/* The network's mesh (count, 3), turned, and its joints, both relative to joint `root`. Returns 0 if one is not finite. */
int core_relative_hand(const float *network, ptrdiff_t count, const double rotation[9], const CoreEntries *regressor,
                       ptrdiff_t root, double *vertices, double *joints);

/* scale * points + translation, (count, 3). */
void core_place(const double *points, ptrdiff_t count, double scale, const double translation[3], float *placed);

/* The placed joints' pixels (count, 2), and the mean of these and keypoints (count, 2), weighted by their scores (`_settle` of
 * pipeline.py). */
void core_settle_keypoints(const CoreCamera *camera, const double *joints, ptrdiff_t count, double scale,
                           const double translation[3], const double *keypoints, const double *scores, double weight,
                           double *pixels, float *settled);

/* ---- Smoothing: smoothing.py, rig.py ---- */

/* Most joints of a rig: room on the stack. */
#define CORE_MOST_JOINTS 64

/* `Rig`: bones (B,) lead from joint to joint; joints are `regressor` (J, V) times vertices; `paths` (B, J), `then` and
 * `moves` (J, J) and `follow` (V, J) are those of rig.py. */
typedef struct {
    ptrdiff_t bones, vertices, root;
    const int *starts, *ends;
    CoreEntries regressor, follow;
    const float *paths, *then, *moves;
} CoreRig;

/* Whether all joints and vertices that are pointed to are there. `core_smooth` relies on it. */
int core_rig_fits(const CoreRig *rig);

/* Settings of the filters, hertz and `Smoothing`'s units, and what a frame adds: seconds since the last one, the pull on
 * the depth, the share of the bones' lengths that is learnt. */
typedef struct {
    double direction_cutoff, direction_gain, depth_cutoff, depth_gain, shape_cutoff, shape_gain, lag_cutoff;
    double dt, pull, share;
} CoreSmoothing;

/* What is known of a hand. Each filter has values, velocities and lags, one after the other: direction (3, 3), depth
 * (3, 1), detail (3, 2, J), shape (3, 3, V), or (3, 3, J) without a mesh. `lengths` (B,) is NULL if bones stay as seen. */
typedef struct {
    double *direction, *depth, *detail;
    float *shape, *lengths;
} CoreFollowed;

/* A hand: vertices (V, 3), NULL without a mesh, joints (J, 3), keypoints (J, 2). Metres, pixels. */
typedef struct {
    const float *vertices, *joints, *keypoints;
    double translation[3];
} CoreSeen;

typedef struct {
    float *vertices, *joints, *keypoints;
    double *translation;
} CoreShown;

/* Smooth the hand of the next frame, as `Smoother` does of one that it knows. Returns by what factor it was enlarged; 0
 * if a joint is not in front of the camera: then it is to be shown as it was seen. */
double core_smooth(const CoreRig *rig, const CoreSmoothing *settings, const CoreCamera *camera, const CoreSeen *seen,
                   CoreFollowed *followed, CoreShown *shown);

/* ---- From pixels to cues: heatmaps.py, silhouette.py, roi.py ---- */

/* Points (count, 2) and scores (count,) of maps (count, rows, columns), in pixels of a crop of that side. Returns 0 for
 * what is left to NumPy: a cell that is not finite, no cells, or a peak whose fit has no solution. */
int core_decode_heatmaps(const float *maps, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns, double side,
                         double cell_centre, double *points, double *scores);

/* Room to trace an outline in, of a map (side, side): marks (2 side + 2)^2, rows 6 side, and points, twice 2 `most`. */
typedef struct {
    int8_t *marks;
    float *rows;
    int32_t *points;
    ptrdiff_t most;
} CoreRoom;

/* The outer outline (., 2) of the largest region of a map (side, side) that is at least on a level, traced in a map of twice
 * the size, moved onto the level and multiplied by the scale. Returns how many points it has, `room->most` of them at most; 0 if
 * fewer than `fewest`, or if they enclose less than `least` cells of the larger map; -1 for what is left to OpenCV: a cell
 * that is not finite, or too many points. */
ptrdiff_t core_outline(const float *map, ptrdiff_t side, float level, float scale, ptrdiff_t fewest, double least,
                       const CoreRoom *room, float *outline);

/* Flags (count,) of points (count, 2) that lie within a margin of the border of crop or image; pixels. */
void core_cut(const float *crop_points, const float *image_points, ptrdiff_t count, double side, double width,
              double height, double margin, uint8_t *flags);

/* Averages over 2 x 2 pixels of an image whose rows are `line` bytes long, (height, width, 3). */
void core_halve(const uint8_t *image, ptrdiff_t line, ptrdiff_t height, ptrdiff_t width, uint8_t *out);

/* Sample an image (height, width, 3) into planes (3, size, size): grey level times gain, less bias. `to_image`, (2, 3),
 * takes pixels of the crop to those of the image; outside, it is black. Returns 0 if the crop reaches too far. */
int core_warp(const uint8_t *image, ptrdiff_t height, ptrdiff_t width, const double to_image[6], ptrdiff_t size,
              const float gain[3], const float bias[3], float *out);

#endif
