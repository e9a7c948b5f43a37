"""The adapter: its file, its tokens; one concatenation is the original's patch of every projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pfgdata.errors import RunError
from pfgtrain.adapter import (
    PFGMLP,
    PFGLinear,
    Uncond,
    append_tokens,
    conditional_rows,
    load_adapter,
    save_adapter,
    unconditional_pad,
    unconditional_rows,
)
from pfgtrain.condition import Condition

FEATURES, TOKENS, WIDTH, POSITIONS = 12, 3, 20, 7  # WIDTH is no block width: the hook picks layers by it


def a_tensor(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def adapter() -> PFGLinear:
    return PFGLinear(FEATURES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


@contextmanager
def patched_projections(unet: nn.Module, tokens_BKD: Tensor) -> Iterator[int]:
    """The original's form: each to_k and to_v that reads the context appends the tokens to it by itself."""

    def patched(project: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda context_BTD: project(torch.cat([context_BTD, tokens_BKD], dim=1))

    layers = [
        module
        for name, module in unet.named_modules()
        if name.endswith((".to_k", ".to_v")) and isinstance(module, nn.Linear) and module.in_features == WIDTH
    ]
    for layer in layers:
        layer.forward = patched(layer.forward)  # type: ignore[method-assign, assignment]
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward


def test_one_concatenation_equals_the_original_patch_of_every_projection(
    adapter: PFGLinear, unet: Any
) -> None:
    noisy, steps = a_tensor(2, 4, 8, 8, seed=3), torch.tensor([10, 700])
    text, features = a_tensor(2, POSITIONS, WIDTH, seed=4), a_tensor(2, FEATURES, seed=5)

    def outputs_and_gradients(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
        unet.zero_grad()
        adapter.zero_grad()
        out = run(adapter(features))
        out.square().mean().backward()
        parameters = [*adapter.parameters(), *unet.parameters()]
        return out.detach(), [p.grad.clone() for p in parameters if p.grad is not None]

    def patched(tokens: Tensor) -> Tensor:
        with patched_projections(unet, tokens) as count:
            assert count == 2 * sum(name.endswith("attn2") for name, _ in unet.named_modules())
            return unet(noisy, steps, encoder_hidden_states=text).sample

    def concatenated(tokens: Tensor) -> Tensor:
        return unet(noisy, steps, encoder_hidden_states=append_tokens(said(text), tokens).context).sample

    ours, our_gradients = outputs_and_gradients(concatenated)
    theirs, their_gradients = outputs_and_gradients(patched)
    bare = unet(noisy, steps, encoder_hidden_states=text).sample

    torch.testing.assert_close(ours, theirs)
    assert len(our_gradients) == len(their_gradients) > 0
    torch.testing.assert_close(our_gradients, their_gradients)
    assert our_gradients[0].abs().max() > 0
    assert not torch.allclose(ours, bare)


def test_row_k_times_d_plus_d_is_token_k_channel_d(adapter: PFGLinear) -> None:
    features = a_tensor(2, FEATURES, seed=6)
    tokens = adapter(features)
    weight, bias = adapter.pfg_linear.weight, adapter.pfg_linear.bias
    assert tokens.shape == (2, TOKENS, WIDTH)
    for token, channel in ((0, 0), (1, 4), (2, 19)):
        row = token * WIDTH + channel
        expected = features @ weight[row] + bias[row]
        torch.testing.assert_close(tokens[:, token, channel], expected)


def test_the_start_is_reproducible_and_near_the_scale_of_text() -> None:
    first, again = (PFGLinear(768, 5, 768, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    tokens = first(a_tensor(64, 768, seed=7))
    assert torch.equal(first.pfg_linear.weight, again.pfg_linear.weight)
    assert tokens.std().item() == pytest.approx(0.58, abs=0.02)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_adapter_comes_back_from_its_file_bit_for_bit(
    adapter: PFGLinear, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    save_adapter(adapter, path)
    back = load_adapter(path, cross_attention_dim=WIDTH)
    assert (back.feature_dim, back.num_tokens, back.cross_attention_dim) == (FEATURES, TOKENS, WIDTH)
    ours, theirs = back.state_dict(), adapter.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_pt_file_is_a_plain_dict_of_exactly_the_two_keys(adapter: PFGLinear, tmp_path: Path) -> None:
    save_adapter(adapter.half(), tmp_path / "x.pt")
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    assert type(state) is dict
    assert list(state) == ["pfg_linear.weight", "pfg_linear.bias"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert state["pfg_linear.weight"].shape == (TOKENS * WIDTH, FEATURES)


def test_five_tokens_of_sd2_make_the_file_the_article_speaks_of(tmp_path: Path) -> None:
    save_adapter(PFGLinear(768, 5, 1024), tmp_path / "x-n5.safetensors")
    assert (tmp_path / "x-n5.safetensors").stat().st_size == pytest.approx(15.7e6, rel=0.01)
    assert set(load_file(tmp_path / "x-n5.safetensors")) == {"pfg_linear.weight", "pfg_linear.bias"}


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    weight, bias = a_tensor(40, 8, seed=8).half(), a_tensor(40, seed=9).half()
    torch.save({"pfg_linear.weight": weight, "pfg_linear.bias": bias}, tmp_path / "x.pt")
    adapter = load_adapter(tmp_path / "x.pt", cross_attention_dim=20)
    assert adapter.dtype == torch.float32
    assert torch.equal(adapter.state_dict()["pfg_linear.weight"], weight.float())


def a_spread() -> tuple[Tensor, Tensor]:
    return a_tensor(FEATURES, seed=20), a_tensor(FEATURES, seed=21).abs() + 0.1


def test_a_standardized_adapter_folded_gives_the_same_tokens_to_the_readers_of_two_keys(
    tmp_path: Path,
) -> None:
    adapter = PFGLinear(FEATURES, TOKENS, WIDTH, standardization=a_spread())
    features = a_tensor(5, FEATURES, seed=22)
    torch.save(adapter.folded(), tmp_path / "x-n3.pt")
    plain = load_adapter(tmp_path / "x-n3.pt", cross_attention_dim=WIDTH)
    assert plain.feature_mean is None
    torch.testing.assert_close(plain(features), adapter(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("standardized", [False, True])
def test_taking_a_folded_adapter_gives_its_tokens_whatever_its_own_spread(standardized: bool) -> None:
    source = PFGLinear(FEATURES, TOKENS, WIDTH, standardization=a_spread())
    target = PFGLinear(FEATURES, TOKENS, WIDTH, standardization=a_spread() if standardized else None)
    target.take_folded(source.folded())
    features = a_tensor(5, FEATURES, seed=23)
    torch.testing.assert_close(target(features), source(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("standardized", [False, True])
def test_an_mlp_comes_back_from_its_file_with_its_spread(standardized: bool, tmp_path: Path) -> None:
    spread = a_spread() if standardized else None
    adapter = PFGMLP(FEATURES, TOKENS, WIDTH, hidden_dim=9, standardization=spread)
    save_adapter(adapter, tmp_path / "x.safetensors")
    back = load_adapter(tmp_path / "x.safetensors", cross_attention_dim=WIDTH, num_tokens=TOKENS)
    features = a_tensor(5, FEATURES, seed=24)
    assert (back.kind, back.num_tokens) == ("mlp", TOKENS)
    assert torch.equal(back(features), adapter(features))


def test_an_mlp_is_linear_relu_linear() -> None:
    adapter = PFGMLP(FEATURES, TOKENS, WIDTH, hidden_dim=9)
    state, features = adapter.state_dict(), a_tensor(5, FEATURES, seed=25)
    hidden = (features @ state["pfg_mlp.0.weight"].T + state["pfg_mlp.0.bias"]).clamp(min=0)
    expected = hidden @ state["pfg_mlp.2.weight"].T + state["pfg_mlp.2.bias"]
    torch.testing.assert_close(adapter(features), expected.view(5, TOKENS, WIDTH))


def test_the_mlp_of_2023_is_read_under_its_names(tmp_path: Path) -> None:
    """sd-trainer's of March 2023: `pfg_linear_1` (768 to 1536), ReLU, `pfg_linear_2`."""
    first, second = torch.nn.Linear(768, 1536), torch.nn.Linear(1536, 4 * 768)
    layers = {"pfg_linear_1": first, "pfg_linear_2": second}
    state = {f"{name}.{key}": v for name, layer in layers.items() for key, v in layer.state_dict().items()}
    torch.save(state, tmp_path / "x-n4.pt")
    adapter = load_adapter(tmp_path / "x-n4.pt", cross_attention_dim=768)
    features = a_tensor(3, 768, seed=26)
    assert (adapter.kind, adapter.num_tokens) == ("mlp", 4)
    torch.testing.assert_close(adapter(features), second(first(features).relu()).view(3, 4, 768))


def test_half_a_spread_and_layers_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    whole = PFGMLP(FEATURES, TOKENS, WIDTH, hidden_dim=9, standardization=a_spread()).state_dict()
    for state in (
        {key: value for key, value in whole.items() if key != "feature_std"},
        {**whole, "pfg_mlp.2.weight": whole["pfg_mlp.2.weight"][:, :4].contiguous()},
    ):
        save_file(state, tmp_path / "x.safetensors")
        with pytest.raises(RunError) as caught:
            load_adapter(tmp_path / "x.safetensors", cross_attention_dim=WIDTH)
        assert "\n" not in str(caught.value)


def test_four_tokens_of_sd1_are_not_taken_for_three_of_sd2(tmp_path: Path) -> None:
    for name in ("x-n4.pt", "x.pt", "x-n4-late.pt"):
        save_adapter(PFGLinear(8, 4, 768), tmp_path / name)
    with pytest.raises(RunError, match=r"x-n4\.pt: its name says 4 tokens, .* 1024 it holds 3;"):
        load_adapter(tmp_path / "x-n4.pt", cross_attention_dim=1024)
    with pytest.raises(RunError, match=r"x\.pt: the run says 4 tokens, .* 1024 it holds 3;"):
        load_adapter(tmp_path / "x.pt", cross_attention_dim=1024, num_tokens=4)
    assert load_adapter(tmp_path / "x-n4.pt", cross_attention_dim=768, num_tokens=4).num_tokens == 4
    assert load_adapter(tmp_path / "x-n4-late.pt", cross_attention_dim=1024).num_tokens == 3


def test_a_file_that_is_no_adapter_is_refused_in_one_line(tmp_path: Path) -> None:
    good = {"pfg_linear.weight": torch.zeros(40, 8), "pfg_linear.bias": torch.zeros(40)}
    save_file({**good, "extra": torch.zeros(1)}, tmp_path / "extra.safetensors")
    save_file({"pfg_linear.weight": good["pfg_linear.weight"]}, tmp_path / "no-bias.safetensors")
    save_file({**good, "pfg_linear.bias": torch.zeros(39)}, tmp_path / "uneven.safetensors")
    save_file(good, tmp_path / "other-base.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"pfg_linear.weight": Path("code")}, tmp_path / "pickle.pt")
    (tmp_path / "noise.pt").write_bytes(b"no tensors")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors")
    (tmp_path / "empty.pt").touch()
    names = sorted(path.name for path in tmp_path.iterdir())
    for name in [*names, "absent.pt", "absent.safetensors"]:
        with pytest.raises(RunError, match=name) as caught:
            load_adapter(tmp_path / name, cross_attention_dim=16)
        assert "\n" not in str(caught.value)


def test_another_ending_is_refused(adapter: PFGLinear, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"\.pt or \.safetensors"):
        save_adapter(adapter, tmp_path / "weights.bin")


def said(context: Tensor) -> Condition:
    return Condition(context=context)


def test_the_eos_pad_is_the_last_text_position_and_the_zeros_pad_is_zero() -> None:
    text = a_tensor(2, POSITIONS, WIDTH, seed=10)
    eos = unconditional_pad(text, num_tokens=TOKENS, uncond="eos")
    assert all(torch.equal(eos[:, token], text[:, -1]) for token in range(TOKENS))
    assert torch.equal(unconditional_pad(text, num_tokens=TOKENS, uncond="zeros"), torch.zeros(2, 3, WIDTH))


@pytest.mark.parametrize("uncond", ["zeros", "eos"])
def test_a_dropped_row_is_the_unconditional_row_bit_for_bit(adapter: PFGLinear, uncond: Uncond) -> None:
    prompt, empty = a_tensor(1, POSITIONS, WIDTH, seed=11), a_tensor(1, POSITIONS, WIDTH, seed=12)
    tokens = adapter(a_tensor(4, FEATURES, seed=13))
    keep = torch.tensor([True, False, True, False])
    rows = conditional_rows(
        said(prompt), tokens, empty=said(empty), keep_text_B=keep, keep_tokens_BK=keep[:, None], uncond=uncond
    ).context
    dropped = unconditional_rows(said(empty), num_tokens=TOKENS, uncond=uncond).context[0]
    assert rows.shape == (4, POSITIONS + TOKENS, WIDTH)
    for row, kept in enumerate(keep.tolist()):
        whole = torch.cat([prompt[0], tokens[row]])
        assert torch.equal(rows[row], whole if kept else dropped)


def test_a_dropped_row_sends_no_gradient_to_its_tokens() -> None:
    tokens = a_tensor(2, TOKENS, WIDTH, seed=14).requires_grad_()
    text = a_tensor(1, POSITIONS, WIDTH, seed=15)
    keep = torch.tensor([True, False])
    both = {"keep_text_B": keep, "keep_tokens_BK": keep[:, None]}
    conditional_rows(said(text), tokens, empty=said(text), **both, uncond="eos").context.sum().backward()
    assert tokens.grad is not None
    assert torch.equal(tokens.grad[0], torch.ones(TOKENS, WIDTH))
    assert torch.equal(tokens.grad[1], torch.zeros(TOKENS, WIDTH))


@pytest.mark.parametrize("uncond", ["zeros", "eos"])
def test_text_and_tokens_can_be_left_out_apart(adapter: PFGLinear, uncond: Uncond) -> None:
    texts, empty = a_tensor(3, POSITIONS, WIDTH, seed=16), a_tensor(1, POSITIONS, WIDTH, seed=17)
    tokens = adapter(a_tensor(3, FEATURES, seed=18))
    rows = conditional_rows(
        said(texts),
        tokens,
        empty=said(empty),
        keep_text_B=torch.tensor([True, True, False]),
        keep_tokens_BK=torch.tensor([[True], [False], [True]]),
        uncond=uncond,
    ).context
    assert torch.equal(rows[0], torch.cat([texts[0], tokens[0]]))
    dropped = unconditional_rows(said(texts[1:2]), num_tokens=TOKENS, uncond=uncond)
    assert torch.equal(rows[1:2], dropped.context)
    assert torch.equal(rows[2], torch.cat([empty[0], tokens[2]]))


def test_without_an_adapter_a_row_is_its_text_alone() -> None:
    texts, empty = a_tensor(2, POSITIONS, WIDTH, seed=16), a_tensor(1, POSITIONS, WIDTH, seed=17)
    keep = torch.tensor([True, False])
    rows = conditional_rows(
        said(texts), None, empty=said(empty), keep_text_B=keep, keep_tokens_BK=keep[:, None], uncond="zeros"
    ).context
    assert torch.equal(rows, torch.stack([texts[0], empty[0]]))
