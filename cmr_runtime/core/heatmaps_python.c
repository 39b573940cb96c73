/* SPDX-License-Identifier: Apache-2.0
 *
 * heatmaps.c for Python.
 */
#include "core.h"
#include "python.h"

PyObject *core_python_decode_heatmaps(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *maps, *points, *scores;
    Py_ssize_t count, rows, columns;
    double side, cell_centre;
    if (!PyArg_ParseTuple(arguments, "OnnnddOO", &maps, &count, &rows, &columns, &side, &cell_centre, &points, &scores))
        return NULL;
    if (count < 1 || rows < 1 || columns < 1 || rows > PTRDIFF_MAX / columns / count)
        return PyBool_FromLong(0);
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    const float *cells = core_buffer(&held, maps, "f", count * rows * columns, NULL, 0);
    double *found = cells ? core_buffer(&held, points, "d", 2 * count, NULL, 1) : NULL;
    double *heights = found ? core_buffer(&held, scores, "d", count, NULL, 1) : NULL;
    if (heights) {
        int done;
        Py_BEGIN_ALLOW_THREADS
        done = core_decode_heatmaps(cells, count, rows, columns, side, cell_centre, found, heights);
        Py_END_ALLOW_THREADS
        result = PyBool_FromLong(done);
    }
    core_release(&held);
    return result;
}
