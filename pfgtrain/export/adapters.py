"""The adapter's files: the two keys that every web UI loads, and what they cannot say, in a .json beside.

pfg-webui and pfg-ComfyUI call torch.load and take two keys; radiata loads strictly. So nothing else may stand
in the file, and the number of tokens stands in its name. The first two list each file beside it too, whatever
it is, so the .pt stands alone in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfgdata.hub import weights_sha256
from pfgdata.store import installed_versions
from pfgtrain.adapter import PFGLinear, load_adapter, save_adapter
from pfgtrain.checkpoint import ADAPTER_FILE
from pfgtrain.export.plan import ExportPlan
from pfgtrain.generate import without_folders

__all__ = ["adapter_facts", "write_adapter", "write_json"]


def write_adapter(folder: Path, plan: ExportPlan) -> None:
    """Write the .pt and .safetensors of exactly two keys, standardization folded in, and the .json."""
    record = plan.record
    adapter = load_adapter(
        plan.weights / ADAPTER_FILE,
        cross_attention_dim=record.cross_attention_dim,
        num_tokens=record.num_tokens,
    )
    assert isinstance(adapter, PFGLinear), "plan_export refuses the other kind"
    plain = PFGLinear(adapter.feature_dim, adapter.num_tokens, adapter.cross_attention_dim)
    plain.load_state_dict(adapter.folded())
    *tensors, document = (folder / name for name in plan.names_of("adapter"))
    for path in tensors:
        path.parent.mkdir(exist_ok=True)
        save_adapter(plain, path)
    files = {path.relative_to(folder).as_posix(): weights_sha256(path) for path in tensors}
    write_json(document, {**adapter_facts(plan), "files": files, "use": _use(plan)})


def adapter_facts(plan: ExportPlan) -> dict[str, Any]:
    """What an adapter's tensors do not say: what it reads, what it is laid on, how it was trained."""
    record = plan.record
    features = record.features_read.named(without_folders).as_records()
    return {
        **({"features": features} if features else {}),
        "kind": record.adapter_kind,
        "num_tokens": record.num_tokens,
        "cross_attention_dim": record.cross_attention_dim,
        "feature_dim": record.features_read.feature_dim,
        "tagger": {**record.tagger.as_dict(), "name": without_folders(record.tagger.name)},
        "base": {
            "name": without_folders(record.base_name),
            "revision": record.base_revision,
            "family": record.base_family,
            "fingerprint": record.base_fingerprint,
        },
        "train": record.train,
        "prompt": record.prompt,
        "text_layer": record.text_layer,
        "uncond": record.uncond,
        "empty_prompt": record.empty_prompt,
        "prediction_type": record.prediction_type,
        "resolution": record.resolution,
        "images": record.trained_count,
        "step": plan.step,
        "average": plan.is_average,
        "pfg": installed_versions(["pfg"])["pfg"],
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _use(plan: ExportPlan) -> list[str]:
    """How to use the files, a line a program that can."""
    record = plan.record
    file, count = plan.names_of("adapter")[0], record.num_tokens
    model = {
        "unet": "the model trained with it",
        "lora": f"{without_folders(record.base_name)} with the LoRA trained with it",
        "adapter": without_folders(record.base_name),
    }[record.train]
    a1111 = f"copy {file} into the models folder of the extension pfg-webui; {count} tokens; on {model}"
    if not plan.family.ldm.pfg_webui:
        a1111 = f"loads the checkpoint only; pfg-webui cannot use an adapter for {plan.family.facts.title}"
    web_uis = [
        f"A1111: {a1111}",
        f"ComfyUI: copy {file} into the models folder of pfg-ComfyUI; on {model}",
    ]
    tagger = "" if plan.for_web_uis else f" --tagger {without_folders(record.tagger.name)}"
    return [
        *(web_uis if plan.for_web_uis else []),
        f"pfgtrain generate --adapter {file} --base BASE{tagger} GUIDE.png --uncond {record.uncond}",
        f"the prompt was: {record.prompt}",
    ]
