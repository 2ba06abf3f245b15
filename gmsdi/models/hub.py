"""Models on the Hugging Face Hub: a repository is a model folder with a model card, `README.md`."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gmsdi import __version__
from gmsdi.errors import UserError
from gmsdi.io.files import sha256_of
from gmsdi.io.tables import read_table
from gmsdi.models.folders import CONFIG, PROMPTS, WEIGHTS, read_config

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE, CARD = "provenance.json", "README.md"
FILES = (CONFIG, WEIGHTS, PROMPTS, PROVENANCE)
"""The files of a model of this package; the last two are optional."""
LICENCES = {
    "stabilityai/stable-audio-open": "Stability AI Community License",
    "stabilityai/stable-audio-3": "Stability AI Community License, and Gemma's terms for the text encoder",
    "ACE-Step/": "MIT license",
    "harmonai/": "MIT license",
}
"""Licences of repositories, by the beginning of their names."""
_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")


def is_id(where: str | Path) -> bool:
    """Whether this could be a name on the hub, `owner/name` or `owner/name@revision`, not a local file or folder."""
    return isinstance(where, str) and _ID.fullmatch(where) is not None and not os.path.exists(where)


def download(
    where: str, files: Sequence[str] = FILES, unwanted: Sequence[str] = (), *, token: str | bool | None = None
) -> Path:
    """The local folder of a repository on the hub; downloaded into the Hugging Face cache if it is not there yet.

    With HF_HUB_OFFLINE=1 only the cache is used; HF_ENDPOINT names another hub.

    Args:
        where: `owner/name`, or `owner/name@revision` with a branch, tag or commit.
        files: patterns of the files to download.
        unwanted: patterns of files to leave out.
        token: a token of the hub; None or True is that of `hf auth login` or of HF_TOKEN, False sends none.

    Raises:
        UserError: if the repository or revision does not exist or may not be read, or there is no connection.
    """
    from huggingface_hub import snapshot_download

    found = _ID.fullmatch(where)
    if found is None:
        raise UserError(f"{where}: not a name on the Hugging Face Hub; write owner/name, or owner/name@revision")
    with _explained(where):
        folder = snapshot_download(
            found["name"],
            revision=found["revision"],
            token=token,
            allow_patterns=list(files),
            ignore_patterns=list(unwanted),
        )
    return Path(folder)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    licence: str,
    results: str | Path | None = None,
    private: bool = False,
    token: str | bool | None = None,
    commit_message: str = "Upload a gmsdi model",
) -> str:
    """Upload a model folder with a model card; the repository is created if it does not exist.

    Args:
        folder: the model folder, see `gmsdi.models.checkpoint`.
        repo_id: `owner/name`.
        licence: licence of the weights, by its name on the hub, such as "mit" or "cc-by-nc-4.0".
        results: see `card`.
        private: make the repository private, if it is created now.
        token: see `download`.
        commit_message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        UserError: if the folder holds no model, or the repository may not be written to.
    """
    from huggingface_hub import HfApi

    if not is_id(repo_id) or "@" in repo_id:
        raise UserError(f"{repo_id}: not a name on the Hugging Face Hub; write owner/name")
    text = card(folder, repo_id, licence=licence, results=results)
    api = HfApi(token=token, library_name="gmsdi", library_version=__version__)
    with _explained(repo_id), tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / CARD).write_text(text, encoding="utf-8")
        for name in FILES:
            if (Path(folder) / name).is_file():
                (Path(temporary) / name).symlink_to((Path(folder) / name).resolve())
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        try:
            api.upload_folder(repo_id=repo_id, folder_path=temporary, commit_message=commit_message)
        except ValueError as error:
            if isinstance(error, OSError):  # a response of the hub, which `_explained` handles
                raise
            raise UserError(f"{repo_id}: the hub refused the model card ({' '.join(str(error).split())})") from error
    return str(address)


def card(folder: str | Path, name: str, *, licence: str, results: str | Path | None = None) -> str:
    """The card of a model: what it is, how to use it, how it was trained, what it scores, and its licence.

    Args:
        folder: the model folder; the training data are named in its `provenance.json`.
        name: name on the hub.
        licence: licence of the weights.
        results: folder of a run that evaluated the model, `results/<run>` or a published copy of it; its Table 2 goes
            into the card, and the rows of the paper's methods into the card's metadata.

    Raises:
        UserError: if the folder contains no model, or the run has no Table 2.
    """
    config = read_config(folder)
    if not isinstance(licence, str) or not licence.strip():
        raise UserError("a model card needs the licence of the weights; give one, such as mit or cc-by-nc-4.0")
    data: dict[str, Any] = {
        "license": licence,
        "library_name": "gmsdi",
        "pipeline_tag": "audio-to-audio",
        "tags": ["gmsdi", "music", "source-separation", "music-generation", "diffusion"],
    }
    labels = [str(label) for label in config.get("labels") or []]
    seconds = config["window"] / config["sample_rate"]
    known = f"Its stems are {', '.join(labels)}." if labels else "It takes free text."
    parts = [
        f"# {name.partition('/')[2]}",
        "A text-conditioned diffusion model of music for gmsdi: it separates, extracts, "
        f"generates and accompanies stems. {known} Audio: {config['sample_rate']} Hz, windows of {seconds:.1f} s.",
        f'```python\nimport gmsdi\n\nmodel = gmsdi.load("{name}")\nstems = gmsdi.separate(model, "song.wav")\n'
        'stems.save("song")\n```',
        f"```\ngmsdi separate song.wav --model {name}\n```",
    ]
    provenance = _read(Path(folder) / PROVENANCE)
    if provenance:
        parts += ["## Training", _told(provenance), f"The full record is in `{PROVENANCE}`."]
    else:
        parts += ["## Training", "Not recorded."]
    if results is not None:
        table, facts = _table2(Path(results), sha256_of(Path(folder) / WEIGHTS))
        data["model-index"] = [{"name": name.partition("/")[2], "results": _index(table, facts)}]
        parts += ["## Results", _scores(table, facts)]
    parts += ["## Licence", f"{licence}. The licence is that of the weights; gmsdi itself is under the MIT licence."]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(parts) + "\n"


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn the errors of the hub's client into UserErrors of one line.

    Args:
        where: `owner/name`, or `owner/name@revision`.

    Raises:
        UserError: in place of any error of the client.
    """
    import huggingface_hub.errors as hub
    from huggingface_hub import constants

    name = where.partition("@")[0]
    licence = next((text for prefix, text in LICENCES.items() if name.startswith(prefix)), None)
    terms = "" if licence is None else f" (its licence: {licence})"
    page = f"{constants.ENDPOINT}/{name}"
    try:
        yield
    except hub.HFValidationError as error:
        raise UserError(f"{where}: not a name on the Hugging Face Hub ({' '.join(str(error).split())})") from error
    except hub.GatedRepoError as error:
        raise UserError(f"{where}: gated{terms}; accept its terms at {page}, then run: hf auth login") from error
    except hub.RevisionNotFoundError as error:
        raise UserError(f"{where}: no such revision on the Hugging Face Hub; name a branch, tag or commit") from error
    except hub.RepositoryNotFoundError as error:
        raise UserError(
            f"{where}: no such folder, and no such repository on the Hugging Face Hub, or a private one; check "
            "the name, or run: hf auth login"
        ) from error
    except hub.OfflineModeIsEnabled as error:
        raise UserError(f"{where}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it") from error
    except hub.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "it cannot be downloaded"
        gated = f"; it may be gated: accept its terms at {page}" if name.startswith("stabilityai/") else ""
        raise UserError(
            f"{where}: no such folder, and not in the Hugging Face cache{terms}, and {why}; run gmsdi once where there "
            f"is a connection and copy that cache (HF_HOME), or give a local folder{gated}"
        ) from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code
        mend = "run `hf auth login` with a token that may write" if status in (401, 403) else "try again later"
        raise UserError(f"{where}: the Hugging Face Hub answered {status}; {mend}") from error
    except (hub.HTTPError, OSError) as error:  # the base classes of all errors of the hub's HTTP client
        raise UserError(f"{where}: the Hugging Face Hub cannot be reached ({error}); try again later") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}); repair or remove it") from error
    return found if isinstance(found, dict) else {}


def _told(facts: Mapping[str, Any]) -> str:
    """The simple values of a provenance as a Markdown list."""
    plain = {key: value for key, value in facts.items() if isinstance(value, str | int | float)}
    return "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in plain.items())


def _table2(folder: Path, digest: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of a run's Table 2 for all stems together, and a description of its test split."""
    provenance = _read(folder / PROVENANCE)
    for file in (folder / "tables" / "table2_separation.csv", folder / "table2_separation.csv"):
        if file.is_file():
            if digest not in str(provenance.get("Model", {}).get(WEIGHTS)):
                raise UserError(
                    f"{folder}: a run of another model, says {PROVENANCE}; name one that evaluated these weights"
                )
            table = read_table(file)
            return table[(table["stem"] == "All") & table["active"].notna()], provenance.get("Data", {})
    raise UserError(f"{folder}: has no tables/table2_separation.csv; name the folder of a finished run")


def _scores(table: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    lines = [
        f"| {row.model} | {row.active:.2f} [{row.active_low:.2f}, {row.active_high:.2f}] | {row.protocol:.2f} |"
        for row in table.itertuples()
    ]
    head = ["| method | SI-SDRi over active stems (dB) | by MSDM's protocol |", "| --- | ---: | ---: |"]
    note = (
        "All stems together, with 95% confidence intervals over tracks; the run's other systems have their own models."
    )
    return "\n".join([*head, *lines]) + "\n\n" + "\n\n".join([note, _told(facts)])


def _index(table: pd.DataFrame, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores of the paper's methods with this model, in the form of the hub's metadata."""
    data = {"name": str(facts.get("test split", "the run's test split")), "type": "multitrack"}
    return [
        {
            "task": {"type": "audio-to-audio", "name": "music source separation"},
            "dataset": data,
            "metrics": [
                {"type": "si-sdri", "value": round(row.active, 2), "name": f"{row.model}, SI-SDRi (dB), active stems"}
            ],
        }
        for row in table.itertuples()
        if str(row.model).startswith("GMSDI")
    ]
