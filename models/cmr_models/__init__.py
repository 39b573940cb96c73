# SPDX-License-Identifier: Apache-2.0
"""Hand model (`hand`), data engine (`synth`), networks (`network`), weak labels and training."""
