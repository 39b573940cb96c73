/* SPDX-License-Identifier: Apache-2.0
 *
 * warp.c and halve.c for Python.
 */
#include "core.h"
#include "python.h"

PyObject *core_python_warp(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *image, *gain, *bias, *out;
    Py_ssize_t height, width, size;
    double m[6];
    if (!PyArg_ParseTuple(arguments, "Onn(dddddd)nOOO", &image, &height, &width, &m[0], &m[1], &m[2], &m[3], &m[4],
                          &m[5], &size, &gain, &bias, &out))
        return NULL;
    if (height < 0 || width < 0 || size < 1 || size > PTRDIFF_MAX / 3 / size ||
        (width > 0 && height > PTRDIFF_MAX / 3 / width))
        return PyBool_FromLong(0);
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    const uint8_t *pixels = core_buffer(&held, image, "B", 3 * height * width, NULL, 0);
    const float *factors = pixels ? core_buffer(&held, gain, "f", 3, NULL, 0) : NULL;
    const float *less = factors ? core_buffer(&held, bias, "f", 3, NULL, 0) : NULL;
    float *planes = less ? core_buffer(&held, out, "f", 3 * size * size, NULL, 1) : NULL;
    if (planes) {
        int done;
        Py_BEGIN_ALLOW_THREADS
        done = core_warp(pixels, height, width, m, size, factors, less, planes);
        Py_END_ALLOW_THREADS
        result = PyBool_FromLong(done);
    }
    core_release(&held);
    return result;
}

PyObject *core_python_halve(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *image, *out;
    Py_ssize_t height, width, x, y, out_height, out_width;
    if (!PyArg_ParseTuple(arguments, "OnnnnnnO", &image, &height, &width, &x, &y, &out_height, &out_width, &out))
        return NULL;
    if (height < 0 || width < 0 || (width > 0 && height > PTRDIFF_MAX / 3 / width) || x < 0 || y < 0 || x > width ||
        y > height || out_height < 0 || out_width < 0 || out_height > (height - y) / 2 || out_width > (width - x) / 2) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: twice %zd x %zd pixels from (%zd, %zd) on are not in the image of %zd x %zd",
                     out_width, out_height, x, y, width, height);
        return NULL;
    }
    CoreBuffers held = {.count = 0};
    const uint8_t *pixels = core_buffer(&held, image, "B", 3 * height * width, NULL, 0);
    uint8_t *half = pixels ? core_buffer(&held, out, "B", 3 * out_height * out_width, NULL, 1) : NULL;
    if (half && out_width) {
        Py_BEGIN_ALLOW_THREADS
        core_halve(pixels + 3 * (y * width + x), 3 * width, out_height, out_width, half);
        Py_END_ALLOW_THREADS
    }
    core_release(&held);
    return half ? Py_NewRef(Py_None) : NULL;
}
