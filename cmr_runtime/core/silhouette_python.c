/* SPDX-License-Identifier: Apache-2.0
 *
 * silhouette.c for Python.
 */
#include "core.h"
#include "python.h"

PyObject *core_python_double_map(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *map, *fine, *mask;
    Py_ssize_t side;
    float level;
    if (!PyArg_ParseTuple(arguments, "OnfOO", &map, &side, &level, &fine, &mask))
        return NULL;
    if (side < 1 || side > PTRDIFF_MAX / 4 / side) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: a map without cells, or with too many");
        return NULL;
    }
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    const float *cells = core_buffer(&held, map, "f", side * side, NULL, 0);
    float *doubled = cells ? core_buffer(&held, fine, "f", 4 * side * side, NULL, 1) : NULL;
    uint8_t *covered = doubled ? core_buffer(&held, mask, "B", 4 * side * side, NULL, 1) : NULL;
    if (covered) {
        result = PyBool_FromLong(core_double_map(cells, side, level, doubled, covered));
    }
    core_release(&held);
    return result;
}

PyObject *core_python_refine_contour(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *map, *points, *outline;
    Py_ssize_t side, count = 0;
    float level, scale;
    if (!PyArg_ParseTuple(arguments, "OnOffO", &map, &side, &points, &level, &scale, &outline))
        return NULL;
    if (side < 1 || side > PTRDIFF_MAX / side) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: a map without cells, or with too many");
        return NULL;
    }
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    const float *cells = core_buffer(&held, map, "f", side * side, NULL, 0);
    const int32_t *traced = cells ? core_buffer(&held, points, "i", -1, &count, 0) : NULL;
    float *refined = traced ? core_buffer(&held, outline, "f", count / 2 * 2, NULL, 1) : NULL;
    if (refined) {
        core_refine_contour(cells, side, traced, count / 2, level, scale, refined);
        result = Py_NewRef(Py_None);
    }
    core_release(&held);
    return result;
}

PyObject *core_python_cut(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *crop_points, *image_points, *flags;
    double side, width, height, margin;
    if (!PyArg_ParseTuple(arguments, "OOddddO", &crop_points, &image_points, &side, &width, &height, &margin, &flags))
        return NULL;
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    Py_ssize_t count = 0;
    uint8_t *marks = core_buffer(&held, flags, "?", -1, &count, 1);
    const float *in_crop = marks ? core_buffer(&held, crop_points, "f", 2 * count, NULL, 0) : NULL;
    const float *in_image = in_crop ? core_buffer(&held, image_points, "f", 2 * count, NULL, 0) : NULL;
    if (in_image) {
        core_cut(in_crop, in_image, count, side, width, height, margin, marks);
        result = Py_NewRef(Py_None);
    }
    core_release(&held);
    return result;
}
