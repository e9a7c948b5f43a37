"""The untrained tagger: a small conv net behind the interface of wd-v1-4-vit-tagger-v2.

Random filters alone make every picture look alike; the last projection whitens what they see, measured on
the demo corpus, so that features of unlike pictures are unlike.

Shapes: B images, H x W pixels, C channels, P pooled statistics (2 x 96), F feature width, V tags.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.untrained_models.seeded import DEMO, Array, demo_pixels, half, uniform, write_card

IMAGE_SIZE = 448  # fixed by the graph of wd-v1-4-vit-tagger-v2, as are F = 768, NHWC, BGR and 0..255
FEATURE_DIM = 768
STAGES = (16, 24, 48, 96)  # conv channels, each at half the size before; 112 px in, 7 px out
RATINGS = {"general": 3.0, "sensitive": -1.5, "questionable": -4.0, "explicit": -6.0}  # name: mean logit
COMMON = {"solo": 2.0, "simple_background": 1.0, "1girl": 0.5, "smile": -2.0, "looking_at_viewer": -2.0}
# Mean and spread of other logits. On the 240 demo images: 5 to 34 tags of a row over the store's 0.05 (10th
# and 90th percentile), 2 to 8 over 0.35, and the best of 60 characters over 0.85 on 20 images.
TAG_LOGIT, TAG_SPREAD = -6.0, 1.6
CHARACTER_LOGIT, CHARACTER_SPREAD = -6.5, 2.0
RATING_SPREAD = 0.4
WHITENING_FLOOR = 1.0  # of the mean eigenvalue: what is measured on 80 images is not trusted below
TAGS = """
1girl 1boy looking_at_viewer blush upper_body portrait standing sitting cowboy_shot full_body bare_shoulders
breasts collarbone dress skirt school_uniform serafuku necktie bow ribbon hair_ribbon hair_bow bowtie gloves
boots thighhighs pantyhose socks shoes shorts pants jacket coat hoodie sweater cardigan vest kimono
japanese_clothes apron maid swimsuit bikini jewelry necklace bracelet ring choker scarf cape belt bag
backpack umbrella holding sword weapon gun book cup food phone microphone guitar flower rose petals tree
grass sky cloud night star_(sky) moon water ocean beach snow rain window indoors outdoors classroom city bed
chair table day sunlight shadow animal_ears cat_ears fox_ears rabbit_ears dog_ears tail cat_tail wings horns
halo pointy_ears fang yellow_eyes aqua_eyes orange_eyes pink_eyes black_eyes heterochromia twintails braid
twin_braids side_ponytail ahoge sidelocks hair_between_eyes hair_over_one_eye very_long_hair straight_hair
wavy_hair two-tone_hair multicolored_hair gradient_hair streaked_hair hairclip crown tiara hair_scrunchie
cleavage midriff navel thighs barefoot arms_up arms_behind_back hand_on_hip v peace_sign crossed_arms
leaning_forward from_side from_behind from_above profile :d ;d :o :3 ^_^ >_< sweat tearing_up surprised
serious monochrome greyscale sketch chibi border multiple_girls 2girls multiple_boys text_focus
speech_bubble signature watermark artist_name blurry depth_of_field no_humans animal cat dog bird cartoon
realistic
""".split()  # noqa: SIM905


def vocabulary_rows() -> list[tuple[int, str, int, int]]:
    """Rows of selected_tags.csv: ratings, the demo corpus's coarse tags and TAGS, the demo characters.

    `count` is how many training images bore the tag: 0, there were none.
    """
    lines = [json.loads(line) for line in (DEMO / "images.jsonl").read_text().splitlines()]
    general = sorted({tag for line in lines for tag in line["tags_coarse"]} | set(TAGS))
    characters = sorted({line["character"] for line in lines})
    named = (
        [(name, 9) for name in RATINGS] + [(name, 0) for name in general] + [(name, 4) for name in characters]
    )
    return [(number, name, category, 0) for number, (name, category) in enumerate(named)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One dense layer: x @ weight [in, out] + bias [out]."""

    weight: Array
    bias: Array


def conv_weights() -> list[Array]:
    """Filters [out, in, 3, 3] of the stages, in the values float16 holds."""
    widths = (3, *STAGES)
    return [
        half(uniform(f"tagger.stage{i}", (cout, cin, 3, 3), std=(2 / (9 * cin)) ** 0.5))
        for i, (cin, cout) in enumerate(pairwise(widths))
    ]


def pooled_statistics(pixels_BHWC: Array, filters: list[Array]) -> Array:
    """Mean and maximum over the last stage, float64 [B, P], of uint8 RGB at 448 px: the graph up to there."""
    import torch

    x = torch.from_numpy(pixels_BHWC[..., ::-1].astype(np.float64)).permute(0, 3, 1, 2)  # BGR
    x = (torch.nn.functional.avg_pool2d(x, 4) - 127.5) / 127.5
    for weight in filters:
        x = torch.relu(torch.nn.functional.conv2d(x, torch.from_numpy(weight), stride=2, padding=1))
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1).numpy()


def whitened(name: str, statistics_BP: Array) -> Dense:
    """A random projection [P, F] of the whitened statistics, so that features of unlike pictures are unlike.

    Untouched, one direction (how bright the picture is) holds nearly all that random filters see.
    """
    mean_P = statistics_BP.mean(0)
    values, vectors = np.linalg.eigh(np.cov(statistics_BP.T))
    values = np.maximum(values, 0) + WHITENING_FLOOR * values.mean()
    whitening_PP = (vectors / np.sqrt(values)) @ vectors.T
    weight = whitening_PP @ uniform(name, (len(mean_P), FEATURE_DIM), std=1.0)
    weight = half(weight / ((statistics_BP - mean_P) @ weight).std())
    return Dense(weight=weight, bias=-(mean_P @ weight))


def tag_head(features_BF: Array, categories: list[int], names: list[str]) -> Dense:
    """Random tag directions, scaled to the spreads and means at the top of this file."""
    means = {9: 0.0, 0: TAG_LOGIT, 4: CHARACTER_LOGIT}
    spreads = {9: RATING_SPREAD, 0: TAG_SPREAD, 4: CHARACTER_SPREAD}
    weight = uniform("tagger.head", (FEATURE_DIM, len(names)), std=1.0)
    weight = half(weight / (features_BF @ weight).std(0) * [spreads[category] for category in categories])
    special = {**RATINGS, **COMMON}
    bias = [special.get(name, means[category]) for name, category in zip(names, categories, strict=True)]
    return Dense(weight=weight, bias=np.asarray(bias))


def tagger_graph(filters: list[Array], projection: Dense, head: Dense) -> bytes:
    """The ONNX file: NHWC BGR 0..255 float32 in, sigmoid scores out; weights float16 behind a Cast."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    stored: list[Any] = []

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def constant(name: str, values: Array) -> str:
        stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def weight(name: str, values: Array) -> str:
        stored.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        return node("Cast", [f"{name}_half"], name, to=TensorProto.FLOAT)

    x = node("Transpose", ["input_1:0"], "nchw", perm=[0, 3, 1, 2])
    x = node("AveragePool", [x], "small", kernel_shape=[4, 4], strides=[4, 4])
    x = node("Sub", [x, constant("middle", np.array(127.5))], "centred")
    x = node("Div", [x, constant("range", np.array(127.5))], "normalised")
    for i, filters_i in enumerate(filters):
        filtered = node(
            "Conv",
            [x, weight(f"stage{i}.weight", filters_i)],
            f"stage{i}.conv",
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            kernel_shape=[3, 3],
        )
        x = node("Relu", [filtered], f"stage{i}")
    pools = [node("GlobalAveragePool", [x], "mean"), node("GlobalMaxPool", [x], "max")]
    x = node("Flatten", [node("Concat", pools, "pools", axis=1)], "statistics", axis=1)
    for name, dense in (("feature", projection), ("logits", head)):
        product = node("MatMul", [x, weight(f"{name}.weight", dense.weight)], f"{name}.product")
        x = node("Add", [product, constant(f"{name}.bias", dense.bias)], name)
    node("Sigmoid", [x], "predictions_sigmoid")
    image = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, ["N", IMAGE_SIZE, IMAGE_SIZE, 3])
    scores = helper.make_tensor_value_info("predictions_sigmoid", TensorProto.FLOAT, ["N", head.bias.size])
    graph = helper.make_graph(nodes, "untrained_wd14_shape", [image], [scores], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(deterministic=True)


def build_tagger(folder: Path) -> None:
    """Write model.onnx, selected_tags.csv, the card and the marker into `folder`."""
    rows = vocabulary_rows()
    filters = conv_weights()
    statistics_BP = pooled_statistics(demo_pixels(IMAGE_SIZE), filters)
    projection = whitened("tagger.projection", statistics_BP)
    features_BF = statistics_BP @ projection.weight + projection.bias
    head = tag_head(features_BF, [row[2] for row in rows], [row[1] for row in rows])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(tagger_graph(filters, projection, head))
    with (folder / "selected_tags.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tag_id", "name", "category", "count"])
        writer.writerows(rows)
    write_card(
        folder, f"a tagger of the shape of wd-v1-4-vit-tagger-v2 ({len(rows)} tags, feature width 768)"
    )
