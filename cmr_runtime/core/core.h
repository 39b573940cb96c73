/* SPDX-License-Identifier: Apache-2.0
 *
 * The compiled core: what NumPy needs hundreds of small calls for, in plain C.
 *
 * Each file of mathematics (heatmaps.c, ...) knows nothing of Python, so that a program without Python can use it.
 * Arrays are C-contiguous; lengths are metres and pixels as in the Python modules of the same names, which say what
 * is computed and why, and which serve where this core was not built.
 */
#ifndef CMR_CORE_H
#define CMR_CORE_H

#include <stddef.h>
#include <stdint.h>

#endif
