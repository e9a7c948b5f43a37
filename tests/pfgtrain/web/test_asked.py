"""What a browser sends becomes a job, or one line that names what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateJob
from pfgtrain.web import Bounds
from pfgtrain.web.asked import settings_of

BOUNDS = Bounds()


def test_settings_become_the_job_that_a_command_would_be() -> None:
    sent = {"guidance_scale": 2, "seed": 7, "prompt": "a cat", "width": 512, "height": 768, "uncond": "eos"}
    job = settings_of(sent, GenerateJob(device="cpu"), bounds=BOUNDS)
    assert job == GenerateJob(
        device="cpu", guidance_scale=2.0, seed=7, prompt="a cat", width=512, height=768, uncond="eos"
    )
    assert isinstance(job.guidance_scale, float)  # 2 and 2.0 would be two names of one picture


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([], "settings: must be an object"),
        ({"device": "cuda"}, "settings: device is none of images_per_guide"),
        ({"adapter": "/etc/passwd"}, "settings: adapter is none of"),
        ({"x" * 5000: 1}, "settings: x{40} is none of"),
        ({"seed": True}, "seed: a whole number"),
        ({"seed": 1.0}, "seed: a whole number"),
        ({"seed": "1"}, "seed: a whole number"),
        ({"seed": 2**53}, "seed: a whole number"),
        ({"images_per_guide": 65}, "images_per_guide: a whole number from 1 to 64"),
        ({"batch_size": 0}, "batch_size: a whole number from 1 to 16"),
        ({"num_inference_steps": 1001}, "num_inference_steps: a whole number from 1 to 1,000"),
        ({"width": 8192, "height": 64}, "width: a whole number from 1 to 4,096"),
        ({"width": 64}, "width and height, both or neither"),
        ({"guidance_scale": float("nan")}, "guidance_scale: a number"),
        ({"guidance_scale": 1e9}, "guidance_scale: a number"),
        ({"guidance_scale": 10**400}, "guidance_scale: a number from -1000 to 1000"),
        ({"pfg_scale": float("-inf")}, "pfg_scale: a number"),
        ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5, must be from 0 to 1"),
        ({"pfg_scale": []}, "pfg_scale: a number"),
        ({"no_pfg": 1}, "no_pfg: true or false"),
        ({"prompt": 5}, "prompt: must be a text"),
        ({"prompt": "x" * 4001}, "prompt: 4,001 letters, 4,000 at most"),
        ({"negative_prompt": None}, "negative_prompt: must be a text"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"negative_prompt": "\ud800"}, "negative_prompt"),
        ({"uncond": "none"}, "uncond is 'none'"),
    ],
)
def test_what_cannot_be_is_named_in_one_line(sent: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        settings_of(sent, GenerateJob(), bounds=BOUNDS)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
