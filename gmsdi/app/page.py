"""The page in Gradio: four tabs, each with controls on the left and results on the right."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import gradio as gr

import gmsdi
from gmsdi import song
from gmsdi.app import examples, results, settings
from gmsdi.app.jobs import Job, Jobs, without_folder
from gmsdi.errors import UserError
from gmsdi.models import registry
from gmsdi.models.protocol import Model
from gmsdi.sampling.solver import SAMPLERS
from gmsdi.types import Progress, Stems, file_names

Controls: TypeAlias = dict[str, gr.components.Component]
Followers: TypeAlias = list[tuple[gr.components.Component, Callable[[Model], dict[str, Any]]]]
"""Components that change with the model, and how."""
Work: TypeAlias = Callable[[Model, dict[str, Any], Progress], str]
"""From the model, what the controls say by name and the progress to the HTML of the result."""

AT_ONCE: dict[str, Any] = {"show_progress": "hidden", "api_name": False, "queue": False}
"""For events that fill in fields. Only runs are queued: Gradio loses an event that is queued just as another ends."""
GIVEN = 3  # stems that can be given to accompany
LOGO = (
    '<svg viewBox="0 0 48 48" aria-hidden="true"><rect width="48" height="48" rx="12" fill="#0d1118"/>'
    '<g stroke-width="4" stroke-linecap="round"><path d="M11 20v8" stroke="#f2a541"/><path d="M18 13v22" '
    'stroke="#ef6f6c"/><path d="M25 17v14" stroke="#3fc1a5"/><path d="M32 10v28" stroke="#9b8cff"/>'
    '<path d="M39 19v10" stroke="#5db7f0"/></g></svg>'
)
EMPTY = (
    '<div class="gmsdi-empty"><svg viewBox="0 0 220 70" aria-hidden="true"><g stroke-width="5" stroke-linecap="round">'
    + "".join(
        f'<path d="M{12 + 14 * k} {35 - size}v{2 * size}" stroke="{results.COLORS[k % 4]}"/>'
        for k, size in enumerate((6, 14, 9, 22, 30, 17, 8, 20, 28, 12, 18, 26, 10, 16, 7))
    )
    + "</g></svg><div>{}</div></div>"
)


@dataclass
class Studio:
    """What the page works with.

    Attributes:
        folder: for uploads, examples and results.
        model: that the page opens with, see `gmsdi.load`.
        device: see `gmsdi.load`.
        precision: see `gmsdi.load`.
        report: the address of the study's report; None if there is none.
        jobs: the runs.
    """

    folder: Path
    model: str
    device: str = "auto"
    precision: str = "auto"
    report: str | None = None
    jobs: Jobs = field(default_factory=Jobs)

    def opened(self, where: str) -> Model:
        """The model of this name, see `gmsdi.load`; the last two stay open."""
        return _opened(where, self.device, self.precision)

    def publish(self, name: str, stems: Stems, model: Model, values: Mapping[str, Any], **names: str) -> str:
        """See `results.publish`."""
        how, folder = settings.encoding(values), self.folder / "results"
        return results.publish(folder, name, stems, known=model.labels, format=how.format, bits=how.bits, **names)


@lru_cache(maxsize=2)
def _opened(where: str, device: str, precision: str) -> Model:
    return gmsdi.load(where, device=device, precision=precision)


def build(studio: Studio) -> gr.Blocks:
    """The page.

    Raises:
        UserError: if the model cannot be opened.
    """
    model = studio.opened(studio.model)
    with gr.Blocks(title="GMSDI", analytics_enabled=False) as page:
        report = f'<a href="{studio.report}" target="_blank">Report of the study ↗</a>' if studio.report else ""
        _html(
            f'<div class="gmsdi-title">{LOGO}<div><h1>GMSDI</h1><p>Take music apart, make it, and play along: one '
            f"text-conditioned diffusion model, four tasks</p></div>{report}</div>"
        )
        with gr.Row(elem_classes="gmsdi-model"):
            with gr.Column(scale=4, min_width=340):
                where = gr.Dropdown(
                    sorted({*registry.bundled(), studio.model}),
                    value=studio.model,
                    allow_custom_value=True,
                    label="Model",
                    info="A name, or the path of a model folder",
                )
            with gr.Column(scale=8, min_width=420):
                about = _html(_about(model))
        followers: Followers = []
        for title, tab in (
            ("Separate", _separate),
            ("Extract", partial(_separate, some=True)),
            ("Generate", _generate),
            ("Accompany", _accompany),
        ):
            with gr.Tab(title, id=title.lower()):
                followers += tab(studio, where, model)

        def opened(name: str) -> list[Any]:
            try:
                model = studio.opened(name)
            except UserError as error:
                return [_status("failed", str(error)), *(gr.skip() for _ in followers)]
            return [_about(model), *(gr.update(**change(model)) for _, change in followers)]

        where.change(opened, where, [about, *(component for component, _ in followers)], **AT_ONCE)
    return page


def _separate(studio: Studio, where: gr.Dropdown, model: Model, *, some: bool = False) -> Followers:
    """All stems of a song or, of `some`, those that are wanted and everything else as one."""

    def work(model: Model, values: dict[str, Any], progress: Progress) -> str:
        source = values["song"]
        wanted, others = (settings.spelled(values.get(key), model) for key in ("stems", "rest"))
        if not source:
            raise UserError("no song; upload or record one, or choose an example")
        if not wanted:
            raise UserError("no stem is chosen; choose at least one")
        results.require_names(wanted)
        others = [label for label in others if label not in wanted]
        stems = settings.separate(model, source, wanted, others, values, progress)
        name = "-".join([Path(source).stem, *(file_names(wanted).values() if some else ["stems"])])
        rest = "Everything else" if some else "Rest"
        return studio.publish(name, stems, model, values, rest=rest, mixture="Original")

    def wanted(model: Model) -> dict[str, Any]:
        return _all_labels(model) | ({"value": list(model.labels[:1])} if some else {})

    with gr.Row():
        with gr.Column(scale=4, min_width=340):
            controls: Controls = {"song": _audio("Song")}
            _examples(studio, where, [controls["song"]])
            title = "Extract" if some else "Stems: everything in the song"
            followers: Followers = [(_stems(title, wanted(model)), wanted)]
            controls["stems"] = followers[0][0]
            if some:
                controls["rest"] = _stems("What else is in the song", _all_labels(model))
                followers.append((controls["rest"], _all_labels))
            settled, more = _separation(studio, where, model)
        hope = f"The stem{' and everything else' if some else 's of your song'} will play here."
        _runs(studio, where, controls | settled, work, "extract" if some else "separate", hope)
    return [*followers, *more]


def _generate(studio: Studio, where: gr.Dropdown, model: Model) -> Followers:
    def work(model: Model, values: dict[str, Any], progress: Progress) -> str:
        labels = settings.spelled(values["stems"], model)
        results.require_names(labels)
        return studio.publish("generated", settings.generate(model, labels, values, progress), model, values)

    methods = [("A mixture, then separated", "extracted"), ("One by one", "sequential"), ("Together (Eq. 10)", "total")]
    groups = {"placeholder": "Bass, Drums\nGuitar, Piano", "lines": 2, "info": "One signal per line"}
    with gr.Row():
        with gr.Column(scale=4, min_width=340):
            stems = _stems("Stems", _all_labels(model))
            seconds = gr.Slider(1, 60, value=_seconds(model), step=0.1, label="Seconds")
            controls: Controls = {"stems": stems, "seconds": seconds}
            with gr.Accordion("All settings", open=False):
                controls["method"] = gr.Radio(methods, value="extracted", label="Method")
                controls["groups"] = gr.Textbox(label="Groups (Eq. 11)", **groups)
                controls["noise"] = gr.Radio(["coupled", "independent"], value="coupled", label="Noise")
                controls |= _gammas()
                controls |= _sampling(settings.sampling(song.GENERATION, song.GENERATION_GUIDANCE))
        _runs(studio, where, controls, work, "generate", "The stems that you generate will play here.")
    return [(stems, _all_labels), (seconds, lambda model: {"value": _seconds(model)})]


def _accompany(studio: Studio, where: gr.Dropdown, model: Model) -> Followers:
    def work(model: Model, values: dict[str, Any], progress: Progress) -> str:
        given: dict[str, str] = {}
        for k in range(GIVEN):
            label, file = settings.spelled([values[f"label{k}"] or ""], model), values[f"given{k}"]
            if file and (not label or label[0] in given):
                raise UserError(f"given stem {k + 1}: choose what it is; each label can be given once")
            given |= {label[0]: file} if file else {}
        if not given:
            raise UserError("no stem is given; upload or record one, or choose an example")
        labels = [label for label in settings.spelled(values["stems"], model) if label not in given]
        results.require_names(labels)
        stems = settings.accompany(model, given, labels, values, progress)
        rest = f"{', '.join(given)} (given)"
        return studio.publish("accompaniment", stems, model, values, rest=rest, mixture="Together")

    def label_of(k: int) -> Callable[[Model], dict[str, Any]]:
        return lambda model: {"choices": list(model.labels), "value": (*model.labels, *[None] * GIVEN)[k]}

    share = {
        "info": "0: Eq. 12. Above 0: also denoise the sum of given and generated stems, with this weight, such as 0.4"
    }
    controls: Controls = {}
    with gr.Row():
        with gr.Column(scale=4, min_width=340):
            for k in range(GIVEN):
                with gr.Accordion("Given stem" if k == 0 else f"Given stem {k + 1}", open=k == 0):
                    label = gr.Dropdown(label="What it is", allow_custom_value=True, **label_of(k)(model))
                    controls |= {f"label{k}": label, f"given{k}": _audio("Stem")}
            _examples(studio, where, [controls["label0"], controls["given0"]], stem=True)
            controls["stems"] = _stems("Stems to generate (apart from the given ones)", _all_labels(model))
            with gr.Accordion("All settings", open=False):
                controls["share"] = gr.Slider(0, 1, value=0, step=0.05, label="Share", **share)
                with gr.Row():
                    controls["alpha"] = gr.Number(1, label="α, scale of given", min_width=120)
                    controls["beta"] = gr.Number(1, label="β, scale of generated", min_width=120)
                noises = ["fixed", "redrawn", "coupled"]
                controls["given_noise"] = gr.Radio(noises, value="coupled", label="Noise of the given stems")
                controls |= _gammas()
                controls |= _sampling(settings.sampling(song.GENERATION, song.ACCOMPANIMENT_GUIDANCE))
        _runs(studio, where, controls, work, "accompany", "The band that joins you will play here.")
    return [(controls["stems"], _all_labels), *((controls[f"label{k}"], label_of(k)) for k in range(GIVEN))]


# --- Controls -----------------------------------------------------------------------------------------------------


def _html(value: str, **options: Any) -> gr.HTML:
    """HTML without Gradio's own styles."""
    return gr.HTML(value, apply_default_css=False, **options)


def _audio(label: str) -> gr.Audio:
    waves = gr.WaveformOptions(
        waveform_color="#9b8cff", waveform_progress_color="#5b4be0", show_recording_waveform=True
    )
    return gr.Audio(
        sources=["upload", "microphone"], type="filepath", label=label, waveform_options=waves, buttons=["download"]
    )


def _examples(
    studio: Studio, where: gr.Dropdown, outputs: Sequence[gr.components.Component], stem: bool = False
) -> None:
    """Buttons that fill in a piece of our composer, or a stem of it with its label."""

    def fill(index: int) -> Callable[[str], Any]:
        def filled(name: str) -> Any:
            model = studio.opened(name)
            files = examples.example(index, model.sample_rate, studio.folder / "examples")
            label = list(files)[index % (len(files) - 1)]
            return [label, str(files[label])] if stem else str(files["mixture"])

        return filled

    _html(f'<p class="gmsdi-hint">Or {"a stem of " if stem else ""}one of our own pieces:</p>')
    with gr.Row(elem_classes="gmsdi-examples"):
        for index, title in enumerate(examples.titles()):
            gr.Button(title, size="sm").click(fill(index), where, list(outputs), **AT_ONCE)


def _stems(label: str, chosen: Mapping[str, Any]) -> gr.Dropdown:
    return gr.Dropdown(label=label, multiselect=True, allow_custom_value=True, **chosen)


def _all_labels(model: Model) -> dict[str, Any]:
    labels = list(model.labels)
    return {"choices": labels, "value": labels, "info": None if labels else "Type a description and press Enter"}


def _separation(studio: Studio, where: gr.Dropdown, model: Model) -> tuple[Controls, Followers]:
    """The preset, and the settings that it fills in."""
    start = next(iter(settings.presets(model).values()))

    def chosen(preset: str, name: str) -> list[Any]:
        values = settings.presets(studio.opened(name))[preset]
        return [gr.update(value=values[key]) if key in values else gr.skip() for key in controls]

    def follower(key: str) -> Callable[[Model], dict[str, Any]]:
        return lambda model: {"value": next(iter(settings.presets(model).values()))[key]}

    def radio(model: Model) -> dict[str, Any]:
        known = list(settings.presets(model))
        titles = [name.replace("paper-", "paper's ").title().replace("'S", "'s") for name in known]
        return {"choices": list(zip(titles, known, strict=True)), "value": known[0]}

    preset = gr.Radio(label="Preset", **radio(model))
    with gr.Accordion("All settings", open=False):
        constrained = gr.Dropdown(
            list(model.labels),
            value=start["constrained"],
            allow_custom_value=True,
            label="Constrained stem of the Separator",
            info="The song minus the other stems; leave empty for Drums, or the last one",
        )
        controls: Controls = {
            "procedure": gr.Radio(list(settings.PROCEDURES.items()), value=start["procedure"], label="Procedure"),
            "constrained": constrained,
            "by_power": gr.Slider(
                0, 1, value=start["by_power"], step=0.05, label="Share out by power", info="What the stems lack"
            ),
            "wiener": gr.Slider(0, 1, value=start["wiener"], step=0.05, label="Wiener filter"),
            "runs": gr.Number(start["runs"], precision=0, minimum=1, label="Runs to average"),
            "block": gr.Number(
                song.BLOCK, minimum=1, label="Seconds at a time", info="Longer songs are separated in blocks"
            ),
            **_sampling(start),
        }
    preset.input(chosen, [preset, where], list(controls.values()), **AT_ONCE)
    followers: Followers = [(controls[key], follower(key)) for key in start if key in controls and key != "constrained"]
    followers.append((preset, radio))
    followers.append((constrained, lambda model: {"choices": list(model.labels), **follower("constrained")(model)}))
    return controls, followers


def _gammas() -> Controls:
    info = 'A number, "inf", or "2*sigma"; leave empty for the usual one'
    return {
        f"gamma_{x}": gr.Textbox(label=f"γ of the {what}", info=info) for x, what in (("x", "stems"), ("y", "mixture"))
    }


def _sampling(start: Mapping[str, Any]) -> Controls:
    """What all tasks have: the sampler, guidance, seed and file format."""
    values = {"s_churn": 0.0, "resamples": 1, **start, "seed": 0, "batch": 16}
    controls: Controls = {"sampler": gr.Dropdown(list(SAMPLERS), value=values["sampler"], label="Sampler")}
    for pair in (
        (("steps", "Steps"), ("w", "Guidance w")),
        (("sigma_max", "First noise level"), ("sigma_min", "Last noise level")),
        (("rho", "ρ of the schedule"), ("s_churn", "Churn")),
        (("resamples", "Repeats of each step"), ("seed", "Seed")),
    ):
        with gr.Row():
            controls |= {key: _number(values[key], label) for key, label in pair}
    negatives = {"placeholder": "Bass: Drums, Guitar", "lines": 2, "info": "One per line"}
    return controls | {
        "last": gr.Radio(["step", "estimate"], value=values.get("last", "step"), label="Last step"),
        "interval": gr.Textbox(
            values["interval"], label="Guidance between noise levels", placeholder="all, or 0.1, inf"
        ),
        "negatives": gr.Textbox(values.get("negatives", ""), label="Negative prompts", **negatives),
        "batch": gr.Number(
            values["batch"], precision=0, minimum=1, label="Signals at a time", info="Fewer need less memory"
        ),
        "files": gr.Dropdown(list(settings.FILES), value=next(iter(settings.FILES)), label="Files"),
    }


def _number(value: float, label: str) -> gr.Number:
    whole = isinstance(value, int)
    return gr.Number(value, label=label, precision=0 if whole else None, minimum=0, min_width=120)


# --- Runs ---------------------------------------------------------------------------------------------------------


def _runs(studio: Studio, where: gr.Dropdown, controls: Controls, work: Work, name: str, hope: str) -> None:
    """The right-hand side of a tab: the buttons, the progress, and the result."""
    with gr.Column(scale=8, min_width=420):
        with gr.Row():
            go = gr.Button(name.capitalize(), variant="primary", scale=3, elem_id=f"{name}-go")
            stop = gr.Button("Cancel", variant="stop", interactive=False, scale=1, elem_id=f"{name}-stop")
        status = _html(_status("idle", ""), elem_id=f"{name}-status")
        result = _html(EMPTY.format(hope), elem_id=f"{name}-result")

    def run(request: gr.Request, where: str, *values: Any) -> Iterator[list[Any]]:
        said = dict(zip(controls, values, strict=True))

        def do(progress: Progress) -> str:
            return work(studio.opened(where), said, progress)

        busy = [gr.update(interactive=False), gr.update(interactive=True)]
        for job in studio.jobs.run(f"{request.session_hash} {name}", do):
            if job.state in ("waiting", "running"):
                yield [_progress(job), gr.skip(), *busy]
        files = [value for value in values if isinstance(value, str) and Path(value).is_absolute()]
        yield [
            _progress(job, files),
            gr.skip() if job.result is None else job.result,
            gr.update(interactive=True),
            gr.update(interactive=False),
        ]

    def cancel(request: gr.Request) -> None:
        studio.jobs.cancel(f"{request.session_hash} {name}")

    common: dict[str, Any] = {"show_progress": "hidden", "api_name": False, "concurrency_limit": None}
    go.click(run, [where, *controls.values()], [status, result, go, stop], **common)
    stop.click(cancel, **AT_ONCE)


def _progress(job: Job[str], files: Sequence[str] = ()) -> str:
    """A job as a progress bar or a line of text."""
    if job.state == "waiting":
        return _status("waiting", "Waiting for the run before this one", bar=True)
    if job.state == "failed":
        return _status("failed", without_folder(job.error, *files))
    if job.state == "cancelled":
        return _status("cancelled", "Cancelled")
    if job.state == "done":
        said = "; ".join(job.warnings)
        return _status("warned", said) if said else _status("done", f"Done in {job.seconds:.0f} s")
    if job.remaining is None:
        return _status("waiting", "Starting", bar=True)
    left = f"about {job.remaining:.0f} s left" if job.step < job.steps else "writing the files"
    return _status("running", f"Step {job.step} of {job.steps}, {left}", bar=True, done=job.step / job.steps)


def _status(state: str, text: str, *, bar: bool = False, done: float = 0.0) -> str:
    track = f'<div class="track"><i style="--done:{100 * done:.1f}%"></i></div>' if bar else ""
    role = "alert" if state == "failed" else "status"
    return f'<div class="gmsdi-status {state}" role="{role}">{track}<span>{html.escape(text)}</span></div>'


def _about(model: Model) -> str:
    channels = {1: "mono", 2: "stereo"}.get(model.channels, f"{model.channels} channels")
    knows = f"knows {', '.join(model.labels)}" if model.labels else "takes any description of a sound as a stem"
    text = (
        f"Works at {model.sample_rate / 1000:g} kHz, {channels}, so it covers frequencies up to "
        f"{model.sample_rate / 2000:g} kHz; {knows}. Songs of any sample rate and length will do: they are resampled "
        "to this rate and back."
    )
    return f'<div class="gmsdi-about">{html.escape(text)}</div>'


def _seconds(model: Model) -> float:
    return round(min(60.0, 2 * model.window / model.sample_rate), 1)
