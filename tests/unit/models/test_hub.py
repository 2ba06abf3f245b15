"""Models on the Hugging Face Hub: pushed and read by other processes, over HTTP, from a stand-in of it on loopback."""

import json
import os
from pathlib import Path

import pytest
import yaml

from gmsdi.errors import UserError
from gmsdi.models import registry
from gmsdi.models.hub import card, is_id
from tests.helpers import fresh
from tests.helpers.hub_server import Repository, serve
from tests.helpers.tiny import write

SCORES = "model,settings,status,stem,protocol,active,active_low,active_high\n" + "".join(
    f"{model},x,run,{stem},3.0,{active},1.0,4.0\n"
    for model, active in (("GMSDI Extractor", 2.5), ("MSDM", 1.5))
    for stem in ("Bass", "All")
)


@pytest.fixture(scope="module")
def hub():
    with serve() as site:
        yield site


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("model") / "model")
    (folder / "provenance.json").write_text(json.dumps({"steps": 40, "hardware": "a laptop", "data": {"kind": "mini"}}))
    return folder


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """The results of a run that evaluated the model."""
    from hashlib import sha256

    folder = tmp_path_factory.mktemp("run")
    (folder / "tables").mkdir()
    (folder / "tables" / "table2_separation.csv").write_text(SCORES)
    digest = sha256((model / "model.safetensors").read_bytes()).hexdigest()
    facts = {"Model": {"model.safetensors": f"1 MB, sha256 {digest}"}, "Data": {"test split": "6 tracks, 6 chunks"}}
    (folder / "provenance.json").write_text(json.dumps(facts))
    return folder


def python(code, *arguments, hub, home, **environment):
    known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    known |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    return fresh.run(code, *arguments, cwd=home, environment={**known, **environment})


PUSH = """
import sys
import gmsdi
model = gmsdi.GMSDI.from_pretrained(sys.argv[1], device="cpu")
settings = {"private": True, "token": sys.argv[3], "commit_message": "My model"}
print(model.push_to_hub("me/mine", licence="cc-by-4.0", results=sys.argv[2], **settings))
"""

REVISIONS = """
import sys
import gmsdi
from gmsdi.errors import UserError
folder, commit, token = sys.argv[1:]
for where, settings in [
    ("me/mine", {}),
    ("me/mine", {"token": token, "revision": "v7"}),
    ("me/mine@main", {"token": token, "revision": commit}),
    (folder, {"revision": commit}),
    ("me/empty", {}),
]:
    try:
        gmsdi.GMSDI.from_pretrained(where, device="cpu", **settings)
    except UserError as error:
        print(error)
model = gmsdi.GMSDI.from_pretrained("me/mine", revision=commit, token=token, device="cpu")
print(model.provenance)
"""

DENOISE = """
import sys
import torch
import gmsdi
model = gmsdi.load(sys.argv[1], device="cpu", precision="float32")
x = torch.linspace(-1, 1, 512).reshape(2, 1, 256)
prompts = model.embed(["Bass", "Drums, Piano"]).select(torch.arange(2))
print(model.denoise(x, torch.tensor([0.1, 1.0]), prompts).tolist())
"""


def test_a_model_that_is_pushed_is_read_by_its_name_elsewhere_and_again_without_a_connection(hub, model, run, tmp_path):
    pushed = python(PUSH, model, run, hub.token, hub=hub, home=tmp_path)
    assert pushed.returncode == 0, pushed.stderr[-3000:]
    assert pushed.stdout.strip() == f"{hub.url}/me/mine"
    files = hub.repositories["me/mine"].files
    assert set(files) == {"README.md", "config.json", "model.safetensors", "provenance.json"}
    assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert hub.repositories["me/mine"].large == {"model.safetensors"}

    assert hub.repositories["me/mine"].messages == ["My model"]
    assert hub.repositories["me/mine"].private
    hub.repositories["me/empty"] = Repository({"config.json": b"{}"})
    commit = hub.repositories["me/mine"].commit
    said = python(REVISIONS, model, commit, hub.token, hub=hub, home=tmp_path)
    assert [line.partition(";")[0] for line in said.stdout.splitlines()] == [
        "me/mine: no such folder, and no such repository on the Hugging Face Hub, or a private one",
        "me/mine@v7: no such revision on the Hugging Face Hub",
        f"me/mine@main: names its revision, and {commit!r} is given, too",
        f"{model}: not on the Hugging Face Hub, so that it has no revision",
        "me/empty: holds no model of gmsdi (config.json and model.safetensors)",
        (model / "provenance.json").read_text(),
    ], said.stderr[-3000:]
    hub.repositories["me/mine"].private = False

    files["pytorch_model.bin"] = b"a pickle, which is never fetched"
    here = python(DENOISE, "me/mine", hub=hub, home=tmp_path)
    assert here.returncode == 0, here.stderr[-3000:]
    assert not [asked for asked in hub.requests if "pytorch_model" in asked]
    before = len(hub.requests)
    again = python(DENOISE, "me/mine", hub=hub, home=tmp_path, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr[-3000:]
    assert len(hub.requests) == before
    local = python(DENOISE, model, hub=hub, home=tmp_path)
    assert len(json.loads(local.stdout)) == 2
    assert here.stdout == again.stdout == local.stdout


REFUSE = """
import sys
from gmsdi.cli import main
sys.exit(main(["generate", "--model", "me/refused", "--stems", "bass", "drums", "--gamma-x", "0.1*sigma"]))
"""


def test_of_a_task_that_a_model_cannot_do_no_weights_are_downloaded(hub, model, tmp_path):
    files = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub.repositories["me/refused"] = Repository(files)
    before = len(hub.requests)
    said = python(REFUSE, hub=hub, home=tmp_path)
    assert (said.returncode, "unstable" in said.stderr) == (1, True), said.stderr[-3000:]
    asked = hub.requests[before:]
    assert any("config.json" in one for one in asked)
    assert not any("safetensors" in one for one in asked)


LOAD = """
import os
import sys
import gmsdi
from gmsdi.errors import UserError
for name in ["me/missing", "me/gated", "me/there@v7"]:
    try:
        gmsdi.load(name)
    except UserError as error:
        print(error)
for licence, token in [("mit", "wrong"), ("mine", sys.argv[1])]:
    os.environ["HF_TOKEN"] = token
    try:
        gmsdi.models.hub.push("model", "me/new", licence=licence)
    except UserError as error:
        print(error)
"""


def test_what_cannot_be_read_or_written_is_one_line(hub, model, tmp_path):
    hub.repositories["me/gated"] = Repository({"config.json": b"{}"}, gated=True)
    hub.repositories["me/there"] = Repository({"config.json": b"{}"})
    (tmp_path / "model").symlink_to(model)
    said = python(LOAD, hub.token, hub=hub, home=tmp_path).stdout.splitlines()
    assert [line.partition(";")[0] for line in said] == [
        "me/missing: no such folder, and no such repository on the Hugging Face Hub, or a private one",
        "me/gated: gated",
        "me/there@v7: no such revision on the Hugging Face Hub",
        "me/new: the Hugging Face Hub answered 403",
        "me/new: the hub refused the model card (Invalid metadata in README.md. - license must be one of mit)",
    ]
    offline = python(LOAD, hub.token, hub=hub, home=tmp_path, HF_HUB_OFFLINE="1").stdout.splitlines()
    assert all("not in the Hugging Face cache, and HF_HUB_OFFLINE is set" in line for line in offline[:3])
    assert all("me/new: HF_HUB_OFFLINE is set" in line for line in offline[3:])
    hub.url, url = "http://127.0.0.1:9", hub.url  # where nothing listens
    try:
        down = python(LOAD, hub.token, hub=hub, home=tmp_path).stdout.splitlines()
    finally:
        hub.url = url
    assert all("not in the Hugging Face cache, and it cannot be downloaded" in line for line in down[:3])
    assert all("the Hugging Face Hub cannot be reached" in line for line in down[3:])
    assert len(offline) == len(down) == 5


def test_the_card_says_what_the_model_is_and_what_it_scores(model, run, tmp_path):
    text = card(model, "me/mine", licence="cc-by-4.0", results=run)
    _, head, body = text.split("---\n", 2)
    data = yaml.safe_load(head)
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("cc-by-4.0", "gmsdi", "audio-to-audio")
    (result,) = data["model-index"][0]["results"]  # MSDM is another model
    assert result["metrics"][0]["value"] == 2.5
    assert result["dataset"]["name"] == "6 tracks, 6 chunks"
    assert 'gmsdi.load("me/mine")' in body
    assert "- steps: 40" in body
    assert "Bass, Drums, Piano" in body
    assert "| MSDM | 1.50 [1.00, 4.00] | 3.00 |" in body
    other = write(tmp_path / "other")
    (other / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(UserError, match="a run of another model"):
        card(other, "me/mine", licence="mit", results=run)
    with pytest.raises(UserError, match="needs the licence"):
        card(model, "me/mine", licence=" ")


def test_names_on_the_hub_are_told_from_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models/mine").mkdir(parents=True)
    names = {
        "owner/name": True,
        "owner/name@v1": True,
        "models/mine": False,
        "mini": False,
        "a/b/c": False,
        "./a": False,
    }
    assert {name: is_id(name) for name in names} == names
    for name in ("a--b/c", "a/b..c", "é/ü", "a/" + "x" * 97):
        with pytest.raises(UserError, match=f"{name}: not a name on the Hugging Face Hub"):
            registry.load(name)
    with pytest.raises(UserError, match="the model is None"):
        registry.load(None)
