/* SPDX-License-Identifier: Apache-2.0
 *
 * silhouette.c for Python.
 */
#include "core.h"
#include "python.h"

/* Room to trace in: a map of twice the size, where it is on the level, marks of what was traced, and two outlines. */
typedef struct {
    float *fine;
    uint8_t *mask;
    int8_t *marks;
    int32_t *points, *spare;
} Room;

static void *make_room(Room *room, Py_ssize_t side, Py_ssize_t most)
{
    const size_t cells = (size_t)(side * side), numbers = 2 * (size_t)most;
    void *block = PyMem_Malloc(4 * cells + 8 * numbers + cells + (size_t)((side + 2) * (side + 2)));
    if (block == NULL)
        return PyErr_NoMemory();
    room->fine = block;
    room->points = (int32_t *)(room->fine + cells);
    room->spare = room->points + numbers;
    room->mask = (uint8_t *)(room->spare + numbers);
    room->marks = (int8_t *)(room->mask + cells);
    return block;
}

/* How many points the outline has, as core_python_outline returns it. */
static Py_ssize_t outlined(const Room *room, const float *map, Py_ssize_t cells, float level, float scale, Py_ssize_t fewest,
                           double least, Py_ssize_t most, float *outline)
{
    double area;
    if (!core_double_map(map, cells, level, room->fine, room->mask))
        return -1;
    Py_ssize_t count = core_trace(room->mask, 2 * cells, room->marks, room->points, room->spare, most, &area);
    if (count > 0 && (count < fewest || area < least))
        return 0;
    if (count > 0)
        core_refine_contour(room->fine, 2 * cells, room->points, count, level, scale, outline);
    return count;
}

PyObject *core_python_outline(PyObject *self, PyObject *arguments)
{
    (void)self;
    PyObject *map_object, *outline_object;
    Py_ssize_t cells, fewest, items;
    float level, scale;
    double least;
    if (!PyArg_ParseTuple(arguments, "OnffndO", &map_object, &cells, &level, &scale, &fewest, &least, &outline_object))
        return NULL;
    if (cells < 1 || cells > 16384) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: a map without cells, or with too many");
        return NULL;
    }
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    Room room = {NULL, NULL, NULL, NULL, NULL};
    void *block = NULL;
    const float *map = core_buffer(&held, map_object, "f", cells * cells, NULL, 0);
    float *outline = map ? core_buffer(&held, outline_object, "f", -1, &items, 1) : NULL;
    if (outline)
        block = make_room(&room, 2 * cells, items / 2);
    if (block) {
        result = PyLong_FromSsize_t(outlined(&room, map, cells, level, scale, fewest, least, items / 2, outline));
        PyMem_Free(block);
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
