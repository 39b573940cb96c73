/* SPDX-License-Identifier: Apache-2.0
 *
 * geometry.c for Python.
 */
#include "core.h"
#include "python.h"

PyObject *core_python_project(PyObject *self, PyObject *args)
{
    PyObject *points_object, *pixels_object;
    CoreCamera camera;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items;
    (void)self;
    if (!PyArg_ParseTuple(args, "OddddO:project", &points_object, &camera.fx, &camera.fy, &camera.cx, &camera.cy,
                          &pixels_object))
        return NULL;
    const double *points = core_buffer(&held, points_object, "d", -1, &items, 0);
    double *pixels = points == NULL ? NULL : core_buffer(&held, pixels_object, "d", items / 3 * 2, NULL, 1);
    if (pixels != NULL)
        core_project(&camera, points, items / 3, pixels);
    core_release(&held);
    return pixels == NULL ? NULL : Py_NewRef(Py_None);
}

PyObject *core_python_project_placed(PyObject *self, PyObject *args)
{
    PyObject *points_object, *pixels_object, *result = NULL;
    double translation[3];
    CoreCamera camera;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items;
    (void)self;
    if (!PyArg_ParseTuple(args, "O(ddd)(dddd)O:project_placed", &points_object, &translation[0], &translation[1],
                          &translation[2], &camera.fx, &camera.fy, &camera.cx, &camera.cy, &pixels_object))
        return NULL;
    const float *points = core_buffer(&held, points_object, "f", -1, &items, 0);
    double *pixels = points == NULL ? NULL : core_buffer(&held, pixels_object, "d", items / 3 * 2, NULL, 1);
    if (pixels != NULL)
        result = PyFloat_FromDouble(core_project_placed(&camera, points, items / 3, translation, pixels));
    core_release(&held);
    return result;
}

PyObject *core_python_map_points(PyObject *self, PyObject *args)
{
    PyObject *points_object, *mapped_object;
    double matrix[4], shift[2];
    CoreBuffers held = {.count = 0};
    Py_ssize_t items;
    (void)self;
    if (!PyArg_ParseTuple(args, "O(dddddd)O:map_points", &points_object, &matrix[0], &matrix[1], &matrix[2], &matrix[3],
                          &shift[0], &shift[1], &mapped_object))
        return NULL;
    double *mapped = core_buffer(&held, mapped_object, "d", -1, &items, 1);
    const double *points = mapped == NULL ? NULL : core_buffer(&held, points_object, "d", items, NULL, 0);
    const float *single = NULL;
    if (points != NULL)
        core_map_double(points, items / 2, matrix, shift, mapped);
    else if (mapped != NULL) {
        PyErr_Clear(); /* not double: then they must be single */
        single = core_buffer(&held, points_object, "f", items, NULL, 0);
        if (single != NULL)
            core_map_single(single, items / 2, matrix, shift, mapped);
    }
    core_release(&held);
    return points == NULL && single == NULL ? NULL : Py_NewRef(Py_None);
}

PyObject *core_python_extent(PyObject *self, PyObject *args)
{
    PyObject *points_object, *result = NULL;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items;
    (void)self;
    if (!PyArg_ParseTuple(args, "O:extent", &points_object))
        return NULL;
    const double *points = core_buffer(&held, points_object, "d", -1, &items, 0);
    if (points != NULL && items < 2)
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: no points have no extent");
    else if (points != NULL)
        result = PyFloat_FromDouble(core_extent(points, items / 2));
    core_release(&held);
    return result;
}

PyObject *core_python_square(PyObject *self, PyObject *args)
{
    PyObject *points_object, *result = NULL;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items, wrist, knuckle;
    double scale, angle, part, square[4];
    (void)self;
    if (!PyArg_ParseTuple(args, "Oddnnd:square", &points_object, &scale, &angle, &wrist, &knuckle, &part))
        return NULL;
    const double *points = core_buffer(&held, points_object, "d", -1, &items, 0);
    if (points != NULL && (items < 2 || wrist >= items / 2 || (wrist >= 0 && (knuckle < 0 || knuckle >= items / 2))))
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: no square around no points, or wrist or knuckle are none of them");
    else if (points != NULL) {
        core_square(points, items / 2, scale, angle, wrist, knuckle, part, square);
        result = Py_BuildValue("(dddd)", square[0], square[1], square[2], square[3]);
    }
    core_release(&held);
    return result;
}

PyObject *core_python_mean_distance(PyObject *self, PyObject *args)
{
    PyObject *points_object, *others_object, *result = NULL;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO:mean_distance", &points_object, &others_object))
        return NULL;
    const double *points = core_buffer(&held, points_object, "d", -1, &items, 0);
    const double *others = points == NULL ? NULL : core_buffer(&held, others_object, "d", items, NULL, 0);
    if (others != NULL)
        result = PyFloat_FromDouble(core_mean_distance(points, others, items / 2));
    core_release(&held);
    return result;
}

/* Arrays of the entries of a matrix, which are not yet checked; 0 with an exception set if they are none. */
static int get_entries(CoreBuffers *held, PyObject *starts, PyObject *columns, PyObject *weights, CoreEntries *entries)
{
    Py_ssize_t rows, count;
    if ((entries->starts = core_buffer(held, starts, "i", -1, &rows, 0)) == NULL ||
        (entries->columns = core_buffer(held, columns, "i", -1, &count, 0)) == NULL ||
        (entries->weights = core_buffer(held, weights, "f", count, NULL, 0)) == NULL)
        return 0;
    if (rows < 1) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: entries without a start");
        return 0;
    }
    entries->rows = rows - 1;
    entries->count = count;
    return 1;
}

PyObject *core_python_relative_hand(PyObject *self, PyObject *args)
{
    PyObject *network_object, *starts, *columns, *weights, *vertices_object, *joints_object, *result = NULL;
    CoreCamera camera;
    CoreRegion region;
    CoreEntries regressor;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items, root;
    const float *network;
    double *vertices, *joints, rotation[9];
    (void)self;
    if (!PyArg_ParseTuple(args, "O(dddp)(dddd)(OOO)nOO:relative_hand", &network_object, &region.cx, &region.cy,
                          &region.angle, &region.mirrored, &camera.fx, &camera.fy, &camera.cx, &camera.cy, &starts,
                          &columns, &weights, &root, &vertices_object, &joints_object))
        return NULL;
    if ((network = core_buffer(&held, network_object, "f", -1, &items, 0)) == NULL ||
        !get_entries(&held, starts, columns, weights, &regressor) ||
        (vertices = core_buffer(&held, vertices_object, "d", items, NULL, 1)) == NULL ||
        (joints = core_buffer(&held, joints_object, "d", 3 * regressor.rows, NULL, 1)) == NULL)
        goto done;
    if (items % 3 != 0 || root < 0 || root >= regressor.rows || !core_entries_fit(&regressor, items / 3)) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: regressor and root do not fit the mesh");
        goto done;
    }
    core_rotation(&camera, &region, rotation);
    result = PyBool_FromLong(core_relative_hand(network, items / 3, rotation, &regressor, root, vertices, joints));
done:
    core_release(&held);
    return result;
}

PyObject *core_python_place_hand(PyObject *self, PyObject *args)
{
    PyObject *vertices_object, *joints_object, *translation_object, *keypoints_object, *scores_object;
    PyObject *placed_vertices_object, *placed_joints_object, *pixels_object, *settled_object, *result = NULL;
    double scale, weight;
    CoreCamera camera;
    CoreBuffers held = {.count = 0};
    Py_ssize_t items, joint_items;
    const double *vertices, *joints, *translation, *keypoints, *scores;
    double *pixels;
    float *placed_vertices, *placed_joints, *settled;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOdO(dddd)OOdOOOO:place_hand", &vertices_object, &joints_object, &scale,
                          &translation_object, &camera.fx, &camera.fy, &camera.cx, &camera.cy, &keypoints_object,
                          &scores_object, &weight, &placed_vertices_object, &placed_joints_object, &pixels_object,
                          &settled_object))
        return NULL;
    if ((vertices = core_buffer(&held, vertices_object, "d", -1, &items, 0)) == NULL ||
        (joints = core_buffer(&held, joints_object, "d", -1, &joint_items, 0)) == NULL ||
        (translation = core_buffer(&held, translation_object, "d", 3, NULL, 0)) == NULL ||
        (keypoints = core_buffer(&held, keypoints_object, "d", joint_items / 3 * 2, NULL, 0)) == NULL ||
        (scores = core_buffer(&held, scores_object, "d", joint_items / 3, NULL, 0)) == NULL ||
        (placed_vertices = core_buffer(&held, placed_vertices_object, "f", items, NULL, 1)) == NULL ||
        (placed_joints = core_buffer(&held, placed_joints_object, "f", joint_items, NULL, 1)) == NULL ||
        (pixels = core_buffer(&held, pixels_object, "d", joint_items / 3 * 2, NULL, 1)) == NULL ||
        (settled = core_buffer(&held, settled_object, "f", joint_items / 3 * 2, NULL, 1)) == NULL)
        goto done;
    core_place(vertices, items / 3, scale, translation, placed_vertices);
    core_place(joints, joint_items / 3, scale, translation, placed_joints);
    core_settle_keypoints(&camera, joints, joint_items / 3, scale, translation, keypoints, scores, weight, pixels, settled);
    result = PyFloat_FromDouble(joint_items < 3 ? 0.0 : core_extent(pixels, joint_items / 3));
done:
    core_release(&held);
    return result;
}
