"""Exports of a run: what each file holds, what is refused, and that nothing is there by halves."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from pfgdata.errors import ConfigError, IdentityError, PfgError, RunError
from pfgdata.records import TaggerIdentity
from pfgdata.taggers import DEFAULT_TAGGER
from pfgdata.vaes import state_digest
from pfgtrain.adapter import ADAPTER_KEYS, load_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, Sampling, read_state, save_checkpoint
from pfgtrain.export import FORMATS, ExportOptions, ExportReport, export, plan_export
from pfgtrain.generate import load_run
from tests.conftest import modes
from tests.doubles import CheapTagger, Watched
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import FEATURE_DIM, TOKENS, make_run
from tests.pfgtrain.fit.small_fit import Said
from tests.pfgtrain.tiny_base import WIDTH


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_whole_base(tmp_path_factory.mktemp("base") / "whole", linear=False)))


@pytest.fixture(scope="module")
def v_base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "whole-v"
    return Base.load(str(build_whole_base(folder, linear=True, prediction_type="v_prediction")))


@pytest.fixture
def run(base: Base, tmp_path: Path) -> Path:
    """A run that trained UNet and adapter."""
    return make_run(tmp_path / "my run", base)


def exported(run: Path, to: Path, *formats: str, **options: Any) -> ExportReport:
    return export(run, to, options=ExportOptions(formats=formats, **options))


def test_a_run_is_exported_as_what_it_trained(run: Path, tmp_path: Path) -> None:
    report = exported(run, tmp_path / "out")
    pt, *others = [
        "my run-n3-to-copy/my run-n3.pt",
        "my run-n3.safetensors",
        "my run-n3.json",
        "my run.safetensors",
    ]
    assert list(report.files) == [tmp_path / "out" / name for name in (pt, *others)]
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(found) == sorted(report.files)
    assert [path.name for path in (tmp_path / "out" / pt).parent.iterdir()] == ["my run-n3.pt"]


def test_what_takes_seconds_of_an_export_is_shown(run: Path, base: Base, tmp_path: Path) -> None:
    watched = Watched()
    export(run, tmp_path / "out", base=base, progress=watched)
    assert watched.ended == ["hash: 2/2 files", "load: 1/1 models", "export: 2/2 formats"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_adapter_file_has_the_two_keys_and_nothing_else_with_standardization_in_them(
    base: Base, tmp_path: Path, suffix: str
) -> None:
    run = make_run(tmp_path / "a", base, kind="standardizing")
    (path,) = (path for path in exported(run, tmp_path, "adapter").files if path.suffix == suffix)
    state = torch.load(path, weights_only=True) if suffix == ".pt" else load_file(path)
    assert sorted(state) == sorted(ADAPTER_KEYS)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    feature = torch.rand(1, FEATURE_DIM)
    weights = run / "checkpoints" / "step-00000050" / "ema" / "adapter.safetensors"
    trained = load_adapter(weights, cross_attention_dim=WIDTH)
    as_web_uis_do = (state[ADAPTER_KEYS[0]] @ feature[0] + state[ADAPTER_KEYS[1]]).reshape(1, -1, WIDTH)
    torch.testing.assert_close(as_web_uis_do, trained(feature), rtol=1e-4, atol=1e-4)


def test_the_document_beside_the_adapter_says_what_it_needs_and_no_folder_of_ours(
    base: Base, tmp_path: Path
) -> None:
    tagger = TaggerIdentity(
        name="/home/someone/taggers/mine",
        revision=None,
        weights_sha256="ab" * 32,
        feature_node="x",
        preprocess="kohya",
        decode="1",
    )
    run = make_run(tmp_path / "a", base, tagger=tagger, uncond="eos")
    exported(run, tmp_path / "out", "adapter")
    text = (tmp_path / "out" / "a-n3.json").read_text()
    facts = json.loads(text)
    assert facts["tagger"]["name"] == "mine"
    assert facts["tagger"]["weights_sha256"] == "ab" * 32
    assert (facts["base"]["name"], facts["base"]["family"]) == ("whole", "sd1")
    assert (facts["num_tokens"], facts["cross_attention_dim"], facts["feature_dim"]) == (
        3,
        WIDTH,
        FEATURE_DIM,
    )
    assert (facts["prompt"], facts["uncond"], facts["step"]) == ("illustration of *", "eos", 50)
    for name, digest in facts["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert "/home" not in text
    assert str(tmp_path) not in text


def test_a_checkpoint_holds_the_moving_average_unless_told_otherwise(
    run: Path, base: Base, tmp_path: Path
) -> None:
    own = base.load_unet().conv_out.bias
    for options, amount in (({}, 0.25), ({"use_ema": False}, 0.5)):
        to = tmp_path / str(amount)
        exported(run, to, "checkpoint", dtype="float32", **options)
        back = load_file(to / "my run.safetensors")["model.diffusion_model.out.2.bias"]
        torch.testing.assert_close(back, own + amount * own.abs().mean())


def test_a_model_is_float16_by_default_and_the_file_loads_as_that(
    run: Path, base: Base, tmp_path: Path
) -> None:
    exported(run, tmp_path / "half", "checkpoint", "unet")
    exported(run, tmp_path / "full", "checkpoint", "unet", dtype="float32")
    for name in ("my run.safetensors", "my run-unet.safetensors"):
        half, full = load_file(tmp_path / "half" / name), load_file(tmp_path / "full" / name)
        assert half.keys() == full.keys()
        assert all(torch.equal(half[key], full[key].half()) for key in half)
    unet = UNet2DConditionModel.from_single_file(
        str(tmp_path / "half" / "my run-unet.safetensors"),
        config=str(base.folder),
        subfolder="unet",
        local_files_only=True,
        torch_dtype=torch.float16,
    )
    assert unet.dtype == torch.float16


def test_a_checkpoint_of_v_prediction_has_its_yaml_beside_it(v_base: Base, run: Path, tmp_path: Path) -> None:
    report = exported(make_run(tmp_path / "v", v_base), tmp_path / "out", "checkpoint")
    assert [path.name for path in report.files] == ["v.safetensors", "v.yaml"]
    text = (tmp_path / "out" / "v.yaml").read_text()
    assert 'parameterization: "v"' in text
    assert "FrozenOpenCLIPEmbedder" in text
    assert not [path for path in exported(run, tmp_path / "eps").files if path.suffix == ".yaml"]


def test_the_document_advises_web_uis_only_for_the_tagger_they_have(base: Base, tmp_path: Path) -> None:
    def advice(name: str) -> str:
        tagger = replace(CheapTagger().identity, name=name)
        exported(make_run(tmp_path / "runs" / name, base, tagger=tagger), tmp_path / "out" / name, "adapter")
        (document,) = (tmp_path / "out" / name).rglob("*.json")
        return "\n".join(json.loads(document.read_text())["use"])

    theirs, ours = advice(f"SmilingWolf/{DEFAULT_TAGGER}"), advice("demo")
    assert "A1111: copy" in theirs and "ComfyUI: copy" in theirs
    assert f"{DEFAULT_TAGGER}-n3-to-copy/{DEFAULT_TAGGER}-n3.pt into the models folder" in theirs
    assert "A1111" not in ours and "ComfyUI" not in ours
    assert "pfgtrain generate --adapter demo-n3-to-copy/demo-n3.pt --base BASE --tagger demo" in ours


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_diffusers_folder_loads_in_plain_diffusers_and_is_a_base_with_the_runs_vae(
    v_base: Base, tmp_path: Path, kind: str
) -> None:
    run = make_run(tmp_path / "a", v_base, kind=kind)
    exported(run, tmp_path / "out", "diffusers")
    folder = tmp_path / "out" / "a-diffusers"
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    (picture,) = pipeline("a", num_inference_steps=1, height=64, width=64).images
    assert picture.size == (64, 64)
    again = Base.load(str(folder))
    record = RunRecord.read(run)
    assert (again.family.facts.name, again.prediction_type) == ("sd2", "v_prediction")
    assert state_digest(again.load_vae().state_dict()) == record.vae_digest
    adapter = load_adapter(folder / "adapter" / "adapter.safetensors", cross_attention_dim=WIDTH)
    assert (adapter.kind, adapter.num_tokens) == (kind, TOKENS)
    facts = json.loads((folder / "adapter" / "config.json").read_text())
    assert (facts["kind"], facts["uncond"], facts["text_layer"]) == (kind, "zeros", 3)
    assert not [path for path in folder.rglob("*.json") if str(tmp_path) in path.read_text()]


def test_the_text_encoder_of_a_diffusers_folder_ends_where_the_run_read_it(
    base: Base, tmp_path: Path
) -> None:
    said = Said()
    run = make_run(tmp_path / "a", base, text_layer=2)
    options = ExportOptions(formats=("checkpoint", "diffusers"), dtype="float32")
    export(run, tmp_path / "out", options=options, progress=said)
    assert any("layer 2 of 3: set Clip skip to 2" in line for line in said.lines)
    folder = tmp_path / "out" / "a-diffusers"
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    ids = torch.arange(5)[None]
    whole = CLIPTextModel.from_pretrained(base.folder / "text_encoder")
    with torch.no_grad():
        hidden = whole(ids, output_hidden_states=True).hidden_states[2]
        assert torch.equal(pipeline.text_encoder(ids)[0], whole.final_layer_norm(hidden))
    assert Base.load(str(folder)).text_layer == 2


@pytest.mark.parametrize("kind", ["unet", "lora", "adapter"])
def test_a_run_to_give_away_generates_the_same_and_holds_no_folder_of_ours(
    kind: str, base: Base, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", base, train=kind)
    Sampling(guidance_scale=3.5, pfg_scale=1.0).write(run)
    (given,) = exported(run, tmp_path / "out", "run", dtype="float32").files
    assert given.name == "a-run"
    assert sorted(path.name for path in given.rglob("*") if path.is_file()) == sorted(
        {
            "unet": ["adapter.safetensors", "run.json", "sampling.json", "state.json", "unet.safetensors"],
            "lora": ["adapter.safetensors", "lora.safetensors", "run.json", "sampling.json", "state.json"],
            "adapter": ["adapter.safetensors", "run.json", "sampling.json", "state.json"],
        }[kind]
    )
    assert str(tmp_path) not in (given / "run.json").read_text()
    assert "/home/someone" not in (given / "run.json").read_text()
    ours, theirs = (load_run(folder, base=base, tagger=CheapTagger()) for folder in (run, given))
    for one, other in (
        (ours.pipeline.unet, theirs.pipeline.unet),
        (ours.pipeline.adapter, theirs.pipeline.adapter),
    ):
        state = other.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def test_the_unet_of_a_run_to_give_away_is_float16_by_default(run: Path, tmp_path: Path) -> None:
    (given,) = exported(run, tmp_path / "out", "run").files
    (unet,) = given.rglob("unet.safetensors")
    (adapter,) = given.rglob("adapter.safetensors")
    assert {tensor.dtype for tensor in load_file(unet).values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_file(adapter).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "formats", "message"),
    [
        ({"kind": "mlp"}, ("adapter",), "kind mlp, .* cannot hold; --as diffusers can"),
        ({"num_tokens": 0}, ("adapter",), "no adapter"),
        ({"scaling_factor": (0.5,) * 4}, ("checkpoint",), "scaled by channel, .*; --as diffusers can"),
        ({}, ("lora",), 'no LoRA \\(train = "unet"\\)'),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(
    base: Base, tmp_path: Path, changes: dict[str, Any], formats: tuple[str, ...], message: str
) -> None:
    run = make_run(tmp_path / "a", base, **changes)
    with pytest.raises(ConfigError, match=message):
        exported(run, tmp_path / "out", *formats)
    assert not (tmp_path / "out").exists()


def test_an_mlp_goes_into_a_diffusers_folder_when_nothing_is_asked(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base, kind="mlp", train="adapter")
    assert plan_export(run, ExportOptions()).formats == ("diffusers",)


def test_unknown_formats_and_dtypes_are_refused() -> None:
    with pytest.raises(ConfigError, match="--as onnx: no such format; there are adapter, checkpoint"):
        ExportOptions(formats=("onnx",))
    with pytest.raises(ConfigError, match="--dtype int8"):
        ExportOptions(dtype="int8")  # type: ignore[arg-type]


def test_what_web_uis_do_otherwise_is_said(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base, num_tokens=21, uncond="eos")
    notes = plan_export(run, ExportOptions(formats=("adapter",))).notes
    assert [any(word in note for note in notes) for word in ("21 tokens", "eos", "cheap")] == [True] * 3


def test_an_export_asked_for_twice_changes_nothing(run: Path, tmp_path: Path) -> None:
    formats = ("adapter", "checkpoint", "diffusers")
    report = exported(run, tmp_path / "out", *formats)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert exported(run, tmp_path / "out", *formats).files == report.files
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_files_of_other_content_are_kept_unless_forced(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "my run.safetensors"
    (tmp_path / "out" / "my run-diffusers").mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RunError, match=r"my run\.safetensors and 1 more: there already, .* --force"):
        exported(run, tmp_path / "out", "adapter", "checkpoint", "diffusers")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["my run-diffusers", mine.name]
    assert mine.read_text() == "mine"
    exported(run, tmp_path / "out", "adapter", "checkpoint", "diffusers", force=True)
    assert len(load_file(mine)) > 200
    assert (tmp_path / "out" / "my run-diffusers" / "model_index.json").exists()


def test_force_replaces_an_export_s_own_files_and_no_others(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(run, out, "adapter", "diffusers")
    (out / "my run-diffusers" / "notes.txt").write_text("precious")
    (out / "my run-n3-to-copy" / "my run-n3.pt").write_text("mine")
    with pytest.raises(RunError, match=r"notes\.txt: is no file of an export; move it away"):
        exported(run, out, "adapter", "diffusers", force=True)
    assert (out / "my run-diffusers" / "notes.txt").read_text() == "precious"
    assert (out / "my run-n3-to-copy" / "my run-n3.pt").read_text() == "mine"
    (out / "my run-diffusers" / "notes.txt").unlink()
    (out / "my run-n3.safetensors").unlink()
    (out / "my run-n3.safetensors").mkdir()
    with pytest.raises(RunError, match="is a folder of yours in the place of what is exported"):
        exported(run, out, "adapter", force=True)
    assert (out / "my run-n3-to-copy" / "my run-n3.pt").read_text() == "mine"


def test_who_may_read_an_export_is_the_umask_s_to_say(base: Base, tmp_path: Path, shared_umask: int) -> None:
    closed = shutil.copytree(base.folder, tmp_path / "whole")
    for path in (closed / "tokenizer").iterdir():
        path.chmod(0o600)
    (closed / "tokenizer").chmod(0o700)
    mine = Base.load(str(closed))
    exported(make_run(tmp_path / "a", mine), tmp_path / "out", *FORMATS[:4], "run")
    exported(make_run(tmp_path / "b", mine, train="lora"), tmp_path / "out", "lora", "run")
    found = modes(tmp_path / "out")
    assert len(found) > 20
    assert set(found.values()) == {shared_umask}, found
    folders = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_dir()}
    assert folders == {0o775}


def test_weights_too_large_for_float16_are_refused_and_leave_nothing(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base)
    saved = (run / "checkpoints" / "step-00000050").rename(tmp_path / "saved")
    weights = saved / "ema" / "unet.safetensors"
    save_file({**load_file(weights), "conv_out.bias": torch.full((4,), 1e6)}, weights)
    where = read_state(saved)
    (saved / "state.json").unlink()

    def write(folder: Path) -> None:
        shutil.copytree(saved, folder, dirs_exist_ok=True)

    save_checkpoint(run, where, write=write)
    with pytest.raises(RunError, match=r"UNet's conv_out\.bias is not finite in float16; .* float32"):
        exported(run, tmp_path / "out", "checkpoint")
    assert list((tmp_path / "out").iterdir()) == []
    exported(run, tmp_path / "out", "checkpoint", dtype="float32")


def test_a_run_on_another_base_is_refused(run: Path, tmp_path: Path) -> None:
    other = build_whole_base(tmp_path / "other", linear=False)
    unet = UNet2DConditionModel.from_pretrained(other / "unet")
    with torch.no_grad():
        unet.conv_in.weight.add_(1)
    unet.save_pretrained(other / "unet")
    with pytest.raises(IdentityError, match="other weights"):
        export(run, tmp_path / "out", base=Base.load(str(other)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["here", "file"])
def test_what_a_user_got_wrong_is_one_line(run: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PfgError) as error:
        if where == "here":
            exported(tmp_path, tmp_path / "out")
        else:
            exported(run, tmp_path / "file", "adapter")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "limit", [1000, 4000]
)  # bytes: run.json has more than the first, all weights than both
def test_a_full_disk_leaves_nothing_of_a_run_to_give_away_and_names_where_it_was_to_be(
    limit: int, run: Path, tmp_path: Path
) -> None:
    Sampling(guidance_scale=3.5, pfg_scale=1.0).write(run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunError) as caught:
            exported(run, tmp_path / "out", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'out'}: not written (")
    assert said.endswith("; free the disk or choose another --to")
    assert not any(word in said for word in ("--resume", ".tmp-", "\n"))
    assert list((tmp_path / "out").iterdir()) == []
