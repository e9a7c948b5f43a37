"""Tiny models of transformers with random weights, as their repositories lay them out, and tiny graphs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["KINDS", "PROCESSORS", "SIDE", "write_graph", "write_model"]

SIDE = 32
_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
KINDS = {
    "clip": ("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip": ("SiglipVisionModel", "pooler_output"),
    "dinov2": ("Dinov2Model", "pooler_output"),
    "dinov3_vit": ("DINOv3ViTModel", "pooler_output"),
}
_SHARED = {"do_normalize": True, "do_resize": True}
_RESCALE = {"do_rescale": True, "rescale_factor": 0.00392156862745098}
PROCESSORS: Mapping[str, dict[str, Any]] = {  # as openai, google and facebook publish them, at 32 px
    "clip": {
        **_SHARED,
        "crop_size": SIDE,
        "do_center_crop": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "size": SIDE,
    },
    "siglip": {
        **_SHARED,
        **_RESCALE,
        "do_convert_rgb": None,
        "image_processor_type": "SiglipImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": {"height": SIDE, "width": SIDE},
    },
    "dinov2": {
        **_SHARED,
        **_RESCALE,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "image_processor_type": "BitImageProcessor",
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "resample": 3,
        "size": {"shortest_edge": 37},
    },
    "dinov3_vit": {
        **_SHARED,
        **_RESCALE,
        "crop_size": None,
        "default_to_square": True,
        "do_center_crop": None,
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "resample": 2,
        "size": {"height": SIDE, "width": SIDE},
    },
}


def write_model(folder: Path, kind: str, *, loud: float = 1.0) -> Any:
    """A random model of `kind` in `folder`, with its config, weights and processor; the model itself.

    `loud` multiplies the weights of its last layer norm or projection.
    """
    import torch
    import transformers

    torch.manual_seed(3)
    name, _ = KINDS[kind]
    if kind == "clip":  # as a whole CLIP lies there: the part that looks has its own width of projection
        text = {**_TOWER, "vocab_size": 99}
        config = transformers.CLIPConfig(vision_config=_TOWER, text_config=text, projection_dim=12)
        whole = transformers.CLIPModel(config)
        with torch.no_grad():
            whole.visual_projection.weight.mul_(loud)
        whole.save_pretrained(folder)
        own = transformers.CLIPVisionConfig(**{**_TOWER, "projection_dim": 12})
        model = transformers.CLIPVisionModelWithProjection(own)
        model.load_state_dict(whole.state_dict(), strict=False)
    else:
        config = getattr(transformers, f"{name.removesuffix('Model')}Config")(**_TOWER)
        model = getattr(transformers, name)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            if loud != 1.0:
                for key, parameter in model.named_parameters():
                    if key in ("layernorm.weight", "norm.weight"):
                        parameter.mul_(loud)
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return model.eval()


def write_graph(
    path: Path,
    *,
    layout: str = "NCHW",
    channels: int | str = 3,
    size: int | str = SIDE,
    scale: float = 1.0,
    more: bool = False,
) -> np.ndarray:
    """A graph whose `embedding` [B, 5] is a linear map of the mean of each channel; that map, [3, 5].

    With `more` it has outputs `logits` [B, 2] and `map` [B, 3, S, S] as well, and a `hidden` tensor inside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32) * np.float32(scale)
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    stored = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.ones((5, 2), np.float32), "head"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["hidden"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["hidden", "weight"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
        helper.make_node("Identity", ["pixel_values"], ["map"]),
    ]
    shape = ["N", channels, size, size] if layout == "NCHW" else ["N", size, size, channels]
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 5])]
    if more:
        outputs += [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, shape),
        ]
    else:
        nodes = nodes[:2]
    graph = helper.make_graph(nodes, "small", [image], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return weight
