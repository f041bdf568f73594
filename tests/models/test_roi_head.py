"""The region head of one modality."""

import numpy as np
import pytest
from module_cases import apply, zero_params

from dcrl_jax.models.roi_head import RoiHead

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_values_by_hand_through_both_layers_and_their_relus():
    features = np.zeros((1, 3, 2, 2, 3), np.float32)
    features[0, 1, 1, 0, 2], features[0, 2, 0, 0, 0] = 2, 5
    module = RoiHead(hidden=2)
    params = zero_params(module, features)
    # Bins are in row order, with their channels: channel 2 of bin (1, 0) is input 8.
    params["fc6"]["kernel"][8] = [3.0, -3.0]
    params["fc6"]["kernel"][0] = [0.0, 1.0]
    params["fc6"]["bias"][:] = [1.0, 0.0]
    params["fc7"]["kernel"][:] = [[1.0, -1.0], [10.0, 1.0]]
    params["logits"]["kernel"][:] = [[0.5, 1.0], [0.0, 2.0]]
    params["logits"]["bias"][:] = [0.0, -1.0]
    params["offsets"]["kernel"][0] = [1.0, 2.0, 3.0, 4.0]
    logits, offsets = apply(module, params, features)
    # fc6 gives (1, 0), (1 + 6, 0) and (1, 5), fc7 (1, 0), (7, 0) and (1 + 50, 5 - 1).
    np.testing.assert_allclose(logits, [[[0.5, 0.0], [3.5, 6.0], [25.5, 58.0]]])
    np.testing.assert_allclose(offsets, [[[1, 2, 3, 4], [7, 14, 21, 28], [51, 102, 153, 204]]])
