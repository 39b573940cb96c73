/* SPDX-License-Identifier: Apache-2.0
 *
 * The extension module `cmr_runtime._core`: a table of functions, and buffers of arrays.
 */
#include "python.h"

#include <string.h>

void *core_buffer(CoreBuffers *held, PyObject *object, const char *format, Py_ssize_t items, Py_ssize_t *found,
                  int writable)
{
    if (held->count == CORE_MOST_BUFFERS) {
        PyErr_SetString(PyExc_RuntimeError, "too many buffers in one call of cmr_runtime._core");
        return NULL;
    }
    Py_buffer *view = &held->views[held->count];
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0)
        return NULL;
    held->count++;
    Py_ssize_t count = view->itemsize ? view->len / view->itemsize : 0;
    if (view->format == NULL || strcmp(view->format, format) != 0 || (items >= 0 && count != items)) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: got %zd items of format %s, needs %zd (-1: any) of %s", count,
                     view->format == NULL ? "B" : view->format, items, format);
        return NULL;
    }
    if (found != NULL)
        *found = count;
    return view->buf;
}

void core_release(CoreBuffers *held)
{
    while (held->count)
        PyBuffer_Release(&held->views[--held->count]);
}

static PyMethodDef functions[] = {
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "cmr_runtime._core", "What NumPy needs many small calls for.", 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
