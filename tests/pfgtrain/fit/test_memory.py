"""What saves memory says so in bytes, changes what it must and nothing else, and resumes to the bit."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel

from pfgdata.errors import ConfigError
from pfgdata.records import NoProgress
from pfgtrain.base import Base, encode_prompts
from pfgtrain.base.prompts import ClipText
from pfgtrain.base.sdxl import SdxlText
from pfgtrain.checkpoint import checkpoints, read_metrics
from pfgtrain.config import Adafactor, FitConfig
from pfgtrain.fit import FitData, Inputs, Trainer, fit, forecast_fit, go_on, make_accelerator, plan_fit
from pfgtrain.fit.data import sets_of
from pfgtrain.fit.ema import MovingAverage
from pfgtrain.fit.forecast import forecast_step
from pfgtrain.fit.live_bytes import LiveBytes
from pfgtrain.fit.texts import TextSource
from pfgtrain.optim import Part
from tests.pfgtrain.fit.small_fit import SMALL, StopAfter, assert_same_run, losses_of, weights_of

SHORT = replace(SMALL, max_train_steps=3, max_grad_norm=0.0)
LOW: dict[str, Any] = {"optimizer": "adafactor", "full_bf16": True, "fused_backward_pass": True}
MODES: dict[str, dict[str, Any]] = {
    "bf16 by Adafactor, stepping in the backward pass": {**LOW, "use_ema": True, "offload_ema": True},
    "bf16 by Adafactor": {"optimizer": "adafactor", "full_bf16": True, "gradient_accumulation_steps": 2},
    "bf16 by AdamW, some blocks": {"full_bf16": True, "unet_blocks": "cross_attention", "use_ema": True},
    "a LoRA by Adafactor, checkpointed": {
        "train": "lora",
        "optimizer": "adafactor",
        "fused_backward_pass": True,
        "adafactor": Adafactor(beta1=0.9),
        "gradient_checkpointing": True,
    },
}
SLOW = ("bf16 by Adafactor", "bf16 by AdamW, some blocks")


def trainer_of(data: FitData, base: Base, config: FitConfig) -> Trainer:
    return Trainer(Inputs.of(data, base, config), **around(config))


def around(config: FitConfig) -> dict[str, Any]:
    """What a trainer of `config` is made with beside its inputs."""
    config = replace(config, mixed_precision="bf16" if config.full_bf16 else "no")
    return {"config": config, "accelerator": make_accelerator(config), "total_steps": 10}


@pytest.mark.resume
@pytest.mark.parametrize(
    "mode", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODES]
)
def test_a_frugal_fit_cut_and_resumed_equals_the_uncut_one(
    mode: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SHORT, **MODES[mode])
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(2))
    go_on(data, base, config, run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_stepping_in_the_backward_pass_changes_no_bit(data: FitData, base: Base, tmp_path: Path) -> None:
    runs: dict[str, dict[str, Any]] = {"bf16": {"full_bf16": True}, "float32": {}}
    for name, keys in runs.items():
        config = replace(SHORT, optimizer="adafactor", max_train_steps=2, **keys)
        fit(data, base, config, run_dir=tmp_path / name)
        fused = replace(config, fused_backward_pass=True)
        fit(data, base, fused, run_dir=tmp_path / f"{name} fused")
        assert_same_run(tmp_path / name, tmp_path / f"{name} fused")
        norms, others = (
            [line["grad_norm"] for line in read_metrics(tmp_path / run)] for run in (name, f"{name} fused")
        )
        assert norms == pytest.approx(others, rel=1e-5)


def test_stepping_in_the_backward_pass_holds_one_gradient_at_a_time(data: FitData, base: Base) -> None:
    def most_at_once(config: FitConfig) -> float:
        trainer = trainer_of(data, base, config)
        parameters = [value for value in trainer.model.parameters() if value.requires_grad]
        most = 0

        def look(_: Tensor) -> None:
            nonlocal most
            most = max(most, sum(value.grad is not None for value in parameters))

        for value in parameters:
            value.register_post_accumulate_grad_hook(look)
        batches = sets_of(data, config, processes=1).train
        trainer.step([batches.read(0, part=trainer.part)])
        return most / len(parameters)

    assert most_at_once(SHORT) == 1.0
    assert most_at_once(replace(SHORT, fused_backward_pass=True)) < 0.05


def test_a_parameter_without_a_finite_gradient_stays_and_the_others_move(data: FitData, base: Base) -> None:
    trainer = trainer_of(data, base, replace(SHORT, **LOW))
    learns = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    (spoilt, value), *_ = ((name, value) for name, value in learns.items() if "attn2" in name)
    value.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
    before = {name: value.detach().clone() for name, value in learns.items()}
    batches = sets_of(data, SHORT, processes=1).train
    outcome = trainer.step([batches.read(0, part=trainer.part)])
    still = {name for name, value in learns.items() if torch.equal(value, before[name])}
    assert still == {spoilt}
    assert outcome.loss.isfinite()
    assert not outcome.norm.isfinite()
    assert trainer.is_finite()


def test_bf16_weights_take_two_bytes_and_their_optimizer_state_stays_float32(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    fit(data, base, replace(SHORT, optimizer="adafactor", full_bf16=True, use_ema=True), run_dir=run)
    folder = checkpoints(run)[-1]
    kinds = {
        path.relative_to(folder).as_posix(): {value.dtype for value in load_file(path).values()}
        for path in folder.rglob("*.safetensors")
    }
    assert kinds == {
        "adapter.safetensors": {torch.float32},
        "unet.safetensors": {torch.bfloat16},
        "ema/adapter.safetensors": {torch.float32},
        "ema/unet.safetensors": {torch.float32},
    }
    states = torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"]["state"]
    held = [value for state in states.values() for value in state.values() if isinstance(value, Tensor)]
    assert {value.dtype for value in held} == {torch.float32}
    learns = sum(value.numel() for value in weights_of(run).values())
    assert sum(value.numel() for value in held) < 0.5 * learns  # AdamW holds two for each
    assert base.load_unet(weights=folder).conv_in.weight.dtype == torch.float32  # what generate reads


def test_gradient_checkpointing_keeps_a_part_of_the_activations(data: FitData, base: Base) -> None:
    def bytes_kept(config: FitConfig) -> int:
        trainer = trainer_of(data, base, config)
        weights = {value.untyped_storage().data_ptr() for value in trainer.model.parameters()}
        kept: dict[int, int] = {}

        def keep(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return value

        batches = sets_of(data, config, processes=1).train
        with saved_tensors_hooks(keep, lambda value: value):
            trainer.step([batches.read(0, part=trainer.part)])
        return sum(kept.values())

    assert bytes_kept(replace(SHORT, gradient_checkpointing=True)) < 0.5 * bytes_kept(SHORT)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"full_bf16": True, "train": "lora"}, "full_bf16 = true is not of use without train"),
        (
            {"full_bf16": True, "mixed_precision": "fp16"},
            "full_bf16 = true is not possible without mixed_prec",
        ),
        ({"fused_backward_pass": True, "gradient_accumulation_steps": 2}, "not possible with accumulation"),
        ({"fused_backward_pass": True, "max_grad_norm": 1.0}, "max_grad_norm; set that to 0"),
        (
            {"fused_backward_pass": True, "mixed_precision": "fp16"},
            'not possible with mixed_precision = "fp16"',
        ),
        ({"cache_captions": True}, "cache_captions = true is not of use without a caption"),
        (
            {"cache_captions": True, "caption": "tags", "shuffle_caption": True},
            "not possible with shuffle_caption",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SHORT, **keys)


def test_an_optimizer_that_is_not_installed_is_one_line(data: FitData, base: Base, tmp_path: Path) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("it is installed here")
    with pytest.raises(ConfigError, match="not installed; pip install bitsandbytes"):
        fit(data, base, replace(SHORT, optimizer="adamw8bit"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cached_captions_are_the_captions_and_free_the_text_encoder(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SHORT, caption="tags", max_train_steps=1, validation_split=0.3, num_validation_images=0)
    cached = replace(config, cache_captions=True)
    for name, one in (("encoded", config), ("cached", cached)):
        fit(data, base, one, run_dir=tmp_path / name)
    ours, theirs = (losses_of(tmp_path / name)[0][1] for name in ("cached", "encoded"))
    assert ours == pytest.approx(theirs, rel=1e-3)
    texts = [f"a {word} cat" for word in "abcdefghijklmnopqrst"]
    source = TextSource(base, replace(cached, mixed_precision="no"), captions=texts, progress=NoProgress())
    assert not any(isinstance(value, ClipText) for value in vars(source).values())
    asked = [texts[17], texts[2], texts[17]]
    wanted = encode_prompts(base, asked).context
    assert not torch.equal(wanted[0], wanted[1])
    torch.testing.assert_close(source.of(asked).context, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_average_kept_in_main_memory_is_the_one_beside_the_weights(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.rand((8, 8), generator=generator).to(dtype))
    part = Part(name="unet", file="f", parameters={"w": weight})
    averages = [
        MovingAverage([part], replace(SHORT, use_ema=True, ema_decay=0.9, offload_ema=offload), steps_done=0)
        for offload in (False, True)
    ]
    for _ in range(5):
        weight.data += torch.rand(weight.shape, generator=generator).to(dtype)
        for average in averages:
            average.step()
    beside, offloaded = (average.parts[0].parameters["w"] for average in averages)
    assert torch.equal(beside, offloaded)
    assert offloaded.dtype == torch.float32
    assert 0 < (weight.detach().float() - offloaded).mean() < 5


def test_the_operations_of_attention_count_on_a_cpu_too() -> None:
    heads, positions, width = 2, 16, 8
    query = torch.rand(1, heads, positions, width, requires_grad=True)
    product = 2 * heads * positions * positions * width  # of two matrices
    with LiveBytes() as live:
        answer = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        assert live.operations == 2 * product
        answer.sum().backward()
    assert live.operations == 7 * product  # the backward pass makes the scores again


def test_a_forecast_has_the_text_encoders_that_stay_for_captions(sdxl_data: FitData, sdxl: Base) -> None:
    asked = replace(SHORT, caption="tags", mixed_precision="no")
    plan = plan_fit(sdxl_data, sdxl, asked)
    models = sdxl.load_text()
    assert isinstance(models, SdxlText)
    encoders = [clip.text_encoder for clip in (models.first, models.second)]
    size = sum(value.nbytes for encoder in encoders for value in encoder.parameters())
    assert forecast_fit(sdxl_data, sdxl, asked, plan).texts == size > 0
    for cached in (replace(asked, cache_captions=True), replace(asked, caption=None)):
        assert forecast_fit(sdxl_data, sdxl, cached, plan).texts == 0


def test_a_forecast_has_the_buffers_in_which_several_processes_add_their_gradients(
    base: Base, tmp_path: Path
) -> None:
    config = replace(SHORT, unet_blocks="up_blocks", num_tokens=0, mixed_precision="no")
    unet = base.unet_outline().requires_grad_(False)
    chosen = {n: p.requires_grad_(True) for n, p in unet.named_parameters() if n.startswith("up_blocks")}
    part = Part(name="unet", file="f", parameters=chosen)
    told = [forecast_step(unet, [part], config, latent=(4, 4), steps=1, processes=count) for count in (1, 2)]
    assert told[0].reducing == 0
    assert told[1].memory == told[0].memory + told[1].reducing

    model = base.load_unet().requires_grad_(False)
    learns = [p.requires_grad_(True) for n, p in model.named_parameters() if n.startswith("up_blocks")]
    store = f"file://{tmp_path / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        with LiveBytes(list(model.parameters())) as live:
            wrapped = DistributedDataParallel(model)
        assert live.now == told[1].reducing == sum(value.nbytes for value in learns) > 0
        del wrapped
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("keys", [{"full_bf16": True}, {"offload_ema": True}])
def test_a_forecast_has_the_copy_of_an_average_that_stands_in_for_the_weights(
    keys: dict[str, Any], base: Base
) -> None:
    config = replace(SHORT, fused_backward_pass=True, train_batch_size=1, num_tokens=0, **keys)

    def told(*, use_ema: bool) -> tuple[int, int]:
        unet = base.unet_outline().to(torch.bfloat16 if config.full_bf16 else torch.float32)
        part = Part(name="unet", file="f", parameters=dict(unet.named_parameters()))
        asked = replace(config, use_ema=use_ema, mixed_precision="bf16" if config.full_bf16 else "no")
        size = sum(value.nbytes for value in part.parameters.values())
        return forecast_step(unet, [part], asked, latent=(4, 4), steps=1).passing, size

    (passing, copied), (without, _) = told(use_ema=True), told(use_ema=False)
    assert passing > max(copied, without)


@pytest.mark.parametrize(
    "keys",
    [
        LOW,
        {"train": "lora", "r": 2, "gradient_checkpointing": True},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(
            {"unet_blocks": "up_blocks", "use_ema": True, "gradient_accumulation_steps": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_forecast_is_what_a_step_takes(
    keys: dict[str, Any], data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SHORT, num_train_epochs=1, **keys)
    told = forecast_fit(data, base, config, plan_fit(data, base, config))
    trainer = trainer_of(data, base, config)
    weights = list(trainer.model.parameters())
    batches = sets_of(data, config, processes=1).train
    epoch = [batches.read(index, part=trainer.part) for index in range(batches.per_epoch)]
    widest = max(epoch, key=lambda batch: batch.latents.size)
    with LiveBytes(weights) as live:
        for _ in range(2):  # the optimizer's state is there from the second on
            trainer.step([widest] * config.gradient_accumulation_steps)
    assert told.weights == pytest.approx(sum(value.nbytes for value in weights), rel=0.01)
    assert told.passing + told.optimizer + told.average == pytest.approx(live.peak, rel=0.1)
    trainer.write(tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    headers = written - told.checkpoint
    assert 0 < headers < 1500 * len(weights)  # names, shapes, offsets and single numbers
    assert told.disk == told.checkpoint
