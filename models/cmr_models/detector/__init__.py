# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's palm detector in PyTorch: `convert` reads its weights, `palm` is the network."""
