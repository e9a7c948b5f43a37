"""The training code of the demo models, at sizes where a step takes milliseconds."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError
from pfgdata.hub import resolve
from pfgdata.records import LatentScale
from pfgdata.taggers import OnnxTagger
from pfgdata.vaes import Vae
from pfgdata.vocabulary import Vocabulary
from pfgtrain.base import Base
from pipelines.demo_models import augment, export, load_split, scores
from pipelines.demo_models.adversary import ALONE, Adversary
from pipelines.demo_models.base import write_start
from pipelines.demo_models.data import Row
from pipelines.demo_models.loop import LoopRecipe, Trainer, epoch_indices
from pipelines.demo_models.nets import JudgeNet, TaggerNet, normalise
from pipelines.demo_models.onnx_graph import classifier_onnx
from pipelines.demo_models.optim import orthogonal
from pipelines.demo_models.perceptual import SIDE, SeenMaps, seen_distance
from pipelines.demo_models.recipe import RECIPE_FILE, load_recipe
from pipelines.demo_models.tagger import ClassifierRecipe, ClassifierTask
from pipelines.demo_models.text import Pairing, TextRecipe, TextTask
from pipelines.demo_models.tokenizer import load_tokenizer
from pipelines.demo_models.vae import (
    Codec,
    VaeRecipe,
    VaeTask,
    chroma_distance,
    noise_like,
    unexplained_colour,
)
from pipelines.demo_models.vocabulary import Tags, choose_tags
from pipelines.ending import ended

CPU = torch.device("cpu")
NEXT = RECIPE_FILE.with_name("next.toml")
LOOP = LoopRecipe(steps=4, batch_size=4, warmup_steps=2, seed=7)
TAGGER = ClassifierRecipe(
    net="tagger",
    widths=(8, 8),
    blocks=(0, 1),
    input_size=64,
    small_size=12,
    small_steps=2,
    least_count=1,
    loop=LOOP,
)
JUDGE = replace(TAGGER, net="judge", blocks=(1, 1), input_size=128)
VAE = VaeRecipe(widths=(8, 8, 8, 8), loop=LOOP)
TEXT = TextRecipe(width=16, layers=1, heads=2, common=8, frequent_merges=2, loop=LOOP)


def rows() -> list[Row]:
    """Two learnt characters, two of the demo corpus, two held out; four views each, two colours of hair."""
    people = [(corpus, n) for corpus in ("portraits", "demo") for n in (0, 1)]
    people += [("portraits", 398), ("portraits", 399)]
    split = load_split()
    made = []
    for corpus, number in people:
        character = f"lorelei-{corpus[0]}{number:04d}"
        hair = ("black_hair", "red_hair")[number % 2]
        for view in range(4):
            row = Row(
                file=Path(f"{character}-v{view}.png"),
                corpus=corpus,
                role=split.role(corpus, character),
                style="lorelei",
                character=character,
                tags=(hair, "solo", f"lorelei_hair_variant{number}"),
                coarse=(hair, "solo"),
            )
            made.append(row)
    return made


def pictures(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, size, size, 3), dtype=np.uint8)


def classifier(recipe: ClassifierRecipe) -> ClassifierTask:
    return ClassifierTask(rows(), pictures(recipe.size), recipe=recipe, device=CPU)


def quiet(line: str) -> None:
    """What a training in a test says to the screen."""


def weights_after(folder: Path, *, sittings: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Averaged weights of a training that was stopped after each of `sittings` steps and taken up again."""
    made = Trainer(classifier(TAGGER), recipe=LOOP, folder=folder)
    for steps in sittings:
        made = Trainer(classifier(TAGGER), recipe=LOOP, folder=folder)
        for _ in range(steps):
            made.one_step()
        made.save()
    return made.ema


def test_the_split_gives_every_character_of_each_corpus_exactly_one_role() -> None:
    split = load_split()
    assert split.role("portraits", "pixel-art-p0359") == "train"
    assert split.role("portraits", "pixel-art-p0360") == "validation"
    assert split.role("guides", "open-peeps-g0009") == "report"
    assert split.role("guides", "open-peeps-g0010") == "tune"
    for ranges in split.ranges.values():
        numbers = [n for first, last in ranges.values() for n in range(first, last + 1)]
        assert sorted(numbers) == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("corpus", "name"), [("portraits", "lorelei-p0400"), ("mini", "lorelei-m0000"), ("x", "y")]
)
def test_a_character_outside_the_split_is_refused(corpus: str, name: str) -> None:
    with pytest.raises(ConfigError):
        load_split().role(corpus, name)


def test_the_shipped_recipe_is_valid() -> None:
    recipe = load_recipe()
    assert recipe.tagger.input_size == 448
    assert recipe.judge.loop.seed != recipe.tagger.loop.seed
    num_tags = 1000
    tagger = recipe.tagger.build(num_tags)
    assert sum(p.numel() for p in tagger.parameters()) - num_tags * 769 <= 2_000_000


def test_a_recipe_with_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RECIPE_FILE.read_text().replace("noise =", "niose ="))
    with pytest.raises(ConfigError, match="niose"):
        load_recipe(wrong)


def test_a_recipe_that_is_no_toml_or_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text("[vae")
    for name in ("wrong.toml", "absent.toml"):
        assert ended(partial(load_recipe, tmp_path / name)) == 1
        said = capsys.readouterr().err
        assert name in said and said.startswith("error: ") and said.count("\n") == 1


def test_the_vocabulary_holds_the_demo_characters_and_is_read_by_the_product(tmp_path: Path) -> None:
    learnt = [row for row in rows() if row.role != "validation"]
    tags = choose_tags(learnt, least=5)
    variants = ("lorelei_hair_variant0", "lorelei_hair_variant1")
    assert tags.names[4:8] == ("solo", "black_hair", *variants)
    assert tags.names[8:] == ("red_hair", "lorelei-d0000", "lorelei-d0001")
    assert tags.counts[4:] == (16, 8, 8, 8, 8, 4, 4)
    assert Tags.of_state(tags.state()) == tags
    (tmp_path / "selected_tags.csv").write_text(tags.csv())
    read = Vocabulary.read(tmp_path / "selected_tags.csv")
    assert read.names == tags.names


def test_an_epoch_shows_every_row_as_often_as_its_weight() -> None:
    weights = np.array([1, 3, 1, 2, 1])
    seen = np.concatenate([epoch_indices(step, batch_size=4, weights=weights, seed=1) for step in range(2)])
    assert np.bincount(seen).tolist() == weights.tolist()


def test_a_killed_training_goes_on_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    whole = weights_after(tmp_path / "whole", sittings=(4,))
    parts = weights_after(tmp_path / "parts", sittings=(1, 2, 1))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_training_ends_at_its_last_step_with_a_checkpoint_and_a_log(tmp_path: Path) -> None:
    made = Trainer(classifier(JUDGE), recipe=LOOP, folder=tmp_path)
    made.run(say=quiet)
    again = Trainer(classifier(JUDGE), recipe=LOOP, folder=tmp_path)
    assert again.step == LOOP.steps
    assert "map_coarse" in (tmp_path / "log.jsonl").read_text()


def test_the_learning_rate_warms_up_stays_and_falls_to_the_end() -> None:
    loop = LoopRecipe(steps=100, batch_size=1, warmup_steps=10, cooldown=0.2)
    assert [loop.rate(step) for step in (0, 9, 80, 90)] == pytest.approx([0.1, 1.0, 1.0, 0.5])
    assert loop.rate(99) > 0


def test_muons_update_is_near_an_orthogonal_matrix() -> None:
    made = orthogonal(torch.randn(6, 20, generator=torch.Generator().manual_seed(0)))
    assert made.shape == (6, 20)
    assert torch.linalg.svdvals(made).sub(1).abs().max() < 0.4


def test_augmented_pictures_depend_on_seed_and_step_alone() -> None:
    seen = torch.rand(3, 3, 16, 16) * 2 - 1
    first, second = (augment.augment(seen, size=12, dice=augment.generator(5, step, CPU)) for step in (8, 8))
    other = augment.augment(seen, size=12, dice=augment.generator(5, 9, CPU))
    assert first.shape == (3, 3, 12, 12)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("recipe", [TAGGER, JUDGE], ids=["tagger", "judge"])
def test_the_exported_graph_gives_the_nets_scores_through_the_products_tagger(
    recipe: ClassifierRecipe, tmp_path: Path
) -> None:
    task = classifier(recipe)
    trainer = Trainer(task, recipe=LOOP, folder=tmp_path)
    for _ in range(3):
        trainer.one_step()  # batch norms that are not at their start
    net = export.averaged(trainer)
    assert isinstance(net, TaggerNet | JudgeNet)
    (tmp_path / "model.onnx").write_bytes(classifier_onnx(net, input_size=recipe.input_size, name="test"))
    (tmp_path / "selected_tags.csv").write_text(task.tags.csv())
    tagger = OnnxTagger.load(str(tmp_path), threads=1)
    large = task.pictures[:3].repeat(4, axis=1).repeat(4, axis=2)  # the graph's 4x4 mean takes it back
    found, features = tagger.predict(large)
    with torch.inference_mode():
        expected, expected_features = task.look(net, np.arange(3))
    assert tagger.image_size == recipe.input_size
    np.testing.assert_allclose(found, expected, atol=5e-3)  # weights are float16 in the file
    np.testing.assert_allclose(features, expected_features, atol=5e-2, rtol=2e-2)


def test_the_exported_vae_has_normalised_latents_and_draws_as_the_trained_one(tmp_path: Path) -> None:
    task = VaeTask(rows(), pictures(32), recipe=VAE, device=CPU)
    trainer = Trainer(task, recipe=LOOP, folder=tmp_path / "vae")
    trainer.one_step()
    codec = export.averaged(trainer)
    assert isinstance(codec, Codec)
    seen = task.truth(task.learn)
    with torch.inference_mode():
        before = codec.decode(codec.encode(seen))
        export.normalise_latents(codec, task)
        after = codec.decode(codec.encode(seen))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-3)
    export.export_vae(Trainer(task, recipe=LOOP, folder=tmp_path / "vae"), tmp_path / "asset")
    written = Vae.load(str(tmp_path / "asset"), device="cpu")
    mean, logvar = written.encode(task.pictures[task.learn])
    assert (written.factor, written.scale) == (8, LatentScale(scaling=1.0))
    np.testing.assert_allclose(mean.mean((0, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(mean.std((0, 2, 3)), 1, atol=0.05)
    np.testing.assert_allclose(logvar, 2 * np.log(VAE.noise), rtol=1e-3)


def test_a_vae_goes_on_from_the_shipped_one_with_more_channels_and_draws_as_it_did() -> None:
    shipped = load_recipe().vae
    seen = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        narrow, wide = (
            Codec(replace(shipped, start="demo", latent_channels=channels)).eval() for channels in (4, 7)
        )
        assert wide.encode(seen).shape == (2, 7, 4, 4)
        torch.testing.assert_close(wide.encode(seen)[:, :4], narrow.encode(seen), atol=1e-4, rtol=1e-4)
        assert wide.encode(seen)[:, 4:].std((0, 2, 3)).min() > 0.01
        torch.testing.assert_close(wide.decode(wide.encode(seen)), narrow.decode(narrow.encode(seen)))


def test_noise_on_the_latents_is_measured_beside_the_clean_ones() -> None:
    task = VaeTask(rows(), pictures(32), recipe=replace(load_recipe().vae, start="demo"), device=CPU)
    task.pictures = np.full_like(task.pictures, 200)
    task.pictures[:, 8:24, 8:24] = 60
    with torch.inference_mode():
        found, again = (task.measure(task.model.eval()) for _ in range(2))
    assert found["psnr_noisy"] < found["psnr"] - 0.1
    assert found == again


def test_each_key_of_the_next_vae_changes_its_gradients() -> None:
    found = []
    for recipe in (VAE, VAE, replace(VAE, bfloat16=True), replace(VAE, spread_learns=True)):
        task = VaeTask(rows(), pictures(32), recipe=recipe, device=CPU)
        task.loss(3).backward()
        grad = task.model.vae.encoder.conv_in.weight.grad
        assert grad is not None
        found.append(grad)
    assert [torch.equal(found[0], other) for other in found[1:]] == [True, False, False]


def test_a_loss_that_knows_of_the_spread_does_not_ask_for_larger_latents() -> None:
    latents = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    asked = []
    for known in (False, True):
        scale = torch.ones((), requires_grad=True)
        larger = latents * scale
        noise = noise_like(larger if known else larger.detach(), augment.generator(0, 0, CPU))
        ((larger + noise) / larger.std() - latents / latents.std()).pow(2).mean().backward()
        assert scale.grad is not None
        asked.append(-scale.grad.item())
    assert asked[0] > 0.1
    assert abs(asked[1]) < 1e-4


def test_a_table_that_a_recipe_lacks_is_the_shipped_one() -> None:
    following, shipped = load_recipe(NEXT), load_recipe()
    assert following.tagger == shipped.tagger
    assert (shipped.vae.latent_channels, following.vae.latent_channels) == (4, 8)


def test_the_start_of_the_base_takes_the_latents_of_the_exported_vae(tmp_path: Path) -> None:
    shipped = resolve("demo", what="base").folder
    parts = tmp_path / "export" / "demo_base"
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(shipped / part, parts / part)
    with pytest.raises(ConfigError, match="export vae"):
        write_start(tmp_path, recipe=load_recipe().base, text_width=96)
    recipe = replace(VAE, latent_channels=6)
    export.export_vae(
        Trainer(
            VaeTask(rows(), pictures(32), recipe=recipe, device=CPU), recipe=LOOP, folder=tmp_path / "vae"
        ),
        parts / "vae",
    )
    assert "16x16x6" in (parts / "vae" / "README.md").read_text()
    base = Base.load(str(write_start(tmp_path, recipe=load_recipe().base, text_width=96)))
    assert base.latent_channels == base.load_unet().config["in_channels"] == 6


def test_the_colour_term_sees_hue_and_not_brightness() -> None:
    grey = torch.zeros(1, 3, 8, 8)
    green = grey + torch.tensor([0.0, 0.5, 0.0])[None, :, None, None]
    assert chroma_distance(grey + 0.5, grey).item() == 0.0
    assert chroma_distance(green, grey).item() == pytest.approx(0.75)


def test_colour_is_explained_by_latents_that_hold_it_and_not_by_others() -> None:
    seen = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    means = torch.nn.functional.avg_pool2d(seen, 8)
    holding = torch.cat([3 * means + 1, means[:, :1]], 1)
    others = torch.rand(4, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert unexplained_colour(holding, seen).item() < 0.05
    assert unexplained_colour(others, seen).item() > 2


def test_the_text_encoder_learns_is_exported_and_read_by_transformers(tmp_path: Path) -> None:
    bpe = tmp_path / "bpe.txt.gz"
    bpe.write_bytes(gzip.compress(b"#version\nh a\nha i\nhai r</w>\nz z\nr e\n"))
    features = np.random.default_rng(0).normal(size=(24, 768)).astype(np.float32)
    task = TextTask(rows(), features, recipe=TEXT, tokenizer=tmp_path / "tokenizer", bpe=bpe, device=CPU)
    trainer = Trainer(task, recipe=LOOP, folder=tmp_path / "text")
    trainer.run(say=quiet)
    export.export_text(trainer, tmp_path / "base", tokenizer=tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path / "base" / "tokenizer").tokenize("hair") == ["hair</w>"]

    from transformers import CLIPTextModel

    read = CLIPTextModel.from_pretrained(tmp_path / "base" / "text_encoder").eval()
    ids = task.ids(["black hair, solo", "red"])
    model = trainer.model
    assert isinstance(model, Pairing)
    with torch.inference_mode():
        expected = model.clip(input_ids=ids).last_hidden_state
        torch.testing.assert_close(read(input_ids=ids).last_hidden_state, expected, atol=2e-2, rtol=2e-2)


def test_average_precision_is_the_mean_precision_at_the_positives() -> None:
    found = scores.average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_retrieval_counts_pictures_whose_nearest_neighbour_shows_the_same_character() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    assert scores.retrieval(features, ["a", "a", "b", "b"]) == 1.0
    assert scores.retrieval(features, ["a", "b", "a", "b"]) == 0.0


def test_only_the_decoder_learns_where_the_latents_are_to_stay(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE_FILE.with_name("decoder.toml")).vae
    recipe = replace(recipe, bfloat16=False, loop=replace(LOOP, learning_rate=0.1))
    task = VaeTask(rows(), pictures(32), recipe=recipe, device=CPU)
    shipped = {key: value.clone() for key, value in task.model.state_dict().items()}
    trainer = Trainer(task, recipe=recipe.loop, folder=tmp_path / "vae")
    for _ in range(3):
        trainer.one_step()
    export.export_vae(trainer, tmp_path / "asset")
    made = load_file(tmp_path / "asset" / "diffusion_pytorch_model.safetensors")
    moved = {key for key, value in made.items() if not torch.equal(value, shipped[f"vae.{key}"].half())}
    assert moved and all(key.startswith(("decoder.", "post_quant_conv.")) for key in moved)


def test_an_adversary_learns_to_tell_drawings_and_weighs_its_share_of_the_other_terms() -> None:
    torch.manual_seed(0)
    adversary, blur = Adversary(share=0.5), torch.nn.AvgPool2d(5, 1, 2)
    truth = torch.randint(0, 2, (8, 3, 32, 32)).float() * 2 - 1
    first, *_, last = [adversary.learn(blur(truth), truth) for _ in range(60)]
    assert first > 1.5 and last < 0.5
    adversary.steps = ALONE
    sharpness = torch.tensor(0.0, requires_grad=True)
    drawn = blur(truth) + sharpness * (truth - blur(truth))
    found = (drawn - truth).abs().mean()
    term = adversary.term(drawn, truth, found=found, last=sharpness)
    wanted, theirs = (torch.autograd.grad(one, sharpness, retain_graph=True)[0] for one in (term, found))
    assert abs(float(wanted / theirs)) == pytest.approx(0.5, rel=1e-3)


def test_a_decoder_and_its_adversary_go_on_as_if_they_had_not_been_stopped(tmp_path: Path) -> None:
    recipe = replace(VAE, adversarial=0.5, loop=replace(LOOP, learning_rate=0.01))

    def trainer(folder: str) -> Trainer:
        task = VaeTask(rows(), pictures(32), recipe=recipe, device=CPU)
        assert task.beside
        task.beside.steps = ALONE  # it speaks from the first step on
        return Trainer(task, recipe=recipe.loop, folder=tmp_path / folder)

    whole, stopped = trainer("whole"), trainer("stopped")
    for _ in range(4):
        whole.one_step()
    for _ in range(2):
        stopped.one_step()
    stopped.save()
    again = trainer("stopped")
    for _ in range(2):
        again.one_step()
    assert all(torch.equal(value, again.ema[name]) for name, value in whole.ema.items())
    nets = [one.task.beside.state_dict()["net"] for one in (again, whole) if one.task.beside]
    assert len(nets) == 2 and all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())


def test_the_maps_are_those_of_the_demo_taggers_graph() -> None:
    """Its feature is half of the last map's mean and maximum, of the square averaged 4 by 4."""
    small = np.random.default_rng(3).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    maps = SeenMaps()(normalise(torch.from_numpy(small)))
    _, features = OnnxTagger.load("demo").predict(small.repeat(4, axis=1).repeat(4, axis=2))
    ours = (maps[-1].mean((2, 3)) + maps[-1].amax((2, 3))) / 2
    assert np.abs(ours.numpy() - features.astype(np.float32)).max() < 1e-2
    assert len(maps) == 15


def test_a_picture_is_seen_apart_from_its_blurred_copy_and_not_from_itself() -> None:
    maps, lines = SeenMaps(), torch.ones(1, 3, SIDE, SIDE)
    lines[..., ::8] = -1.0
    blurred = torch.nn.functional.avg_pool2d(lines, 5, 1, 2, count_include_pad=False).requires_grad_()
    assert float(seen_distance(maps, lines, lines)) == 0
    found = seen_distance(maps, blurred, lines)
    assert float(found.detach()) > 0.1
    found.backward()
    assert blurred.grad is not None and float(blurred.grad.abs().sum()) > 0
    assert not list(maps.parameters())
