/* SPDX-License-Identifier: Apache-2.0
 *
 * warp.c for Python.
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
