"""A VAE's weights with more latent channels: the same pictures at first, and room to learn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def widened(narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an AutoencoderKL that draws as `narrow` did, in the shapes of `wide`.

    The decoder begins with zeros for the new channels; what the encoder writes into them is what it is in
    `wide`, and passes the quant convolutions unchanged.
    """
    few, many = (len(state["post_quant_conv.bias"]) for state in (narrow, wide))
    means = torch.arange(few)
    moments = torch.cat([means, many + means])  # means, then log variances
    made = dict(narrow)
    for layer, rows, columns in (
        ("encoder.conv_out", moments, None),
        ("quant_conv", moments, moments),
        ("post_quant_conv", means, means),
        ("decoder.conv_in", None, means),
    ):
        weight, bias = wide[f"{layer}.weight"].clone(), wide[f"{layer}.bias"].clone()
        if columns is not None:
            weight.zero_()
        if rows is not None and columns is not None:
            bias.zero_()
            weight[:, :, 0, 0].fill_diagonal_(1.0)
        if rows is None:
            rows = torch.arange(len(weight))
        if columns is None:
            columns = torch.arange(weight.shape[1])
        weight[rows[:, None], columns] = narrow[f"{layer}.weight"]
        bias[rows] = narrow[f"{layer}.bias"]
        made |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return made
