"""What comparisons with a network of torch need."""

import re

import numpy as np
import torch


def randomised(model):
    """The torch model in evaluation mode, its norms no longer the identity."""
    generator = torch.Generator().manual_seed(0)
    many = len(model.state_dict()) > 100  # larger kernels would amplify rounding
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                low = 0.5 if re.search(r"var$|norm\w*\.weight$", name) else -0.5
                value.uniform_(low, low + 1, generator=generator)
            elif name.endswith("bias_table"):  # zero at the start
                value.uniform_(-1, 1, generator=generator)
            elif value.ndim > 1 and not many:
                value.mul_(3)
    return model.eval()


def images_for(ours, shape):
    """Random pixels for us, and the same standardised for torch."""
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    images = np.asarray(ours.backbone.standardise(pixels)).transpose(0, 3, 1, 2)
    return pixels, torch.from_numpy(images.copy())


def assert_close(ours, theirs):
    assert np.abs(theirs.numpy()).max() > 0.1  # or agreement means little
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
