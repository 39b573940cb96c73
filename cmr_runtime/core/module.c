/* SPDX-License-Identifier: Apache-2.0
 *
 * The extension module `cmr_runtime._core`: a table of functions, and buffers of arrays.
 */
#include "python.h"

#include <string.h>

void *core_buffer(CoreBuffers *held, PyObject *object, const char *format, Py_ssize_t items, Py_ssize_t *found,
                  int writable)
{
    if (held->count == CORE_MOST_BUFFERS) {
        PyErr_SetString(PyExc_RuntimeError, "too many buffers in one call of cmr_runtime._core");
        return NULL;
    }
    Py_buffer *view = &held->views[held->count];
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0)
        return NULL;
    held->count++;
    Py_ssize_t count = view->itemsize ? view->len / view->itemsize : 0;
    if (view->format == NULL || strcmp(view->format, format) != 0 || (items >= 0 && count != items)) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: got %zd items of format %s, needs %zd (-1: any) of %s", count,
                     view->format == NULL ? "B" : view->format, items, format);
        return NULL;
    }
    if (found != NULL)
        *found = count;
    return view->buf;
}

void core_release(CoreBuffers *held)
{
    while (held->count)
        PyBuffer_Release(&held->views[--held->count]);
}

static PyMethodDef functions[] = {
    {"register", core_register_python, METH_VARARGS,
     "register(settings, vertices, joints, keypoints, scores, contour, cut, camera, prior, depths, translation, sigma,\n"
     "inliers) -> (scale, residual_2d, residual_1d, gap, weight_1d, bounds_active), or None where NumPy has to do it.\n\n"
     "settings float64 as of registration/in_core.py; vertices (V, 3), joints (J, 3) metres, keypoints (J, 2) pixels,\n"
     "scores (J,) float64; contour (N, 2) pixels, float32 or float64, or None; cut (N,) bool or None; camera\n"
     "(fx, fy, cx, cy) pixels; prior (mean, spread) of the scale; depths (smallest, largest) metres. Fills translation\n"
     "(3,) and sigma (3,), float64 metres, and inliers (J,) bool."},
    /* geometry_python.c */
    {"project", core_python_project, METH_VARARGS,
     "project(points, fx, fy, cx, cy, pixels): fill pixels (n, 2) with those of points (n, 3) in the camera's frame, all\n"
     "float64; NaN where z is not above 0."},
    {"project_placed", core_python_project_placed, METH_VARARGS,
     "project_placed(points, (x, y, z), (fx, fy, cx, cy), pixels) -> farthest: as project, of points (n, 3), float32, moved by\n"
     "(x, y, z), metres. Returns the largest coordinate of a pixel but for its sign, NaN if there is one."},
    {"map_points", core_python_map_points, METH_VARARGS,
     "map_points(points, (a, b, c, d, x, y), mapped): points (n, 2), float32 or float64, times [[a, b], [c, d]] and moved\n"
     "by (x, y), to mapped (n, 2) float64."},
    {"extent", core_python_extent, METH_VARARGS,
     "extent(points): larger side of the box around points (n, 2) float64; NaN if one is."},
    {"square", core_python_square, METH_VARARGS,
     "square(points, scale, angle, wrist, knuckle, part) -> (cx, cy, size, angle): around points (n, 2) float64, scale times as\n"
     "large as their box, turned by an angle, radians, or so that the knuckle's point lies above the wrist's, where these are\n"
     "farther apart than that part of the box. A wrist of -1: by the angle. NaN if a point is."},
    {"mean_distance", core_python_mean_distance, METH_VARARGS,
     "mean_distance(points, others): of points (n, 2) float64 and others, one by one."},
    {"relative_hand", core_python_relative_hand, METH_VARARGS,
     "relative_hand(network, (cx, cy, angle, mirrored), (fx, fy, cx, cy), (starts, columns, weights), root, vertices,\n"
     "joints): the network's mesh (V, 3) float32, metres, of a region of the image (pixels, radians) and a camera (pixels)\n"
     "to vertices (V, 3) and joints (J, 3) float64 in the camera's frame, relative to joint root. The regressor's entries\n"
     "as of Entries. Returns False if a value is not finite."},
    {"place_hand", core_python_place_hand, METH_VARARGS,
     "place_hand(vertices, joints, scale, translation, (fx, fy, cx, cy), keypoints, scores, weight, placed_vertices,\n"
     "placed_joints, projected, settled) -> extent: vertices (V, 3), joints (J, 3), translation (3,) metres, keypoints (J, 2)\n"
     "pixels, scores (J,), all float64, to placed vertices and joints, metres, and settled keypoints, pixels, all float32, and\n"
     "to the placed joints' pixels (J, 2), float64. Returns the larger side of the box around these, NaN if one is."},
    /* smoothing_python.c */
    {"smooth", core_python_smooth, METH_VARARGS,
     "smooth(counts, whole, real, settings, (fx, fy, cx, cy), translation, seen, followed, lengths, shown) -> factor\n\n"
     "Smooth the hand of the next frame. counts, whole (intc) and real (float32) are Rig.packed; settings ten numbers:\n"
     "cut-off and gain of direction, depth and shape, lag_cutoff, hertz; dt, s; pull; share. translation three numbers,\n"
     "metres. seen: vertices (V, 3), metres, or None, joints (J, 3), keypoints (J, 2), pixels, float32. followed, which\n"
     "goes on in place: (3, ...) values, velocities and lags of direction (3, 3), depth (3, 1), detail (3, 2, J), float64,\n"
     "and shape (3, 3, V), float32. lengths (B,) float32 goes on, or None. shown, which is filled: as seen, and translation\n"
     "(3,) float64. Returns by what factor the hand was enlarged; 0 if a joint would not be in front of the camera."},
    /* cues_python.c */
    {"decode_heatmaps", core_python_decode_heatmaps, METH_VARARGS,
     "decode_heatmaps(maps, count, rows, columns, side, cell_centre, points, scores): peaks of maps (count, rows, columns)\n"
     "float32 to points (count, 2), pixels of a crop of that side, and scores (count,), both float64. Returns False where\n"
     "NumPy has to do it."},
    {"cues", core_python_cues, METH_VARARGS,
     "cues(maps, count, rows, columns, map, cells, side, cell_centre, (a, b, c, d, x, y), (width, height), (level, fewest,\n"
     "share, margin), keypoints, scores, outline, marks) -> n\n\n"
     "What maps say of a hand in an image of width and height, pixels, where pixels of a crop of that side times [[a, b],\n"
     "[c, d]], moved by (x, y), lie. Peaks of maps (count, rows, columns) float32 to keypoints (count, 2) and scores (count,),\n"
     "float64. The outer outline of the largest region of a map (cells, cells) float32 that is on the level, to the first n\n"
     "rows of outline (most, 2) float32, and in marks (most,) bool whether they are within the margin of a border of crop or\n"
     "image; n is 0 if that has fewer points or a smaller share of the map. -1 where NumPy and OpenCV have to do it."},
    /* warp_python.c */
    {"halve", core_python_halve, METH_VARARGS,
     "halve(image, height, width, x, y, out_height, out_width, out): averages over 2 x 2 pixels of an image (height, width,\n"
     "3), from pixel (x, y) on, to out (out_height, out_width, 3), both uint8."},
    {"warp", core_python_warp, METH_VARARGS,
     "warp(image, height, width, to_image, size, gain, bias, out): sample an image (height, width, 3) uint8 into out\n"
     "(3, size, size) float32, whole grey levels times gain (3,) less bias (3,), both float32. to_image: six numbers, the\n"
     "rows of the affine map (2, 3) from pixels of the crop to those of the image. Returns False if it reaches too far."},
    /* plan_python.c */
    {"plan_kernels", core_python_plan_kernels, METH_VARARGS,
     "plan_kernels(bits): names of the kernels of plans that this processor can run with products of 8, 16 or 32 bits, the "
     "quickest first."},
    {"run_plan", core_python_run_plan, METH_VARARGS,
     "run_plan(kernels, threads, layers, numbers, memory, scratch, room, weights, whole, arrays, sizes): run the layers of\n"
     "plan/layout.py, (n, ...) int32 and float32, on memory float32, in which each thread has room values from scratch on\n"
     "for itself, with constants weights float32 and whole int32. arrays: the inputs and outputs, float32, of sizes values\n"
     "each; the outputs are filled."},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of what a function takes or does: a library that was built before is then not taken. */
#define CORE_INTERFACE 8

static int add_constants(PyObject *module)
{
    return PyModule_AddIntConstant(module, "INTERFACE", CORE_INTERFACE);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)add_constants},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "cmr_runtime._core", "What NumPy needs many small calls for.", 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
