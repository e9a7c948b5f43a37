"""Which group a tag belongs to, by its name as Danbooru spells it: what a picture can get right or wrong.

Composition (solo, close-up), medium (pixel_art, lineart) and gestures belong to no group: they are of a
picture, not of who is in it. The first group that fits is taken: closed_eyes is an expression.
"""

from __future__ import annotations

import re

__all__ = ["FACE", "GROUPS", "HAIR_COLOUR", "PARTS", "group_of", "part_of"]

HAIR_COLOUR = "hair_colour"

_COLOUR = (
    "((light|dark|platinum)_)?(aqua|black|blonde|blue|brown|green|gr[ea]y|orange|pink|purple|red|silver|tan"
    "|white|yellow)"
)
_PATTERNS = {
    "expression": r"""
        angry|annoyed|blush|blush_stickers|clenched_teeth|closed_eyes|closed_mouth|confused|crying|crazed
        |embarrassed|expressionless|fang|frown|grin|half-closed_eyes|happy|heart_eyes|jitome|laughing|light_blush
        |naughty_face|nervous|one_eye_closed|open_mouth|parted_lips|pout|puckered_lips|sad|scared|scowl|serious
        |shy|sleepy|((evil|light|seductive)_)?smile|smirk|smug|surprised|tears|((upper|lower)_)?teeth|tired
        |tongue|tongue_out|v-shaped_eyebrows|wavy_mouth|wide-eyed|wink|worried
        |[:;=>][a-z3<>_^()|/-]{1,2}|\^_\^|@_@|\+_\+|\|_\||o_o""",
    HAIR_COLOUR: rf"({_COLOUR}|multicolored|two-tone|gradient|streaked|colored_inner)_hair",
    "hair": r"""
        ((absurdly|very)_)?(long|medium|short|shoulder-length)_hair|big_hair
        |(curly|messy|spiked|straight|wavy|drill|floating|flipped|pointy|asymmetrical|alternate)_hair
        |hair_(between_eyes|bun|intakes|over_eyes|over_one_eye|over_shoulder|slicked_back|up)|afro|ahoge
        |antenna_hair|bald|balding|bantu_knots|((blunt|swept|parted)_)?bangs|(bob|bowl|buzz|hime|pixie)_?cut
        |((single|side|twin)_)?braids?|cornrows|dreadlocks|double_bun|mohawk|((side|low|high)_)?ponytail
        |quad_tails|sidelocks|topknot|twin_drills|((low|short|long)_)?twintails|undercut|widow's_peak""",
    "glasses": r"([a-z-]+_)?(glasses|eyewear)|sunglasses|goggles|monocle",
    "face": rf"""
        (no_)?facial_hair|beard|goatee|mustache|stubble|sideburns|freckles|lipstick|makeup
        |mole(_under_(eye|mouth))?|scar(_on_face)?|({_COLOUR}|light|dark|very_dark|pale|dark-skinned)_skin""",
    "eye_colour": rf"{_COLOUR}_eyes|heterochromia",
    "clothes": r"""
        ([a-z-]+_)?(apron|armor|beanie|belt|beret|bikini|blazer|bow|bowtie|boots|bra|bracelet|cap|cape|cardigan
        |choker|cloak|clothes|clothing|coat|collar|crown|dress|earrings|eyepatch|footwear|gloves|hakama|hat
        |headband|headgear|headphones|headwear|helmet|hijab|hood|hoodie|jacket|jewelry|kimono|leotard|mask
        |neckerchief|necklace|necktie|pants|pantyhose|pendant|piercing|ribbon|robe|scarf|serafuku|shirt|shoes
        |shorts|skirt|sleeves|socks|suit|suspenders|sweater|swimsuit|thighhighs|tiara|tie|turban|uniform|veil
        |vest)
        |hair_(bobbles|flower|ornament|tubes)|hairband|hairclip|hairpin|tank_top""",
    "background": r"""
        ([a-z-]+_)?background|polka_dot_background|city|cityscape|classroom|clouds?|cloudy_sky|day|forest|grass
        |indoors|night|night_sky|ocean|outdoors|scenery|sky|snow|starry_sky|sunset|trees?|water""",
}
GROUPS = {name: re.compile(pattern, re.VERBOSE) for name, pattern in _PATTERNS.items()}
PARTS = {  # of a face: what of expression and eye colour is drawn there
    "eyes": re.compile(
        rf"""{_COLOUR}_eyes|heterochromia|closed_eyes|crying|half-closed_eyes|heart_eyes|jitome|one_eye_closed
        |tears|wide-eyed|wink|\^_\^|@_@|\+_\+|\|_\||o_o""",
        re.VERBOSE,
    ),
    "mouth": re.compile(
        r"""clenched_teeth|closed_mouth|fang|frown|grin|laughing|open_mouth|parted_lips|pout|puckered_lips
        |((evil|light|seductive)_)?smile|smirk|((upper|lower)_)?teeth|tongue|tongue_out|wavy_mouth""",
        re.VERBOSE,
    ),
}
FACE = ("expression", "eyes", "mouth", "eye_colour", "glasses")  # groups and parts: what smudges first


def group_of(tag: str) -> str | None:
    """The group of a tag, or None if it says nothing of a character or place."""
    return next((name for name, pattern in GROUPS.items() if pattern.fullmatch(tag)), None)


def part_of(tag: str) -> str | None:
    """The part of a face that a tag is of, or None."""
    return next((name for name, pattern in PARTS.items() if pattern.fullmatch(tag)), None)
