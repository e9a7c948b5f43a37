from __future__ import annotations

import ast
import dataclasses
import inspect
import tomllib
from pathlib import Path

import pytest

from pfgdata.errors import ConfigError
from pfgtrain.config import AdamW, FitConfig, load_config, read_fit_table, read_table, toml_of
from pfgtrain.config.aliases import SYNONYMS


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_written_as_toml_reads_back_equal(tmp_path: Path) -> None:
    config = FitConfig(
        prompt='a "quoted" \\ 猫\n\t\x7f\x01 €',
        learning_rate=1e-7,
        max_train_steps=12,
        gradient_checkpointing=True,
        snr_gamma=5.0,
        where="character = 'special_week'",
        train="lora",
        lora_alpha=8.0,
        target_modules=["to_q", 'a "b"'],
        caption="tags",
        ema_power=0.75,
        adamw=AdamW(beta1=0.5),
    )
    assert load_config(write(tmp_path / "config.toml", config.to_toml()), {}) == config


def test_toml_numbers_keep_every_bit() -> None:
    table = {"tiny": 5e-324, "third": 1 / 3, "large": 1e22, "whole": 2.0, "count": 10**18, "flag": False}
    read = tomllib.loads(toml_of(table))
    assert read == table
    assert {name: type(value) for name, value in read.items()} == {n: type(v) for n, v in table.items()}


def test_the_fit_table_of_a_recipe_is_taken_and_its_other_tables_are_left(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.toml", '[latents]\nbase = "demo"\n[fit]\nlearning_rate = 1\n')
    assert load_config(path, {}) == FitConfig(learning_rate=1.0)


def test_flags_stand_above_the_file_and_none_is_not_given(tmp_path: Path) -> None:
    path = write(tmp_path / "fit.toml", 'train = "adapter"\nseed = 3\n')
    config = load_config(path, {"seed": 4, "train": None})
    assert (config.train, config.seed) == ("adapter", 4)


def test_one_key_of_an_optimizers_table_stands_above_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.toml", "[fit]\nseed = 1\n[fit.adamw]\nbeta1 = 0.8\nbeta2 = 0.9\n")
    config = load_config(path, {"adamw.beta2": 0.95, "seed": 2})
    assert config == FitConfig(seed=2, adamw=AdamW(beta1=0.8, beta2=0.95))
    assert load_config(None, {"adamw.epsilon": 1e-6}).adamw == AdamW(epsilon=1e-6)


def test_epochs_as_a_flag_win_over_steps_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "fit.toml", "max_train_steps = 100\n")
    config = load_config(path, {"num_train_epochs": 2})
    assert (config.max_train_steps, config.num_train_epochs) == (None, 2)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("snr_gama = 5.0", "did you mean snr_gamma"),
        ("unet_lr = 1e-5", "here it is learning_rate"),
        ("max_train_epochs = 3", "here it is num_train_epochs"),
        ("min_snr_gamma = 5", "here it is snr_gamma"),
        ("adam_beta1 = 0.5", "here it is adamw.beta1"),
        ("[fit]\nadam_weight_decay = 0.5", "here it is adamw.weight_decay"),
        ("[adamw]\nbeta_1 = 0.5", "unknown key 'adamw.beta_1'; did you mean beta1"),
        ("v_parameterization = true", 'here it is prediction_type = "v_prediction"'),
        ('output_dir = "x"', "that is the option --out"),
        ("zzz = 1", "known are base, "),
    ],
)
def test_an_unknown_key_is_answered_with_ours(tmp_path: Path, text: str, hint: str) -> None:
    path = write(tmp_path / "fit.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert hint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('learning_rate = "1e-5"', 'learning_rate = "1e-5" is not a number'),
        ("seed = true", "seed = true is not a whole number"),
        ("seed = [true]", "seed = [true] is not a whole number"),
        ("[adamw]\nbeta2 = {a = true}", "adamw.beta2 = {a = true} is not a number"),
        ("seed = 1.5", "seed = 1.5 is not a whole number"),
        ("gradient_checkpointing = 1", "is not true or false"),
        ('train = "locon"', 'train = "locon" is not one of unet, adapter, lora'),
        ('uncond = "none"', "is not one of zeros, eos"),
        ('prediction_type = "sample"', "is not one of epsilon, v_prediction"),
        ('lr_scheduler = "cosin"', "is not one of constant, "),
        ("condition_dropout = 1.5", "is not 0 to 1"),
        ("learning_rate = nan", "is not 0 or more"),
        (f"max_grad_norm = 1{'0' * 400}", "max_grad_norm is too large for a number"),
        (f"[adamw]\nepsilon = 1{'0' * 400}", "adamw.epsilon is too large for a number"),
        ("train_batch_size = 0", "is not above 0"),
        ("num_tokens = -1", "is not 0 or more"),
        ("snr_gamma = 0.0", "is not above 0"),
        ("lr_warmup_steps = 5", "constant_with_warmup"),
        ("seed = [1]", "is not a whole number"),
        ("adamw = 1", "adamw = 1 is not a table"),
        ("[adamw]\nbeta2 = 1", "adamw.beta2 = 1.0 is not 0 to 1, and below 1"),
        ("[adamw]\nepsilon = 'x'", 'adamw.epsilon = "x" is not a number'),
        ('optimizer = "lion"', 'optimizer = "lion" is not one of adamw'),
        ('lr_scheduler = "polynomial"\nlearning_rate = 0', "learning_rate = 0.0 is not above 1e-07"),
        (
            'lr_scheduler = "polynomial"\ntrain = "adapter"\nadapter_learning_rate = 0',
            "adapter_learning_rate = 0.0 is not above 1e-07",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path / "fit.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_may_begin_with_the_mark_of_utf_8(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfseed = 7\r\n")
    assert load_config(tmp_path / "x.toml", {}).seed == 7


@pytest.mark.parametrize(
    ("text", "problem"), [("a\0b", "holds a NUL"), ("a\udcff", "is not UTF-8 text")], ids=["NUL", "bytes"]
)
@pytest.mark.parametrize("key", ["prompt", "where", "base", "target_modules"])
def test_what_no_tokenizer_and_no_file_can_hold_is_refused(key: str, text: str, problem: str) -> None:
    value = [text] if key == "target_modules" else text
    with pytest.raises(ConfigError, match=f"{key} = .*{problem}"):
        load_config(None, {key: value})


def test_files_that_are_no_config_are_refused(tmp_path: Path) -> None:
    for content, problem in [
        (b"seed = ", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"seed = " + b"[" * 5000, "not TOML"),
        (b"[fit]\n[generat]\n", r"unknown table \[generat\]"),
        (b"[latents]\n", r"no table \[fit\]"),
    ]:
        (tmp_path / "x.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=problem):
            read_fit_table(tmp_path / "x.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_fit_table(tmp_path / "none.toml")


def test_only_what_does_not_touch_past_steps_may_change_on_resume() -> None:
    begun = FitConfig(max_train_steps=10)
    assert FitConfig(max_train_steps=20, logging_steps=1, checkpointing_steps=7).changed_from(begun) == []
    assert FitConfig(num_train_epochs=3).changed_from(begun) == []
    cosine = FitConfig(max_train_steps=10, lr_scheduler="cosine")  # the rate of each step follows the length
    longer = dataclasses.replace(cosine, max_train_steps=20, logging_steps=1)
    assert longer.changed_from(cosine) == ["max_train_steps"]
    assert FitConfig(seed=1, num_tokens=4).changed_from(begun) == ["num_tokens", "seed"]


def test_every_field_has_a_sentence() -> None:
    (node,) = ast.parse(inspect.getsource(FitConfig)).body
    assert isinstance(node, ast.ClassDef)
    documented = {
        statement.target.id
        for statement, following in zip(node.body, node.body[1:], strict=False)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and str(following.value.value).endswith(".")
    }
    assert documented == {field.name for field in dataclasses.fields(FitConfig)}


def test_every_synonym_leads_to_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    fields |= {f"adamw.{field.name}" for field in dataclasses.fields(AdamW)} | {"preprocess"}  # of [ingest]
    assert {name.split()[0].rstrip(",") for name in SYNONYMS.values()} <= fields
    assert not fields & SYNONYMS.keys()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"network_dim": 8}, "unknown key 'network_dim'; here it is r"),
        ({"network_alpha": 8}, "here it is lora_alpha"),
        ({"caption_dropout": 0.1}, "here it is caption_dropout_rate"),
        ({"train": "locon"}, "one of unet, adapter, lora"),
        ({"train": "adapter", "num_tokens": 0}, "num_tokens = 0 is not possible .*nothing learns"),
        ({"condition_dropout": 0.6, "pfg_dropout": 0.5}, r"it makes 1\.1 of all rows"),
        ({"num_tokens": 0, "pfg_dropout": 0.5}, "pfg_dropout = 0.5 is not possible with num_tokens = 0"),
        ({"shuffle_caption": True}, "shuffle_caption = true is not of use without a caption"),
        ({"clip_skip": 0}, "clip_skip = 0 is not above 0"),
        ({"target_modules": []}, "target_modules"),
        ({"validation_split": 1.5}, "validation_split = 1.5 is not 0 to 1"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        FitConfig.of(table, source="x.toml")
    assert str(caught.value).startswith("x.toml: ")
    assert "\n" not in str(caught.value)


def test_what_learns_follows_from_train_and_tokens() -> None:
    for train, tokens, parts in [
        ("unet", 5, ("adapter", "unet")),
        ("unet", 0, ("unet",)),
        ("lora", 5, ("adapter", "lora")),
        ("lora", 0, ("lora",)),
        ("adapter", 1, ("adapter",)),
    ]:
        assert FitConfig.of({"train": train, "num_tokens": tokens}, source="x").learning_parts == parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Another table of a recipe."""

    images: str
    guides: list[str] = dataclasses.field(default_factory=list)
    scale: float = 1.0
    steps_in_all: int | None = None


def test_any_table_of_a_recipe_is_read_the_same_way() -> None:
    read = read_table(Table, {"images": "a", "guides": ["b"], "scale": 2}, source="x")
    assert read == Table(images="a", guides=["b"], scale=2.0)
    wrong: list[tuple[dict[str, object], str]] = [
        ({}, "images is missing; it is text"),
        ({"images": "a", "guides": "b"}, 'guides = "b" is not a list, each text'),
        ({"images": "a", "guides": [1]}, "is not a list, each text"),
        ({"images": "a", "steps": 1}, r"unknown key 'steps'; did you mean|known are"),  # no word of [fit]'s
    ]
    for table, said in wrong:
        with pytest.raises(ConfigError, match=said):
            read_table(Table, table, source="x")
