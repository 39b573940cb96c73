# SPDX-License-Identifier: Apache-2.0
"""Networks as a few fused layers, which the compiled core runs quicker than ONNX Runtime does."""
