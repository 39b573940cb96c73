# SPDX-License-Identifier: Apache-2.0
"""Photos as training data: labelled by the commands `pseudo_label`, cut and packed by `real_crops`.

Nothing here needs PyTorch. The centre of a picture's top-left pixel is (0, 0) throughout.
"""
