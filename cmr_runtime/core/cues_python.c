/* SPDX-License-Identifier: Apache-2.0
 *
 * heatmaps.c and silhouette.c for Python.
 */
#include "core.h"
#include "python.h"

/* Cells of a side, so that no product of them is too large. */
#define MOST_CELLS 4096

/* Heat maps, as both functions take them. */
typedef struct {
    PyObject *maps, *points, *scores;
    Py_ssize_t count, rows, columns;
    double side, cell_centre;
} Peaks;

/* Decode them; -1 with an exception set if a buffer does not fit, 0 for what NumPy has to do. */
static int decoded(CoreBuffers *held, const Peaks *p, double **points)
{
    if (p->count < 1 || p->rows < 1 || p->columns < 1 || p->rows > PTRDIFF_MAX / p->columns / p->count)
        return 0;
    const float *cells = core_buffer(held, p->maps, "f", p->count * p->rows * p->columns, NULL, 0);
    *points = cells ? core_buffer(held, p->points, "d", 2 * p->count, NULL, 1) : NULL;
    double *scores = *points ? core_buffer(held, p->scores, "d", p->count, NULL, 1) : NULL;
    return scores ? core_decode_heatmaps(cells, p->count, p->rows, p->columns, p->side, p->cell_centre, *points, scores) : -1;
}

PyObject *core_python_decode_heatmaps(PyObject *self, PyObject *arguments)
{
    (void)self;
    Peaks p;
    double *points;
    if (!PyArg_ParseTuple(arguments, "OnnnddOO", &p.maps, &p.count, &p.rows, &p.columns, &p.side, &p.cell_centre, &p.points,
                          &p.scores))
        return NULL;
    CoreBuffers held = {.count = 0};
    const int done = decoded(&held, &p, &points);
    core_release(&held);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* A silhouette, and where its outline is to go. */
typedef struct {
    PyObject *map, *outline, *marks;
    Py_ssize_t cells, fewest;
    float level;
    double share, margin, width, height;
    double matrix[4], shift[2];
} Outline;

/* The outline in the image and its marks, as core_python_cues returns them; -2 with an exception set. */
static Py_ssize_t outlined(CoreBuffers *held, const Outline *o, double side)
{
    Py_ssize_t most;
    if (o->cells < 1 || o->cells > MOST_CELLS) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: a map of %zd cells a side; needs 1 to %d", o->cells, MOST_CELLS);
        return -2;
    }
    const float *map = core_buffer(held, o->map, "f", o->cells * o->cells, NULL, 0);
    uint8_t *marks = map ? core_buffer(held, o->marks, "?", -1, &most, 1) : NULL;
    float *outline = marks ? core_buffer(held, o->outline, "f", 2 * most, NULL, 1) : NULL;
    if (outline == NULL)
        return -2;
    const size_t line = 2 * (size_t)o->cells + 2, numbers = 2 * (size_t)most;
    float *crop = PyMem_Malloc((numbers + 6 * (size_t)o->cells) * sizeof(float) + 2 * numbers * sizeof(int32_t) + line * line);
    if (crop == NULL) {
        PyErr_NoMemory();
        return -2;
    }
    float *rows = crop + numbers;
    int32_t *points = (int32_t *)(rows + 6 * o->cells);
    const CoreRoom room = {(int8_t *)(points + 2 * numbers), rows, points, most};
    const double larger = 2.0 * (double)o->cells;
    const Py_ssize_t count = core_outline(map, o->cells, o->level, (float)(side / larger), o->fewest,
                                          o->share * larger * larger, &room, crop);
    if (count > 0) {
        core_map_to_single(crop, count, o->matrix, o->shift, outline);
        core_cut(crop, outline, count, side, o->width, o->height, o->margin, marks);
    }
    PyMem_Free(crop);
    return count;
}

PyObject *core_python_cues(PyObject *self, PyObject *arguments)
{
    (void)self;
    Peaks p;
    Outline o;
    double *points;
    if (!PyArg_ParseTuple(arguments, "OnnnOndd(dddddd)(dd)(fndd)OOOO", &p.maps, &p.count, &p.rows, &p.columns, &o.map, &o.cells,
                          &p.side, &p.cell_centre, &o.matrix[0], &o.matrix[1], &o.matrix[2], &o.matrix[3], &o.shift[0],
                          &o.shift[1], &o.width, &o.height, &o.level, &o.fewest, &o.share, &o.margin, &p.points, &p.scores,
                          &o.outline, &o.marks))
        return NULL;
    CoreBuffers held = {.count = 0};
    const int done = decoded(&held, &p, &points);
    Py_ssize_t count = done - 1; /* -2 with an exception set, -1 for NumPy */
    if (done == 1) {
        core_map_double(points, p.count, o.matrix, o.shift, points);
        count = outlined(&held, &o, p.side);
    }
    core_release(&held);
    return count == -2 ? NULL : PyLong_FromSsize_t(count);
}
