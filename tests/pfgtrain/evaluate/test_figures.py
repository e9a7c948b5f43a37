"""All figures of one viewer on a scene worked out by hand: four guides at the corners of a square.

Guides 0 and 1 are of style a, 2 and 3 of b; 2 alone has blue hair; 3 has no other view.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from pfgtrain.evaluate import EvaluateOptions, Figure, Guide, ViewerReport
from pfgtrain.evaluate.figures import measure
from pfgtrain.evaluate.rows import Seen
from pfgtrain.evaluate.viewers import Embeddings, Pool, Viewer
from tests.pfgtrain.evaluate.small_evaluation import TAGS, HairTagger

CORNERS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
VIEWER = Viewer(role="tagger", tagger=HairTagger(), threshold=0.35)
RED, BLUE = "red_hair", "blue_hair"
GUIDES = [
    Guide(name="0", character="0", views=(), style="a", tags=frozenset({RED, "glasses"})),
    Guide(name="1", character="1", views=(), style="a", tags=frozenset({RED})),
    Guide(name="2", character="2", views=(), style="b", tags=frozenset({BLUE})),
    Guide(name="3", character="3", views=(), style="b", tags=frozenset({RED})),
]


def pool(features: npt.ArrayLike, owners: list[int], tags: dict[int, list[str]] | None = None) -> Pool:
    array = np.asarray(features, np.float32)
    present = np.zeros((len(array), len(VIEWER.tags)), np.bool_)
    for picture, names in (tags or {}).items():
        present[picture] = [tag in names for tag in VIEWER.tags]
    return Pool(embeddings=Embeddings(features_MF=array, present_MT=present), owners_M=np.array(owners))


RESULTS = pool(  # two a guide: both right; one right, one as guide 0; both as guide 3; both like none
    [*CORNERS[[0, 0, 1, 0, 3, 3]], [0, 0], [0, 0]],
    [0, 0, 1, 1, 2, 2, 3, 3],
    {0: ["glasses", "long_hair"], 3: ["glasses"]},
)
CEILING = pool(CORNERS, [0, 1, 2, 3], {0: [RED, "glasses"], 1: [RED], 2: [BLUE], 3: [RED]})
SEEN = Seen(
    raw=CEILING,
    ceiling=CEILING,
    others=pool(CORNERS[:3], [0, 1, 2]),
    views=pool([*CORNERS, *CORNERS[:3]], [0, 1, 2, 3, 0, 1, 2]),
    results=RESULTS,
    no_pfg=pool(CORNERS[:1], [-1]),
    copies=pool(CORNERS[[1, 0]], [0, 1]),
)


def report(seen: Seen = SEEN, guides: list[Guide] = GUIDES) -> ViewerReport:
    return measure(VIEWER, seen, guides, options=EvaluateOptions(resamples=200))


def value(figure: Figure | None) -> float:
    assert figure is not None
    return figure.value


def test_cosines_are_means_over_pictures_then_guides_and_scaled_between_shuffled_and_ceiling() -> None:
    rows = report().rows
    assert rows["pfg"].cosines == pytest.approx([1, 0.5, 0, 0])
    assert rows["shuffled"].cosines == pytest.approx([-1 / 6, 0, -1 / 6, -1 / 6])
    assert value(rows["ceiling"].cosine) == pytest.approx(1)
    assert value(rows["pfg"].scaled) == pytest.approx((0.375 + 0.125) / (1 + 0.125))
    assert (value(rows["shuffled"].scaled), value(rows["ceiling"].scaled)) == pytest.approx((0, 1))


def test_a_guide_is_looked_up_in_the_gallery_of_all_guides() -> None:
    found = report().rows["pfg"].retrieval["guide"]
    assert found.ranks == [[1, 1], [1, 3], [3, 3], [4, 4]]
    assert value(found.top1) == 0.375
    assert value(found.top5) == 1


def test_what_all_pictures_share_changes_nothing() -> None:
    moved = {
        name: pool(seen.embeddings.features_MF + 10, seen.owners_M.tolist())
        for name in ("raw", "views", "ceiling", "others", "results", "no_pfg", "copies")
        if (seen := getattr(SEEN, name)) is not None
    }
    for name, row in report(replace(SEEN, **moved)).rows.items():
        for gallery, found in row.retrieval.items():
            assert found.ranks == report().rows[name].retrieval[gallery].ranks, (name, gallery)


def test_a_viewer_sees_the_tags_from_its_threshold_on() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    scores = VIEWER.tagger.predict(image[None])[0][0]
    (seen,) = VIEWER.see([image]).present_MT
    names = VIEWER.tagger.vocabulary.names
    assert VIEWER.tags == tuple(name for name in names if name in TAGS and name != "solo")
    assert seen.tolist() == [bool(scores[names.index(tag)] >= 0.35) for tag in VIEWER.tags]
    assert set(seen.tolist()) == {True, False}


def test_within_a_style_only_its_guides_are_in_the_gallery() -> None:
    found = report().rows["pfg"].retrieval["guide_in_style"]
    assert found.ranks == [[1, 1], [1, 2], [2, 2], [2, 2]]


def test_a_guide_without_another_view_is_left_out_of_the_gallery_of_views() -> None:
    found = report().rows["ceiling"].retrieval["view"]
    assert found.ranks == [[1], [1], [1], None]
    assert found.top1 is not None
    assert (found.top1.value, found.top1.guides) == (1, 3)
    in_style = report().rows["ceiling"].retrieval["view_in_style"]
    assert in_style.ranks == [[1], [1], None, None]  # guide 2 would be alone


def test_the_shuffled_row_looks_up_the_pictures_of_another_guide() -> None:
    perfect = replace(SEEN, results=pool(CORNERS, [0, 1, 2, 3]))
    rows = report(perfect).rows
    assert value(rows["pfg"].retrieval["guide"].top1) == 1
    assert value(rows["shuffled"].retrieval["guide"].top1) == 0


def test_pictures_of_no_guide_find_each_guide_once_at_most() -> None:
    found = report().rows["no_pfg"].retrieval["guide"]
    assert found.ranks == [[1], [3], [3], [4]]
    assert value(found.top1) == 0.25


def test_chance_is_one_over_the_gallery() -> None:
    assert report().chance["guide"] == (0.25, 1)
    assert report().chance["guide_in_style"] == (0.5, 1)
    assert report().chance["view"] == (1 / 3, 1)


def test_what_knows_the_style_guesses_within_it_and_with_the_hair_within_both() -> None:
    rows = report().rows
    assert value(rows["style"].retrieval["guide"].top1) == 0.5
    assert value(rows["style"].retrieval["guide"].top5) == 1
    assert value(rows["style_hair"].retrieval["guide"].top1) == 0.75  # 2 and 3 differ in hair
    assert rows["style"].cosines == pytest.approx([0, 0, 0, 0])
    assert rows["style_hair"].cosines == [pytest.approx(0), pytest.approx(0), None, None]
    assert rows["style"].retrieval["guide"].ranks == [None] * 4


def test_a_guide_whose_copy_is_not_here_is_left_out_of_the_copier() -> None:
    row = report().rows["copier"]
    assert row.cosines == [pytest.approx(0), pytest.approx(0), None, None]
    assert row.cosine is not None
    assert row.cosine.guides == 2


def test_f1_is_over_pairs_of_guide_and_tag_a_picture_counting_its_share() -> None:
    found = report()
    assert value(found.rows["pfg"].attributes["glasses"]) == pytest.approx(2 * 0.5 / (0.5 + 0.5 + 1))
    assert value(found.rows["pfg"].attributes["hair_colour"]) == 0
    assert value(found.rows["ceiling"].attributes["hair_colour"]) == 1


def test_a_face_is_told_as_a_share_of_what_the_vae_leaves_of_it() -> None:
    """The ceiling sees the glasses of guide 0 and others on guide 1: F1 2/3. The run's pictures: 1/2."""
    blurred = pool(CORNERS, [0, 1, 2, 3], {0: ["glasses"], 1: ["glasses"]})
    found = report(replace(SEEN, ceiling=blurred))
    assert list(found.rows["pfg"].face) == ["glasses"]
    assert value(found.rows["pfg"].face["glasses"]) == pytest.approx((1 / 2) / (2 / 3))
    assert value(found.rows["ceiling"].face["glasses"]) == 1
    assert report(replace(SEEN, ceiling=pool(CORNERS, [0, 1, 2, 3]))).rows["pfg"].face == {"glasses": None}


def test_eyes_and_mouth_are_told_apart_within_expression_and_eye_colour() -> None:
    tags = [frozenset(names) for names in (["smile", "green_eyes"], ["smile"], [], [])]
    guides = [replace(guide, tags=own) for guide, own in zip(GUIDES, tags, strict=True)]
    seen = {n: ["smile"] for n in (0, 1, 2)} | {3: ["green_eyes"]}  # the second picture of guide 1 is wrong
    everything = pool(CORNERS, [0, 1, 2, 3], {0: ["smile", "green_eyes"], 1: ["smile"]})
    results = pool(RESULTS.embeddings.features_MF, RESULTS.owners_M.tolist(), seen)
    row = report(replace(SEEN, ceiling=everything, results=results), guides).rows["pfg"]
    assert list(row.face) == ["expression", "eyes", "mouth", "eye_colour"]
    assert value(row.face["mouth"]) == pytest.approx(2 * 1.5 / (1.5 + 2))
    assert row.face["mouth"] == row.face["expression"]
    assert value(row.face["eyes"]) == 0
    assert report(guides=guides).tags == {"expression": 1, "eye_colour": 1}


def test_kid_is_to_the_other_views_as_they_are_for_the_rows_that_are_pictures_of_each_guide() -> None:
    plain = pool(CORNERS[:3], [0, 1, 2])
    found = report(replace(SEEN, plain=plain))
    given = {name for name, row in found.rows.items() if row.kid is not None}
    assert given == {"pfg", "copier", "ceiling"}
    assert found.kid_real == found.rows["ceiling"].kid  # here the VAE changes nothing
    assert found.kid_real is not None and found.kid_real.guides == 3
    moved = report(replace(SEEN, plain=plain, ceiling=pool(np.add(CORNERS, [9, 0]), [0, 1, 2, 3])))
    assert value(moved.rows["ceiling"].kid) > value(moved.kid_real) + 1


def test_without_other_views_there_is_nothing_real_to_be_near() -> None:
    found = report(replace(SEEN, plain=None))
    assert found.kid_real is None
    assert {row.kid for row in found.rows.values()} == {None}


def test_a_tag_that_no_guide_has_does_not_count() -> None:
    assert report().tags == {"hair_colour": 2, "glasses": 1}


def test_without_true_tags_a_guide_has_those_the_viewer_sees_in_it() -> None:
    assert report(guides=[replace(guide, tags=None) for guide in GUIDES]) == report()


def test_without_styles_there_are_no_oracles_and_no_galleries_of_a_style() -> None:
    found = report(guides=[replace(guide, style=None) for guide in GUIDES])
    assert set(found.rows) == {"pfg", "no_pfg", "shuffled", "copier", "ceiling"}
    assert set(found.chance) == {"guide", "view"}


def test_with_one_other_view_there_is_no_gallery_of_views() -> None:
    assert "view" not in report(replace(SEEN, others=pool(CORNERS[:1], [0]))).chance


def test_two_equal_guides_are_never_told_apart() -> None:
    twins = pool(CORNERS[[0, 0, 2, 3]], [0, 1, 2, 3])
    found = report(replace(SEEN, raw=twins, ceiling=twins)).rows["ceiling"].retrieval["guide"]
    assert found.ranks == [[2], [2], [1], [1]]


def test_diversity_is_between_pictures_of_one_guide_beside_views_of_one_character() -> None:
    found = report().diversity
    assert value(found.results) == pytest.approx(0.5)
    assert found.views is not None
    assert found.views.value == pytest.approx(0)
    assert found.views.guides == 3
