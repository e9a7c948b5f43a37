"""A base: what it is follows from its configs, and what is missing or of two models is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pfgdata.errors import ConfigError, ModelError, RunError
from pfgtrain.base import Base, onnx_device, placement
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base


@pytest.fixture(scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A complete tiny base, the test's own copy."""
    shutil.copytree(_built, tmp_path / "tiny")
    return tmp_path / "tiny"


def edit(config: Path, **changes: Any) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def test_a_base_knows_what_it_is_before_any_weight_is_read(folder: Path) -> None:
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    base = Base.load(str(folder))
    assert base.folder == folder
    assert base.revision is None
    assert (base.family.facts.name, base.cross_attention_dim, base.latent_channels) == ("sd1", WIDTH, 4)
    assert base.prediction_type == "epsilon"
    assert not base.untrained


def test_every_part_loads_from_the_folder_in_eval_mode(folder: Path) -> None:
    base = Base.load(str(folder))
    unet, vae, text_encoder = base.load_unet(), base.load_vae(), base.load_text_encoder()
    assert unet.config.cross_attention_dim == text_encoder.config.hidden_size == WIDTH
    assert not any(part.training for part in (unet, vae, text_encoder))
    assert base.load_tokenizer().model_max_length == 77


def test_the_unet_takes_the_dtype_asked_for_and_vae_and_text_encoder_stay_float32(folder: Path) -> None:
    base = replace(Base.load(str(folder)), dtype=torch.bfloat16)
    assert base.load_unet().dtype == torch.bfloat16
    assert base.load_unet(dtype=torch.float32).dtype == torch.float32
    assert base.load_vae().dtype == base.load_text_encoder().dtype == torch.float32


def test_linear_projections_make_it_sd2_whatever_its_width(tmp_path: Path) -> None:
    base = Base.load(str(build_tiny_base(tmp_path / "sd2", prediction_type="v_prediction", linear=True)))
    assert (base.family.facts.name, base.prediction_type) == ("sd2", "v_prediction")


def test_prediction_type_overrules_the_scheduler_for_training_and_for_sampling(folder: Path) -> None:
    base = Base.load(str(folder), prediction_type="v_prediction")
    noise, sampler = base.load_noise_scheduler(), base.load_sampler()
    assert noise.config.prediction_type == sampler.config.prediction_type == "v_prediction"
    assert torch.equal(noise.alphas_cumprod, sampler.alphas_cumprod)
    assert noise.config.beta_schedule == "scaled_linear"
    assert (sampler.config.algorithm_type, sampler.config.solver_order) == ("dpmsolver++", 2)


def test_the_sampler_is_dpm_2m_whatever_the_base_s_own_scheduler_is(folder: Path) -> None:
    plain = Base.load(str(folder)).load_sampler()
    edit(
        folder / "scheduler" / "scheduler_config.json",
        _class_name="DPMSolverMultistepScheduler",
        algorithm_type="sde-dpmsolver++",
        solver_order=3,
        solver_type="heun",
        use_karras_sigmas=True,
        thresholding=True,
        final_sigmas_type="sigma_min",
    )
    sampler = Base.load(str(folder)).load_sampler()
    for scheduler in (plain, sampler):
        scheduler.set_timesteps(5)
    assert torch.equal(plain.sigmas, sampler.sigmas)
    assert not sampler.config.thresholding
    assert sampler.config.solver_type == "midpoint"


def test_a_zero_terminal_snr_base_is_sampled_from_pure_noise(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=True)
    sampler = Base.load(str(folder)).load_sampler()
    sampler.set_timesteps(5)
    assert sampler.timesteps[0] == 999


def test_the_marker_file_says_that_weights_are_untrained(folder: Path) -> None:
    (folder / "UNTRAINED").touch()
    assert Base.load(str(folder)).untrained


def test_a_runs_own_unet_stands_in_for_the_bases(folder: Path, tmp_path: Path) -> None:
    base = Base.load(str(folder))
    trained = base.load_unet()
    with torch.no_grad():
        trained.conv_in.weight.add_(1)
    save_file({"conv_in.weight": trained.conv_in.weight.data}, tmp_path / "unet.safetensors")
    back = base.load_unet(weights=tmp_path)
    assert torch.equal(back.conv_in.weight, trained.conv_in.weight)


def test_weights_there_in_fp16_only_are_found(folder: Path) -> None:
    whole = Base.load(str(folder)).load_unet()
    shutil.rmtree(folder / "unet")
    whole.half().save_pretrained(folder / "unet", variant="fp16")
    vae = Base.load(str(folder)).load_vae()
    shutil.rmtree(folder / "vae")
    vae.half().save_pretrained(folder / "vae", variant="fp16")
    base = Base.load(str(folder))
    assert base.load_unet().dtype == base.load_vae().dtype == torch.float32


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_shards_of_the_older_form_are_found(variant: str | None, folder: Path) -> None:
    before = Base.load(str(folder))
    parts = {"unet": before.load_unet(), "vae": before.load_vae()}
    text_encoder = before.load_text_encoder()
    for part, model in parts.items():
        shutil.rmtree(folder / part)
        options = {"safe_serialization": False, "max_shard_size": "60KB", "variant": variant}
        (model.half() if variant else model).save_pretrained(folder / part, **options)
    assert len(list((folder / "unet").glob("*-of-*.bin"))) > 5
    (folder / "text_encoder" / "model.safetensors").unlink()
    torch.save(text_encoder.state_dict(), folder / "text_encoder" / "pytorch_model.bin")
    base = Base.load(str(folder))
    assert base.fingerprint == before.fingerprint
    loaded = ((base.load_unet(), parts["unet"]), (base.load_vae(), parts["vae"]))
    for ours, theirs in (*loaded, (base.load_text_encoder(), text_encoder)):
        state = ours.state_dict()
        assert all(torch.equal(state[name], value) for name, value in theirs.state_dict().items())


def _remove(part: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / part)


def _edit(part: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / part, **changes)


def _add(part: str) -> Callable[[Path], None]:
    return lambda folder: (folder / part).mkdir()


def _pipeline(name: str, part: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / part).mkdir()
        (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove("vae"), "lacks vae/config.json"),
        (_remove("tokenizer"), "lacks tokenizer/"),
        (_add("text_encoder_2"), "no complete SDXL folder, lacks text_encoder_2/"),
        (_add("transformer"), r"with a transformer \(SD3, Flux and the like\); a base is SD1, SD2 or SDXL"),
        (_add("prior"), "Stable Cascade"),
        (_add("decoder"), "Stable Cascade"),
        (_add("image_normalizer"), "unCLIP"),
        (_pipeline("FluxPipeline", "transformer"), "is FluxPipeline, with a transformer"),
        (_edit("scheduler/scheduler_config.json", _class_name="EDMEulerScheduler"), "an EDM model"),
        (
            _edit("scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"),
            "its scheduler FlowMatchEulerDiscreteScheduler is of a flow model; a base is",
        ),
        (_edit("unet/config.json", addition_embed_type="text_time"), "no complete SDXL folder"),
        (_edit("unet/config.json", in_channels=9), "inpainting"),
        (_edit("unet/config.json", cross_attention_dim=768), "768 wide, what encodes its texts makes 16"),
        (_edit("text_encoder/config.json", model_type="t5"), "of type t5"),
        (_edit("scheduler/scheduler_config.json", prediction_type="sample"), "predicts sample"),
        (lambda folder: (folder / "unet/config.json").write_text("{"), "no config that can be read"),
        (lambda folder: (folder / "unet/config.json").write_text("[" * 100_000), "can be read"),
    ],
)
def test_a_folder_that_is_no_base_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        Base.load(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_weights_that_a_file_lacks_are_an_error_and_not_random_numbers(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    for part, file in (
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ):
        path = folder / part / file
        state = load_file(path)
        state.pop(sorted(state)[0])
        save_file(state, path, metadata={"format": "pt"})
    base = Base.load(str(folder))
    for load in (base.load_unet, base.load_vae, base.load_text_encoder):
        with pytest.raises(ModelError, match=r"1 weights are not in the file|lack 1 tensors"):
            load()


def test_a_damaged_weight_file_is_named_in_one_line(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    base = Base.load(str(folder))
    for part, load in (
        ("unet: cannot", base.load_unet),
        ("vae: no VAE that diffusers can", base.load_vae),
        ("text_encoder: cannot", base.load_text_encoder),
    ):
        with pytest.raises(ModelError, match=part) as caught:
            load()
        assert "\n" not in str(caught.value)


def test_a_base_named_by_a_relative_path_is_found_again_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert Base.load(folder.name).name == str(folder)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"conv_in.weight": torch.zeros(16, 5, 3, 3)}, r"of another UNet \(size mismatch for conv_in.weight"),
        ({"conv_nowhere.weight": torch.zeros(1)}, r"of another UNet \(conv_nowhere.weight\)"),
    ],
)
def test_weights_of_another_unet_are_refused(
    state: dict[str, torch.Tensor], said: str, folder: Path, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "unet.safetensors")
    with pytest.raises(RunError, match=said) as caught:
        Base.load(str(folder)).load_unet(weights=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_is_of_what_a_fine_tune_moves_and_a_float16_copy_has_it_too(folder: Path) -> None:
    base = Base.load(str(folder))
    unet, text_encoder = base.load_unet(), base.load_text_encoder()
    shutil.rmtree(folder / "unet")
    unet.half().save_pretrained(folder / "unet")
    assert Base.load(str(folder)).fingerprint == base.fingerprint
    with torch.no_grad():
        text_encoder.final_layer_norm.weight.add_(0.1)
    text_encoder.save_pretrained(folder / "text_encoder")
    assert Base.load(str(folder)).fingerprint != base.fingerprint


@pytest.mark.parametrize("device", ["foo", "cuda:99", "cuda:x", "meta", "mps", "cpu:0"])
def test_a_device_that_is_none_or_not_here_is_refused_naming_what_is(device: str) -> None:
    for choose in (placement, onnx_device):
        with pytest.raises(ConfigError, match=f"device '{device}': .*; here there is cpu") as caught:
            choose(device)
        assert "\n" not in str(caught.value)


def test_cuda_is_a_device_only_where_torch_has_one() -> None:
    assert placement("cpu") == (torch.device("cpu"), torch.float32)
    assert (onnx_device("cpu"), onnx_device(None)) == ("cpu", "auto")
    if torch.cuda.is_available():
        assert placement("cuda:0") == (torch.device("cuda:0"), torch.float16)
        assert onnx_device("cuda") == onnx_device("cuda:0") == "cuda:0"
    else:
        with pytest.raises(ConfigError, match="a CPU build"):
            placement("cuda")
