"""Tags by group: Danbooru's names, and none of those that only one drawing style has."""

from __future__ import annotations

import pytest

from pfgtrain.evaluate.attributes import FACE, GROUPS, PARTS, group_of, part_of


@pytest.mark.parametrize(
    ("group", "tags"),
    [
        (
            "hair",
            "short_hair very_long_hair curly_hair twintails low_twintails hair_bun bangs bald widow's_peak",
        ),
        ("hair_colour", "black_hair light_brown_hair platinum_blonde_hair multicolored_hair aqua_hair"),
        ("glasses", "glasses sunglasses no_glasses red_eyewear eyewear"),
        ("face", "beard mustache no_facial_hair freckles tan_skin dark_skin light_skin mole mole_under_eye"),
        ("eye_colour", "blue_eyes light_blue_eyes heterochromia"),
        (
            "clothes",
            "white_shirt hat baseball_cap hair_flower hair_ornament earrings hijab patterned_clothing",
        ),
        (
            "expression",
            "smile closed_eyes closed_mouth one_eye_closed half-closed_eyes :d >_< ^_^ blush teeth",
        ),
        ("background", "simple_background white_background outdoors night_sky polka_dot_background"),
        (
            None,
            "solo 1girl lineart pixel_art close-up hands_up waving lorelei_hair_variant04 notionists_hair_hat"
            " lorelei_hairColor_0e0e0e adventurer_features_blush open-peeps_accessories_glasses"
            " open-peeps_head_afro hatsune_miku",
        ),
    ],
)
def test_a_tag_belongs_to_its_group(group: str | None, tags: str) -> None:
    assert {tag: group_of(tag) for tag in tags.split()} == dict.fromkeys(tags.split(), group)


@pytest.mark.parametrize(
    ("part", "tags"),
    [
        (
            "eyes",
            "blue_eyes light_blue_eyes heterochromia closed_eyes one_eye_closed half-closed_eyes tears ^_^",
        ),
        ("mouth", "smile evil_smile frown open_mouth closed_mouth grin teeth upper_teeth tongue_out pout"),
        (None, "angry blush worried sunglasses hair_between_eyes eyewear mole_under_mouth solo"),
    ],
)
def test_a_tag_belongs_to_its_part_of_a_face(part: str | None, tags: str) -> None:
    assert {tag: part_of(tag) for tag in tags.split()} == dict.fromkeys(tags.split(), part)


def test_what_tells_a_face_is_a_group_or_a_part_of_two() -> None:
    assert set(FACE) <= {*GROUPS, *PARTS}
    told = (
        "closed_eyes half-closed_eyes tears green_eyes heterochromia smile open_mouth teeth tongue_out frown"
    )
    assert {group_of(tag) for tag in told.split()} == {"expression", "eye_colour"}
    assert {part_of(tag) for tag in told.split()} == set(PARTS)
