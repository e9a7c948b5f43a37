"""The page's server: guides in, pictures out, cancelled, queued; and what must not get through."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pfgdata.errors import RunError
from pfgdata.web import ServeOptions, serving
from pfgtrain.generate import GenerateJob
from pfgtrain.web import RULES, Desk, drawing_app
from pfgtrain.web.desk import samples
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.web.client import BYTES, Client
from tests.pfgtrain.web.conftest import BOUNDS, Gate, picture

QUICK = {"images_per_guide": 3, "num_inference_steps": 2, "batch_size": 2}
LONG = {"images_per_guide": 2, "num_inference_steps": 1000, "batch_size": 1}


def test_the_command_of_a_drawing_makes_the_same_files(
    ready: Client, desk: Desk, call: Call, tmp_path: Path
) -> None:
    guide = ready.upload(picture(), "a guide, 'odd' $HOME.png")["id"]
    settings = QUICK | {
        "guidance_scale": 3.5,
        "pfg_scale": 0.7,
        "seed": 11,
        "prompt": "a cat; --seed 3",
        "negative_prompt": "-blurry\n$(x)",
        "width": 48,
        "height": 32,
    }
    (number,) = ready.post("/api/drawings", {"guides": [guide], "settings": settings})["drawings"]
    drawn = ready.drawn(number)
    assert drawn["state"] == "done", drawn["error"]
    assert [one["seed"] for one in drawn["pictures"]] == [11, 12, 13]
    assert drawn["step"] == drawn["steps"] == 6
    names = [*(one["name"] for one in drawn["pictures"]), drawn["sheet"]]
    served = {name: ready.raw("GET", f"/pictures/{quote(name)}") for name in names}
    program, *words = shlex.split(drawn["command"])
    assert program == "pfgtrain"
    code, out, err = call(*words, "--out", tmp_path / "again")
    assert code == 0, err
    again = {Path(line).name: Path(line).read_bytes() for line in out.splitlines()}
    assert served == again
    assert {path.name for path in (desk.folder / "pictures").iterdir()} == set(again)


def test_the_page_says_what_the_tagger_saw_and_what_the_model_is(ready: Client) -> None:
    guide = ready.post("/api/samples", {"name": "pink-hair.webp"})["id"]
    state = ready.until(lambda state: state["guides"][0]["seen"])
    (shown,) = state["guides"]
    assert (shown["id"], shown["name"], shown["width"]) == (guide, "pink-hair.webp", 256)
    tags = shown["seen"]["tags"]
    assert len(tags) == 24
    assert [score for _, score, _ in tags] == sorted((score for _, score, _ in tags), reverse=True)
    assert {"pink_hair", "sunglasses"} <= {name for name, _, counts in tags if counts}
    facts = state["model"]["facts"]
    assert (facts["size"], facts["step"], facts["tokens"], facts["device"]) == ([64, 64], 16, 2, "cpu")
    assert state["model"]["notes"][0] == "a note"
    assert ready.raw("GET", f"/guides/{guide}.jpg").startswith(b"\xff\xd8")
    assert "immutable" in ready.headers["cache-control"]


def test_every_guide_to_try_can_be_taken_and_is_served(page: Client) -> None:
    assert len(samples()) == 8
    for name, read in samples().items():
        assert page.raw("GET", f"/static/guides/{name}") == read()
    assert page.post("/api/samples", {"name": "../index.html"})["error"].startswith("no guide to try")


def test_a_state_is_told_once(page: Client) -> None:
    state = page.get("/api/state")
    assert page.get(f"/api/state?since={state['version']}") == {"version": state["version"]}
    for other in ("", "-1", "x", "9" * 5000, "00000000.0"):  # of a server before this one
        assert page.get(f"/api/state?since={other}")["guides"] == []


def test_a_cancelled_drawing_ends_at_its_next_step_and_the_next_one_is_as_ever(ready: Client) -> None:
    guide = ready.upload(picture(), "a.png")["id"]

    def draw(settings: Any) -> int:
        (number,) = ready.post("/api/drawings", {"guides": [guide], "settings": settings})["drawings"]
        return int(number)

    before = ready.drawn(draw(QUICK))
    files = [ready.raw("GET", f"/pictures/{one['name']}") for one in before["pictures"]]
    number = draw(LONG)
    ready.until(lambda state: state["drawings"][0]["step"] > 2)
    late = ready.upload(picture(5), "late.png")["id"]  # the tagger looks at it between two steps
    ready.until(lambda state: {one["id"]: one["seen"] for one in state["guides"]}[late])
    assert ready.get("/api/state")["drawings"][0]["state"] == "drawing"
    assert "cancel it first" in ready.delete(f"/api/drawings/{number}")["error"]
    ready.post(f"/api/drawings/{number}/cancel", {})
    ended = ready.drawn(number)
    assert (ended["state"], ended["pictures"], ended["error"]) == ("cancelled", [], None)
    after = ready.drawn(draw(QUICK))
    assert after["pictures"] == before["pictures"]
    assert [ready.raw("GET", f"/pictures/{one['name']}") for one in after["pictures"]] == files
    ready.post(f"/api/drawings/{number}/cancel", {})  # as it had ended
    assert number in [one["id"] for one in ready.get("/api/state")["drawings"]]
    ready.delete(f"/api/drawings/{number}")
    assert number not in [one["id"] for one in ready.get("/api/state")["drawings"]]
    ready.delete(f"/api/drawings/{number}")
    assert ready.status == 404


def test_what_is_asked_while_the_model_loads_waits_and_the_queue_is_bounded(
    page: Client, desk: Desk, gate: Gate
) -> None:
    gate.close()
    desk.start()
    assert page.until(lambda state: state["model"]["task"] == "models")["model"]["state"] == "loading"
    guides = [page.upload(picture(seed), f"{seed}.png")["id"] for seed in range(2)]
    asked = {"guides": guides, "settings": QUICK}
    assert page.post("/api/drawings", asked)["drawings"] == [1, 2]
    assert page.post("/api/drawings", asked)["error"] == (
        "2 drawings wait already, 3 at most; wait, or cancel some"
    )
    assert page.status == 400
    gate.open()
    assert page.drawn(2)["state"] == page.drawn(1)["state"] == "done"


def test_a_model_that_cannot_be_loaded_is_said_on_the_page(desk: Desk, weights: GenerateJob) -> None:
    def load(_: object) -> Any:
        raise RunError("no such run; name another")

    other = Desk(desk.folder, load, job=weights, run=None)
    other.start()
    assert any(other.stop() for _ in range(20))
    model = other.state()["model"]
    assert (model["state"], model["error"]) == ("failed", "no such run; name another")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"guides": [], "settings": {}}, "choose a guide"),
        ({"guides": ["0" * 32], "settings": {}}, "a guide is no longer here"),
        ({"guides": ["../../x"], "settings": {}}, "a guide is no longer here"),
        ({"guides": "all", "settings": {}}, "guides: must be a list of ids"),
        ({"guides": [["a"]]}, "guides: must be a list of ids"),
        ({"guides": ["GUIDE"], "settings": {"width": 40, "height": 40}}, "multiples of 16"),
        (
            {"guides": ["GUIDE"], "settings": {"width": 96, "height": 64}},
            "width: a whole number from 1 to 64",
        ),
        ({"guides": ["GUIDE"], "settings": {"device": "cuda"}}, "settings: device is none of"),
        ({"guides": ["GUIDE"], "settings": 5}, "settings: must be an object"),
        ({"guides": ["GUIDE"], "settings": {"prompt": "\ud800"}}, "that is no JSON"),
        ([], "send a JSON object"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_in_one_line(ready: Client, asked: Any, said: str) -> None:
    guide = ready.upload(picture(), "a.png")["id"]
    answer = ready.post("/api/drawings", json.loads(json.dumps(asked).replace("GUIDE", guide)))
    assert said in answer["error"] and "\n" not in answer["error"]
    assert ready.status == 400
    assert ready.get("/api/state")["drawings"] == []


def test_a_folder_whose_name_is_no_text_is_told(weights: GenerateJob, gate: Gate, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "odd\udcff", gate, job=weights, run=None, bounds=BOUNDS)
    with serving(drawing_app(desk), ServeOptions(port=0, rules=RULES)) as place:
        page = Client(place)
        assert page.get("/api/about")["folder"] == str(desk.folder)
        assert "id" in page.upload(picture(), "a.png")
        assert page.get("/api/state")["guides"][0]["name"] == "a.png"


def test_only_names_that_are_known_are_served_whatever_an_address_says(page: Client, desk: Desk) -> None:
    (desk.folder / "pictures").mkdir(parents=True)
    (desk.folder / "pictures" / "mine.png").write_bytes(b"secret")
    (desk.folder / "secret.png").write_bytes(b"secret")
    for path in (
        "/pictures/mine.png",
        "/pictures/../secret.png",
        "/pictures/..%2fsecret.png",
        "/pictures/%2e%2e%2fsecret.png",
        "/pictures/%00",
        "/pictures//etc/passwd",
        "/pictures/..%5csecret.png",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/guides/README.md",
        "/static/",
        "/static//etc/passwd",
        "/guides/..%2f..%2fsecret.jpg",
        "/guides/.jpg",
        "/api/drawings/1",
        "/thumb/00000000-0000-0000-0000-000000000000.jpg",
        "/api/store?tags=a",
    ):
        assert b"secret" not in page.raw("GET", path), path
        assert page.status in (404, 405), path


def test_an_upload_is_bounded_named_plainly_and_judged_by_its_bytes(page: Client, desk: Desk) -> None:
    answer = page.upload(picture(size=(400, 400)), "large.png")
    assert "0 MB; 0 at most" in answer["error"]
    shown = page.get("/api/guides?name=x")
    assert page.status == 405 and "error" in shown
    for name in ("../../../evil.png", "..\\evil.png", "/etc/evil.png", "a/b/evil.png"):
        page.upload(picture(), name)
    assert [path.name for path in desk.folder.rglob("*.png")] == ["evil.png"]
    markup = "<script>alert(1)</script>.png"
    page.upload(picture(1), markup)
    assert page.get("/api/state")["guides"][1]["name"] == "script_.png"
    error = page.upload(b"<svg onload=alert(1)>", markup)["error"]
    assert error.startswith("script_.png: no image that can be used")
    assert page.headers["content-type"] == "application/json"
    page.raw("POST", "/api/guides?name=a", picture(2), **{"content-type": "multipart/form-data; boundary=x"})
    assert page.status == 415
    page.raw("POST", "/api/guides?name=a", picture(2))
    assert page.status == 400
    for seed in range(10, 10 + BOUNDS.guides - 2):
        page.upload(picture(seed), "more.png")
    assert "guides are here; remove some first" in page.upload(picture(30), "one.png")["error"]


def test_a_guide_that_the_tagger_cannot_see_is_told_and_the_next_one_is_seen(
    page: Client, desk: Desk, gate: Gate
) -> None:
    gate.close()
    desk.start()
    broken = page.upload(picture(), "a.png")["id"]
    (desk.folder / "guides" / broken / "a.png").write_bytes(b"changed since")
    other = page.upload(picture(1), "b.png")["id"]
    gate.open()
    state = page.until(lambda state: all(one["seen"] or one["problem"] for one in state["guides"]))
    told = {one["id"]: one for one in state["guides"]}
    assert "no image that can be used" in told[broken]["problem"] and told[other]["seen"]
    (number,) = page.post("/api/drawings", {"guides": [broken], "settings": QUICK})["drawings"]
    drawn = page.drawn(number)
    assert drawn["state"] == "failed" and "no image that can be used" in drawn["error"]


def test_another_page_can_neither_draw_nor_upload_nor_remove(page: Client) -> None:
    guide = page.upload(picture(), "a.png")["id"]
    for origin in ("http://evil.example", "null", "", f"http://127.0.0.1:{page.place.port + 1}"):
        for method, path, kind in (
            ("POST", "/api/guides?name=a", BYTES),
            ("POST", "/api/drawings", "application/json"),
            ("DELETE", f"/api/guides/{guide}", "application/json"),
        ):
            page.raw(method, path, b"{}", origin=origin, **{"content-type": kind})
            assert page.status == 403, (origin, path)
    page.raw("GET", "/api/state", host="evil.example", origin="")
    assert page.status == 403
    assert len(page.get("/api/state")["guides"]) == 1


def test_the_page_has_no_inline_script_or_style_and_takes_nothing_from_elsewhere(page: Client) -> None:
    text = page.raw("GET", "/").decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "style=" not in text and "onclick" not in text and "http:" not in text and "https:" not in text
    for name in ("main", "api", "dom", "guides", "drawings", "settings", "store", "viewer"):
        module = page.raw("GET", f"/static/{name}.js").decode()
        assert page.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (
            "innerHTML" not in module
            and "eval(" not in module
            and "http" not in module.replace("https", "http")
        )
    assert b"--accent" in page.raw("GET", "/static/pages.css")
    assert page.raw("GET", "/static/web.css") and page.status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b'{"name": 5}', b"5", b'{"name": "x"}'])
def test_a_request_that_is_no_json_object_is_one_line(page: Client, body: bytes) -> None:
    answer = json.loads(page.raw("POST", "/api/samples", body))
    assert page.status == 400 and answer["error"] and "\n" not in answer["error"]
