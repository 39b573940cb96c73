# SPDX-License-Identifier: Apache-2.0
"""From a trained checkpoint to a bundle: `bundle.export` and the command `cmr-export`."""
