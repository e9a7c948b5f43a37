"""Files beside a model that are broken, or say what no model is: one line, naming the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pfgdata.conventions import Labels
from pfgdata.errors import GraphError, ModelError, PfgError, VocabularyError
from pfgdata.taggers import OnnxTagger
from pfgdata.taggers.labels import read_labels
from pfgdata.taggers.stated import Graph, stated
from tests.pfgdata.taggers.seers import Seer, write_labels, write_seer
from tests.pfgdata.taggers.test_conventions import TIMM, of_catalog

REST = "channels = 'RGB'\nsquare = 'kohya'\noutput = 'logits'\nlabels = 'x.csv'"


@pytest.mark.parametrize("count", ["1e400", "1e30", "nan"])
def test_a_count_that_is_no_number_is_one_line(count: str, tmp_path: Path) -> None:
    (tmp_path / "selected_tags.csv").write_text(f"name,category,count\nsmile,0,{count}\n")
    with pytest.raises(VocabularyError, match=r"selected_tags\.csv: "):
        read_labels(tmp_path, of_catalog("pixai-tagger-v0.9"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("convention.json", "[" * 100_000),
        ("convention.toml", f"size = {'[' * 100_000}"),
        *(
            ("convention.toml", f"{line}\n{REST}")
            for line in (
                "size = inf",
                "size = 448.5",
                "size = true",
                f"mean = [1{'0' * 400}, 1, 1]\nstd = [1, 1, 1]",
            )
        ),
        ("preprocess.json", "[" * 100_000),
        ("preprocess.json", '{"stages": [{"type": "resize", "size": [1e400, 1e400]}]}'),
        ("preprocess.json", '{"stages": [{"type": "resize", "size": []}]}'),
        ("config.json", json.dumps(TIMM).replace("0.875", "1e-320")),
    ],
)
def test_a_file_that_says_no_convention_is_one_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "selected_tags.csv").write_text("name,category,count\nsmile,0,1\n")
    with pytest.raises(PfgError, match=name) as caught:
        stated(tmp_path, Graph(layout="NCHW", size=448, has_scores=False))
    assert "\n" not in str(caught.value)


def test_a_graph_of_logits_and_labels_of_another_length_are_told_apart(tmp_path: Path) -> None:
    seer = Seer(size=32, output="logits")
    convention = replace(of_catalog("pixai-tagger-v0.9"), size=32, square=("stretch 32 bilinear",))
    convention = replace(convention, output="logits", labels=Labels())
    write_seer(tmp_path, seer)
    write_labels(tmp_path, replace(seer, tags={**seer.tags, "one_more": "general"}), convention.labels)
    with pytest.raises(GraphError, match=r"gives 5 scores, selected_tags\.csv names 6 tags; take both"):
        OnnxTagger.load(str(tmp_path), preprocess=convention, device="cpu")


def test_tags_alone_do_not_say_how_a_graph_with_the_channels_first_wants_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "selected_tags.csv").write_text("name,category,count\nsmile,0,1\n")
    with pytest.raises(ModelError, match=r"selected_tags\.csv does not say how .* pass --convention FILE"):
        stated(tmp_path, Graph(layout="NCHW", size=448, has_scores=True))
    nhwc = stated(tmp_path, Graph(layout="NHWC", size=448, has_scores=True))
    assert nhwc.convention.is_wd
