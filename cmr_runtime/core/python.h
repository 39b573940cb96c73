/* SPDX-License-Identifier: Apache-2.0
 *
 * What the functions of the extension module share: arguments as buffers, checked. Stable ABI of Python 3.11.
 */
#ifndef CMR_CORE_PYTHON_H
#define CMR_CORE_PYTHON_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define CORE_MOST_BUFFERS 16

/* Buffers that a call holds; released together. */
typedef struct {
    Py_buffer views[CORE_MOST_BUFFERS];
    int count;
} CoreBuffers;

/* C-contiguous memory of `object` for items of `format` ("f", "d", "i", "B", "?"), `items` of them (-1: any number, told
 * in *found if that is not NULL). Returns NULL with an exception set if the object gives no such buffer. */
void *core_buffer(CoreBuffers *held, PyObject *object, const char *format, Py_ssize_t items, Py_ssize_t *found,
                  int writable);

void core_release(CoreBuffers *held);

/* Functions of the module, one file each: *_python.c. */

PyObject *core_register_python(PyObject *module, PyObject *arguments); /* registration_python.c */

/* geometry_python.c */
PyObject *core_python_project(PyObject *self, PyObject *args);
PyObject *core_python_project_placed(PyObject *self, PyObject *args);
PyObject *core_python_map_points(PyObject *self, PyObject *args);
PyObject *core_python_extent(PyObject *self, PyObject *args);
PyObject *core_python_square(PyObject *self, PyObject *args);
PyObject *core_python_mean_distance(PyObject *self, PyObject *args);
PyObject *core_python_relative_hand(PyObject *self, PyObject *args);
PyObject *core_python_place_hand(PyObject *self, PyObject *args);

/* smoothing_python.c */
PyObject *core_python_smooth(PyObject *self, PyObject *args);

/* cues_python.c */
PyObject *core_python_decode_heatmaps(PyObject *self, PyObject *arguments);
PyObject *core_python_cues(PyObject *self, PyObject *arguments);

/* warp_python.c */
PyObject *core_python_halve(PyObject *self, PyObject *arguments);
PyObject *core_python_warp(PyObject *self, PyObject *arguments);

/* plan_python.c */
PyObject *core_python_plan_kernels(PyObject *self, PyObject *arguments);
PyObject *core_python_run_plan(PyObject *self, PyObject *arguments);

#endif
