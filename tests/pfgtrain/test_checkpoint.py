from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pfgdata.errors import RunError
from pfgdata.files import canonical_json
from pfgdata.records import TaggerIdentity
from pfgtrain.checkpoint import (
    SAMPLING_FILE,
    CheckpointState,
    RunRecord,
    Sampling,
    append_metrics,
    checkpoints,
    find_checkpoint,
    is_run,
    load_training_state,
    read_metrics,
    read_state,
    save_checkpoint,
    save_training_state,
    trim_metrics,
    weights_folder,
)

RECORD = RunRecord(
    tagger=TaggerIdentity(
        name="t", revision=None, weights_sha256="0", feature_node="n", preprocess="kohya", decode="1"
    ),
    feature_dim=768,
    base_name="demo",
    base_revision=None,
    base_fingerprint="f",
    base_family="sd1",
    latents_id="abc",
    vae_digest="d",
    scaling_factor=0.18215,
    resolution=128,
    prompt="illustration of 猫",
    caption=None,
    captions_digest=None,
    text_layer=12,
    uncond="zeros",
    num_tokens=5,
    adapter_kind="linear",
    cross_attention_dim=128,
    prediction_type="v_prediction",
    train="unet",
    use_ema=False,
    store="feats",
    selection_digest="s",
    selection_count=3,
    selection_expression=None,
    thresholds={"general": 0.35},
    trained_digest="s",
    trained_count=3,
    held_out_count=0,
    versions={"torch": "2"},
    created="2026-11-24T12:00:00+00:00",
)


def state(step: int, validation_loss: float | None = None) -> CheckpointState:
    return CheckpointState(
        step=step, epoch=0, position=step, probe_start=0.5, validation_loss=validation_loss
    )


def write_weights(folder: Path) -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "weights").write_bytes(b"1234")


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_record_reads_back_equal(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert RunRecord.read(tmp_path) == RECORD


def test_a_record_names_what_decides_and_differs(tmp_path: Path) -> None:
    renamed = replace(RECORD.tagger, name="another name", revision="r")
    assert replace(RECORD, tagger=renamed, created="later", store="elsewhere").differs_from(RECORD) == []
    other = replace(RECORD.tagger, weights_sha256="1")
    assert replace(RECORD, tagger=other, num_tokens=4).differs_from(RECORD) == ["tagger", "num_tokens"]


@pytest.mark.parametrize(
    ("told", "found"),
    [("s3://pictures/feats", "s3://pictures/feats"), ("/data/feats", "/data/feats"), ("feats", None)],
)
def test_a_record_knows_its_store_in_a_folder_or_a_bucket_and_none_once_given_away(
    told: str, found: str | None, tmp_path: Path
) -> None:
    replace(RECORD, store=told).write(tmp_path)
    path = RunRecord.read(tmp_path).store_path
    assert (path if path is None else str(path)) == found


def test_a_folder_without_a_run_a_damaged_and_a_newer_record_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here; make one with: pfgtrain fit"):
        RunRecord.read(tmp_path / "none")
    RECORD.write(tmp_path)
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"num_tokens": 5', '"num_tokens": 6'))
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        RunRecord.read(tmp_path)


def test_a_checkpoint_is_all_there_and_the_newest_is_found_by_number(tmp_path: Path) -> None:
    for step in (50, 100_000_000, 7):
        save_checkpoint(tmp_path, state(step), write=write_weights)
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-00000007",
        "step-00000050",
        "step-100000000",
    ]
    newest = find_checkpoint(tmp_path)
    assert newest.name == "step-100000000"
    assert (newest / "unet" / "weights").read_bytes() == b"1234"


def test_a_run_without_a_checkpoint_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no checkpoint yet.*--resume"):
        find_checkpoint(tmp_path)


def test_only_the_newest_are_kept_and_never_none(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, state(step), write=write_weights, limit=2)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]
    save_checkpoint(tmp_path, state(6), write=write_weights, limit=1)
    assert names(tmp_path) == ["step-00000006"]


def test_the_best_by_validation_is_kept_beside_the_newest(tmp_path: Path) -> None:
    for step, loss in enumerate([0.5, 0.2, 0.4, 0.2, None, 0.3], start=1):
        save_checkpoint(tmp_path, state(step, loss), write=write_weights, limit=2)
    assert names(tmp_path) == ["step-00000002", "step-00000005", "step-00000006"]
    assert find_checkpoint(tmp_path, "best").name == "step-00000002"
    save_checkpoint(tmp_path, state(7, 0.1), write=write_weights, limit=1)
    assert names(tmp_path) == ["step-00000007"]


def test_a_checkpoint_is_found_by_name_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, state(step), write=write_weights)
    assert find_checkpoint(tmp_path, "step-00000001").name == "step-00000001"
    with pytest.raises(RunError, match="no checkpoint step-3; there are latest, best, step-00000001, step"):
        find_checkpoint(tmp_path, "step-3")
    with pytest.raises(RunError, match="held no images out"):
        find_checkpoint(tmp_path, "best")


def test_a_checkpoint_of_another_version_or_without_its_weights_is_one_line(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, state(1), write=write_weights)
    with pytest.raises(RunError, match=r"lacks adapter\.safetensors; copy it back, or take another"):
        weights_folder(folder, RECORD)
    with pytest.raises(RunError, match=r"ema: lacks adapter\.safetensors; copy it back, use --no-ema, or"):
        weights_folder(folder, replace(RECORD, use_ema=True))
    value = {"format": 1, "step": 1, "epoch": 0, "position": 1, "probe_start": 0.5}
    (folder / "state.json").write_bytes(canonical_json(value))
    with pytest.raises(RunError, match=f"another version of pfgtrain.*delete {folder}"):
        read_state(folder)


def test_the_moving_average_is_what_is_used_unless_it_is_not_asked_for(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, state(1), write=lambda path: (path / "ema").mkdir())
    record = replace(RECORD, use_ema=True, num_tokens=0, train="adapter")  # whose checkpoints need no file
    assert weights_folder(folder, record) == folder / "ema"
    assert weights_folder(folder, record, ema=False) == folder


def test_a_record_of_an_older_format_says_so(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert is_run(tmp_path)
    for found, advice in [(1, "use the pfg it was made with"), (99, "upgrade pfg")]:
        (tmp_path / "run.json").write_bytes(canonical_json({"format": found}))
        with pytest.raises(RunError, match=f"of format {found}, this pfgtrain reads 2; {advice}"):
            RunRecord.read(tmp_path)


def test_a_full_disk_costs_the_new_checkpoint_and_no_old_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), write=write_weights)

    def fill(folder: Path) -> None:
        write_weights(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match=r"step-00000002: not saved .*No space.*step-00000001 is the newest"):
        save_checkpoint(tmp_path, state(2), write=fill, limit=1)
    assert names(tmp_path) == ["step-00000001"]


def test_what_a_killed_save_left_is_not_seen_and_goes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), write=write_weights)
    (tmp_path / "checkpoints" / ".tmp-dead").mkdir()
    assert find_checkpoint(tmp_path).name == "step-00000001"
    save_checkpoint(tmp_path, state(2), write=write_weights)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, state(1), write=interrupt)
    assert names(tmp_path) == []


def moved(steps: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(steps):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def test_the_optimizer_s_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    _, optimizer = moved(3)

    def write(folder: Path) -> None:
        save_training_state(folder, {"optimizer": optimizer})

    folder = save_checkpoint(tmp_path, state(3), write=write)
    _, fresh = moved(0)
    load_training_state(folder, {"optimizer": fresh})
    assert read_state(folder) == state(3)
    ours, theirs = fresh.state_dict()["state"], optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i][key], theirs[i][key]) for i in theirs for key in theirs[i])


def test_a_damaged_state_names_the_folder_to_delete(tmp_path: Path) -> None:
    _, optimizer = moved(1)

    def write(folder: Path) -> None:
        save_training_state(folder, {"optimizer": optimizer})

    folder = save_checkpoint(tmp_path, state(1), write=write)
    with pytest.raises(RunError, match=f"delete {folder}"):
        load_training_state(folder, {"optimizer": optimizer, "scaler": optimizer})
    (folder / "optimizer.pt").write_bytes((folder / "optimizer.pt").read_bytes()[:100])
    with pytest.raises(RunError, match=f"delete {folder}"):
        load_training_state(folder, {"optimizer": optimizer})


def test_metrics_are_trimmed_to_the_step_a_run_goes_on_from(tmp_path: Path) -> None:
    append_metrics(tmp_path, [{"step": step, "loss": 1 / step} for step in range(1, 6)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a crash in the middle of a line
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    trim_metrics(tmp_path, step=3)
    append_metrics(tmp_path, [{"step": 4, "loss": 0.1}])
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert read_metrics(tmp_path)[2]["loss"] == 1 / 3


@pytest.mark.parametrize("torn", [b"\0" * 40, b"\0" * 40 + b"\n", b'{"step": 3, "lo\n', b"\xff\n", b"3\n"])
def test_metrics_end_where_a_crash_tore_them(torn: bytes, tmp_path: Path) -> None:
    append_metrics(tmp_path, [{"step": 1}, {"step": 2}])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    append_metrics(tmp_path, [{"step": 4}])
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    trim_metrics(tmp_path, step=2)
    append_metrics(tmp_path, [{"step": 3}])
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_the_sampling_of_a_run_reads_back_and_without_one_there_is_none(tmp_path: Path) -> None:
    assert Sampling.read(tmp_path) is None
    kept = Sampling(guidance_scale=2.5, guidance_rescale=0.5, pfg_scale=1.25)
    kept.write(tmp_path)
    assert Sampling.read(tmp_path) == kept


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", '{"guidance_scale": 2}', '{"guidance_scale": "x", "pfg_scale": 1}'),
        pytest.param(f'{{"guidance_scale": 1{"0" * 400}, "pfg_scale": 1}}', id="a number too large"),
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_a_sampling_that_cannot_be_used_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / SAMPLING_FILE).write_text(text)
    with pytest.raises(RunError, match=f"{SAMPLING_FILE}: cannot be used .*; mend or delete it$"):
        Sampling.read(tmp_path)
    (tmp_path / SAMPLING_FILE).write_text('{"guidance_scale": NaN, "pfg_scale": 1}')
    with pytest.raises(RunError, match="not finite"):
        Sampling.read(tmp_path)
    (tmp_path / SAMPLING_FILE).write_text('{"guidance_scale": 2, "pfg_scale": 1, "guidance_rescale": 1.5}')
    with pytest.raises(RunError, match=f"{SAMPLING_FILE}: guidance_rescale is 1.5, must be from 0 to 1"):
        Sampling.read(tmp_path)
