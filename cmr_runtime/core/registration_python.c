/* SPDX-License-Identifier: Apache-2.0
 *
 * `register` of the extension module, see module.c: arrays to registration.c and back.
 */
#include "python.h"

#include "core.h"

#include <string.h>

/* From so many vertices and contour points a call takes long enough (50 us) to let other threads of Python run. */
#define MANY_POINTS 5000

/* Rows of `columns` numbers (0: numbers in one row), or NULL where the object is no such array: then NumPy does it. */
static const void *rows(CoreBuffers *held, PyObject *object, const char *format, Py_ssize_t columns, size_t *count)
{
    const void *buffer = core_buffer(held, object, format, -1, NULL, 0);
    if (buffer == NULL)
        return NULL;
    const Py_buffer *view = &held->views[held->count - 1];
    if (view->ndim != (columns ? 2 : 1) || (columns && view->shape[1] != columns))
        return NULL;
    *count = (size_t)view->shape[0];
    return buffer;
}

/* Fills in arrays; returns 0 for what NumPy has to do, with or without an exception. */
static int take(CoreBuffers *held, PyObject *const objects[6], RegistrationInputs *inputs)
{
    size_t count;
    inputs->vertices = rows(held, objects[0], "d", 3, &inputs->vertex_count);
    if (inputs->vertices == NULL)
        return 0;
    inputs->joints = rows(held, objects[1], "d", 3, &inputs->joint_count);
    if (inputs->joints == NULL)
        return 0;
    inputs->keypoints = rows(held, objects[2], "d", 2, &count);
    if (inputs->keypoints == NULL || count != inputs->joint_count)
        return 0;
    inputs->scores = rows(held, objects[3], "d", 0, &count);
    if (inputs->scores == NULL || count != inputs->joint_count)
        return 0;
    if (objects[4] == Py_None)
        return objects[5] == Py_None;
    inputs->contour_single = rows(held, objects[4], "f", 2, &inputs->contour_count);
    if (inputs->contour_single == NULL) {
        PyErr_Clear();
        inputs->contour_double = rows(held, objects[4], "d", 2, &inputs->contour_count);
        if (inputs->contour_double == NULL)
            return 0;
    }
    if (objects[5] == Py_None)
        return 1;
    inputs->cut = rows(held, objects[5], "?", 0, &count);
    return inputs->cut != NULL && count == inputs->contour_count;
}

PyObject *core_register_python(PyObject *module, PyObject *arguments)
{
    CoreBuffers held;
    RegistrationSettings settings;
    RegistrationInputs inputs;
    RegistrationResult result;
    PyObject *constants, *objects[6], *outputs[3], *answer = NULL;
    int done = 0;
    (void)module;
    held.count = 0;
    memset(&inputs, 0, sizeof inputs);
    if (!PyArg_ParseTuple(arguments, "OOOOOOO(dddd)(dd)(dd)OOO:register", &constants, &objects[0], &objects[1],
                          &objects[2], &objects[3], &objects[4], &objects[5], &inputs.focal[0], &inputs.focal[1],
                          &inputs.centre[0], &inputs.centre[1], &inputs.mean, &inputs.spread, &inputs.depths[0],
                          &inputs.depths[1], &outputs[0], &outputs[1], &outputs[2]))
        return NULL;
    const void *constants_at =
        core_buffer(&held, constants, "d", (Py_ssize_t)(sizeof settings / sizeof(double)), NULL, 0);
    double *translation = constants_at == NULL ? NULL : core_buffer(&held, outputs[0], "d", 3, NULL, 1);
    double *sigma = translation == NULL ? NULL : core_buffer(&held, outputs[1], "d", 3, NULL, 1);
    if (sigma == NULL)
        goto end;
    memcpy(&settings, constants_at, sizeof settings);
    int taken = take(&held, objects, &inputs);
    if (!taken) /* an array that is not as it has to be is no error here: NumPy takes it, or says what is wrong */
        PyErr_Clear();
    uint8_t *inliers = NULL;
    if (taken) {
        inliers = core_buffer(&held, outputs[2], "?", (Py_ssize_t)inputs.joint_count, NULL, 1);
        if (inliers == NULL)
            goto end;
        int many = inputs.vertex_count + inputs.contour_count >= MANY_POINTS;
        PyThreadState *state = many ? PyEval_SaveThread() : NULL;
        done = core_register(&settings, &inputs, &result, inliers);
        if (many)
            PyEval_RestoreThread(state);
    }
    if (!done) {
        answer = Py_NewRef(Py_None);
        goto end;
    }
    memcpy(translation, result.translation, sizeof result.translation);
    memcpy(sigma, result.sigma, sizeof result.sigma);
    answer = Py_BuildValue("dddddO", result.scale, result.residual_2d, result.residual_1d, result.gap, result.weight_1d,
                           result.bounds_active ? Py_True : Py_False);
end:
    core_release(&held);
    return answer;
}
