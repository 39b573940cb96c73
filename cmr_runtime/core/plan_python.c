/* SPDX-License-Identifier: Apache-2.0
 *
 * plan.c for Python.
 */
#include "plan.h"
#include "python.h"

#include <string.h>

#define MOST_ARRAYS 10

static const PlanKernels *const *every_kernels(void)
{
    static const PlanKernels *found[4];
    int count = 0;
    const PlanKernels *each[] = {plan_avx512(), plan_avx2(), plan_neon()};
    for (int i = 0; i < 3; i++)
        if (each[i] != NULL)
            found[count++] = each[i];
    found[count] = NULL;
    return found;
}

PyObject *core_python_plan_kernels(PyObject *self, PyObject *arguments)
{
    (void)self;
    int bits;
    if (!PyArg_ParseTuple(arguments, "i", &bits))
        return NULL;
    PyObject *names = PyList_New(0);
    for (const PlanKernels *const *each = every_kernels(); names != NULL && *each != NULL; each++) {
        if ((bits == 8 && (*each)->eight == NULL) || (bits == 16 && (*each)->sixteen == NULL))
            continue;
        PyObject *name = PyUnicode_FromString((*each)->name);
        if (name == NULL || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

PyObject *core_python_run_plan(PyObject *self, PyObject *arguments)
{
    (void)self;
    const char *name;
    Plan plan = {.count = 0};
    PyObject *layers, *numbers, *memory, *weights, *whole, *arrays, *sizes;
    if (!PyArg_ParseTuple(arguments, "siOOOnnOOO!O!", &name, &plan.threads, &layers, &numbers, &memory, &plan.scratch,
                          &plan.room, &weights, &whole, &PyTuple_Type, &arrays, &PyTuple_Type, &sizes))
        return NULL;
    const PlanKernels *const *kernels = every_kernels();
    while (*kernels != NULL && strcmp((*kernels)->name, name) != 0)
        kernels++;
    Py_ssize_t given = PyTuple_Size(arrays);
    if (*kernels == NULL || given > MOST_ARRAYS || PyTuple_Size(sizes) != given) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: no kernels %s here, or not one size for each of at most %d arrays",
                     name, MOST_ARRAYS);
        return NULL;
    }
    CoreBuffers held = {.count = 0};
    PyObject *result = NULL;
    Py_ssize_t items = 0, rows = 0;
    float *places[MOST_ARRAYS];
    const int32_t *table = core_buffer(&held, layers, "i", -1, &items, 0);
    const float *limits = table ? core_buffer(&held, numbers, "f", -1, &rows, 0) : NULL;
    float *room = limits ? core_buffer(&held, memory, "f", -1, NULL, 1) : NULL;
    const float *constants = room ? core_buffer(&held, weights, "f", -1, NULL, 0) : NULL;
    const int32_t *integers = constants ? core_buffer(&held, whole, "i", -1, NULL, 0) : NULL;
    int fine = integers != NULL;
    for (Py_ssize_t i = 0; fine && i < given; i++) {
        Py_ssize_t size = PyLong_AsSsize_t(PyTuple_GetItem(sizes, i));
        fine = !(size == -1 && PyErr_Occurred()) && size >= 0;
        places[i] = fine ? core_buffer(&held, PyTuple_GetItem(arrays, i), "f", size, NULL, 0) : NULL;
        fine = fine && places[i] != NULL;
    }
    Py_ssize_t count = items / (Py_ssize_t)PLAN_LAYER;
    if (fine && (items % (Py_ssize_t)PLAN_LAYER || rows != count * (Py_ssize_t)PLAN_NUMBERS)) {
        PyErr_Format(PyExc_ValueError, "cmr_runtime._core: layers have %zd columns and %zd numbers, not as given",
                     (Py_ssize_t)PLAN_LAYER, (Py_ssize_t)PLAN_NUMBERS);
        fine = 0;
    }
    if (fine) {
        plan.kernels = *kernels;
        plan.layers = (const PlanLayer *)table;
        plan.numbers = (const PlanNumbers *)limits;
        plan.count = count;
        plan.memory = room;
        plan.weights = constants;
        plan.whole = integers;
        plan.arrays = places;
        Py_BEGIN_ALLOW_THREADS
        plan_run(&plan);
        Py_END_ALLOW_THREADS
        result = Py_None;
        Py_INCREF(result);
    }
    core_release(&held);
    return result;
}
