"""CLIP's byte-pair tokenizer, cut to the merges that the corpora's tags need and the most frequent others.

Ids are renumbered, so a cut vocabulary belongs to its encoder; but every word of the tags falls into the same
pieces as with all of CLIP's merges. The list of merges is `bpe_simple_vocab_16e6.txt.gz` of open_clip_torch.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

CLIP_MERGES = 49152 - 256 - 2  # how many lines of its list CLIP uses, after one line of heading
START, END = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77  # of CLIP


def cut_merges(bpe: Path, words: Iterable[str], *, frequent: int) -> list[str]:
    """CLIP's first `frequent` merges and those that `words` pass through, in CLIP's order."""
    lines = gzip.decompress(bpe.read_bytes()).decode().split("\n")[1 : CLIP_MERGES + 1]
    rank = {tuple(line.split()): number for number, line in enumerate(lines)}
    needed = set(range(frequent))
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while steps := [(rank[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in rank]:
            number, at = min(steps)
            needed.add(number)
            pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    return [lines[number] for number in sorted(needed)]


def write_tokenizer(folder: Path, merges: list[str]) -> int:
    """Write CLIP's four tokenizer files with these merges; the number of tokens. It pads with the end."""
    symbols = _byte_symbols()
    joined = [merge.replace(" ", "") for merge in merges]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *joined, START, END]
    folder.mkdir(parents=True, exist_ok=True)
    numbered = {token: number for number, token in enumerate(tokens)}
    text = json.dumps(numbered, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS, **special}
    for name, content in (("tokenizer_config", config), ("special_tokens_map", special)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return len(tokens)


def load_tokenizer(folder: Path) -> Any:
    """transformers' CLIPTokenizer of `folder`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)


def _byte_symbols() -> list[str]:
    """The 256 characters CLIP writes bytes with: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
