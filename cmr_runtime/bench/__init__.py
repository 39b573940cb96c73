# SPDX-License-Identifier: Apache-2.0
"""`cmr-bench`: how long a frame takes on the machine at hand, beside peers on the same frames."""
