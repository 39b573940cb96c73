/* SPDX-License-Identifier: Apache-2.0
 *
 * smoothing.c for Python.
 */
#include "core.h"
#include "python.h"

/* More than a rig has of anything, and little enough that sums of products do not overflow. */
#define MOST 100000000

/* The arrays of a rig lie one after the other in two: whole numbers and real ones, see `Rig.packed`. */
static int get_rig(CoreBuffers *held, PyObject *counts, PyObject *whole_object, PyObject *real_object, CoreRig *rig)
{
    Py_ssize_t bones, joints, vertices, regressor, follow, root;
    if (!PyArg_ParseTuple(counts, "nnnnnn:smooth", &bones, &joints, &vertices, &root, &regressor, &follow))
        return 0;
    if (bones < 0 || bones > CORE_MOST_JOINTS || joints < 1 || joints > CORE_MOST_JOINTS || vertices < 0 ||
        vertices > MOST || regressor < 0 || regressor > MOST || follow < 0 || follow > MOST) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: a rig has at most 64 joints");
        return 0;
    }
    const int *whole = core_buffer(held, whole_object, "i", 2 * bones + joints + 1 + regressor + vertices + 1 + follow,
                                   NULL, 0);
    if (whole == NULL)
        return 0;
    const float *real = core_buffer(held, real_object, "f", bones * joints + 2 * joints * joints + regressor + follow,
                                    NULL, 0);
    if (real == NULL)
        return 0;
    rig->bones = bones;
    rig->vertices = vertices;
    rig->root = root;
    rig->starts = whole;
    rig->ends = rig->starts + bones;
    rig->regressor.rows = joints;
    rig->regressor.count = regressor;
    rig->regressor.starts = rig->ends + bones;
    rig->regressor.columns = rig->regressor.starts + joints + 1;
    rig->follow.rows = vertices;
    rig->follow.count = follow;
    rig->follow.starts = rig->regressor.columns + regressor;
    rig->follow.columns = rig->follow.starts + vertices + 1;
    rig->paths = real;
    rig->then = rig->paths + bones * joints;
    rig->moves = rig->then + joints * joints;
    rig->regressor.weights = rig->moves + joints * joints;
    rig->follow.weights = rig->regressor.weights + regressor;
    if (core_rig_fits(rig))
        return 1;
    PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: the rig points to joints or vertices that are not there");
    return 0;
}

/* The hand's arrays of one of both sides, and the translation; vertices may be None. */
static int get_hand(CoreBuffers *held, PyObject *hand, const CoreRig *rig, int writable, CoreShown *found)
{
    PyObject *vertices, *joints, *keypoints, *translation = NULL;
    const ptrdiff_t count = rig->regressor.rows;
    if (!PyArg_ParseTuple(hand, writable ? "OOOO:smooth" : "OOO:smooth", &vertices, &joints, &keypoints, &translation))
        return 0;
    found->vertices = NULL;
    return (vertices == Py_None ||
            (found->vertices = core_buffer(held, vertices, "f", 3 * rig->vertices, NULL, writable)) != NULL) &&
           (found->joints = core_buffer(held, joints, "f", 3 * count, NULL, writable)) != NULL &&
           (found->keypoints = core_buffer(held, keypoints, "f", 2 * count, NULL, writable)) != NULL &&
           (!writable || (found->translation = core_buffer(held, translation, "d", 3, NULL, 1)) != NULL);
}

static int get_followed(CoreBuffers *held, PyObject *filters, PyObject *lengths, const CoreRig *rig, int mesh,
                        CoreFollowed *followed)
{
    PyObject *direction, *depth, *detail, *shape;
    const ptrdiff_t count = rig->regressor.rows;
    if (!PyArg_ParseTuple(filters, "OOOO:smooth", &direction, &depth, &detail, &shape))
        return 0;
    followed->lengths = NULL;
    return (followed->direction = core_buffer(held, direction, "d", 9, NULL, 1)) != NULL &&
           (followed->depth = core_buffer(held, depth, "d", 3, NULL, 1)) != NULL &&
           (followed->detail = core_buffer(held, detail, "d", 6 * count, NULL, 1)) != NULL &&
           (followed->shape = core_buffer(held, shape, "f", 9 * (mesh ? rig->vertices : count), NULL, 1)) != NULL &&
           (lengths == Py_None ||
            (followed->lengths = core_buffer(held, lengths, "f", rig->bones, NULL, 1)) != NULL);
}

PyObject *core_python_smooth(PyObject *self, PyObject *args)
{
    PyObject *counts, *whole, *real, *seen_object, *followed_object, *lengths, *shown_object, *result = NULL;
    CoreSmoothing s;
    CoreCamera camera;
    CoreRig rig;
    CoreSeen seen;
    CoreFollowed followed;
    CoreShown found, shown;
    CoreBuffers held = {.count = 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "O!OO(dddddddddd)(dddd)(ddd)O!O!OO!:smooth", &PyTuple_Type, &counts, &whole, &real,
                          &s.direction_cutoff, &s.direction_gain, &s.depth_cutoff, &s.depth_gain, &s.shape_cutoff,
                          &s.shape_gain, &s.lag_cutoff, &s.dt, &s.pull, &s.share, &camera.fx, &camera.fy, &camera.cx,
                          &camera.cy, &seen.translation[0], &seen.translation[1], &seen.translation[2], &PyTuple_Type,
                          &seen_object, &PyTuple_Type, &followed_object, &lengths, &PyTuple_Type, &shown_object))
        return NULL;
    if (!get_rig(&held, counts, whole, real, &rig) || !get_hand(&held, seen_object, &rig, 0, &found) ||
        !get_followed(&held, followed_object, lengths, &rig, found.vertices != NULL, &followed) ||
        !get_hand(&held, shown_object, &rig, 1, &shown))
        goto done;
    if ((found.vertices == NULL) != (shown.vertices == NULL)) {
        PyErr_SetString(PyExc_ValueError, "cmr_runtime._core: vertices are seen and shown, or neither");
        goto done;
    }
    seen.vertices = found.vertices;
    seen.joints = found.joints;
    seen.keypoints = found.keypoints;
    result = PyFloat_FromDouble(core_smooth(&rig, &s, &camera, &seen, &followed, &shown));
done:
    core_release(&held);
    return result;
}
