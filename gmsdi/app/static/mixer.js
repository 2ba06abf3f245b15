// <gmsdi-mixer data='{"name", "zip", "lanes": [{"label", "kind", "color", "audio", "image"}]}'>
//
// One transport for all lanes: their buffers start at one instant of one audio clock, so that they stay in sync to the
// sample. A lane of kind "mixture" is what the others sum to; it is muted at first, and heard by its solo button.

const PLAY = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4v16l13-8z"/></svg>';
const PAUSE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 4h4v16H6zM14 4h4v16h-4z"/></svg>';
const START = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 4h3v16H5zM20 4v16L9 12z"/></svg>';
const LOOP = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 7h10v3l5-4-5-4v3H5v6h2zM17 17H7v-3l-5 4 5 4v-3h12v-6h-2z"/></svg>';
const SAVE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M11 3h2v9l4-4 1 2-6 6-6-6 1-2 4 4zM4 18h16v3H4z"/></svg>';
const LEAD = 0.04; // seconds until what is started sounds, so that all of it starts together

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

function element(tag, properties = {}, ...children) {
  const { dataset, style, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(style ?? {})) made.style.setProperty(name, value);
  made.append(...children);
  return made;
}

class Mixer extends HTMLElement {
  static audio = null; // one audio context for the page
  static heard = null; // the mixer that plays

  connectedCallback() {
    if (this.lanes) return;
    const data = JSON.parse(this.getAttribute("data"));
    Object.assign(this, { at: 0, playing: false, looped: false, view: "both", duration: 0, started: 0 });
    this.lanes = data.lanes.map((lane) => {
      const mixture = lane.kind === "mixture";
      return { ...lane, scale: mixture ? "mixture" : "stem", muted: mixture, solo: false, volume: 1 };
    });
    this.build(data);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.tracks);
    this.ready = this.load().catch((error) => {
      this.message.textContent = `The stems cannot be played here (${error.message}); the zip has them.`;
    });
  }

  disconnectedCallback() { this.pause(); }

  build({ name, zip }) {
    const button = (html, title, action) =>
      element("button", { type: "button", innerHTML: html, title, ariaLabel: title, onclick: action });
    this.playButton = button(PLAY, "Play all in sync (space)", () => (this.playing ? this.pause() : this.play()));
    this.playButton.className = "play";
    this.loopButton = button(LOOP, "Loop", () => this.setLoop(!this.looped));
    this.time = element("output", { className: "time", textContent: "0:00.0" });
    this.message = element("span", { className: "message", textContent: "Loading…" });
    this.views = ["waves", "both", "spectra"].map((view) => {
      const title = { waves: "Waveforms", both: "Both", spectra: "Spectrograms" }[view];
      return Object.assign(button(title, title, () => this.show(view)), { view });
    });
    const start = button(START, "Back to the start", () => this.seek(0));
    const download = element("a", { className: "zip", href: zip, download: `${name}.zip`, innerHTML: SAVE });
    download.append(" Download all");
    this.tracks = element("div", { className: "tracks" }, element("div", { className: "ruler" }));
    for (const lane of this.lanes) this.tracks.append(this.row(lane, name));
    this.tracks.append(element("div", { className: "playhead" }));
    const bar = element("div", { className: "bar" }, start, this.playButton, this.loopButton, this.time, this.message);
    bar.append(element("div", { className: "views" }, ...this.views), download);
    this.replaceChildren(bar, this.tracks);
    this.tabIndex = 0;
    this.onkeydown = (event) => {
      if (event.key !== " " || event.target.closest("button, input, a")) return;
      event.preventDefault();
      this.playButton.click();
    };
    this.update();
    this.show(this.view);
  }

  row(lane, name) {
    const toggle = (letter, title, key) =>
      element("button", {
        type: "button", textContent: letter, title: `${title} ${lane.label}`, ariaLabel: `${title} ${lane.label}`,
        className: key, onclick: () => { lane[key] = !lane[key]; this.update(); },
      });
    lane.buttons = { muted: toggle("M", "Mute", "muted"), solo: toggle("S", "Solo", "solo") };
    const volume = element("input", {
      type: "range", min: 0, max: 1.5, step: 0.01, value: 1, title: "Volume", ariaLabel: `Volume of ${lane.label}`,
      oninput: (event) => { lane.volume = Number(event.target.value); this.update(); },
    });
    const save = element("a", { href: lane.audio, download: `${name}-${lane.audio.split("/").pop()}`, innerHTML: SAVE });
    save.title = save.ariaLabel = `Download ${lane.label}`;
    lane.canvas = element("canvas", { onclick: (event) => this.seek((event.offsetX / lane.canvas.clientWidth) * this.duration) });
    lane.meter = element("i", { className: "meter" });
    const title = element("span", { className: "label", textContent: lane.label, title: lane.label });
    const head = element("div", { className: "head" }, title, save, lane.buttons.muted, lane.buttons.solo, volume, lane.meter);
    lane.element = element("div", { className: "lane", dataset: { kind: lane.kind }, style: { "--lane": lane.color } }, head, lane.canvas);
    return lane.element;
  }

  async load() {
    const audio = (Mixer.audio ??= new AudioContext());
    await Promise.all(
      this.lanes.map(async (lane) => {
        const [sound, picture] = await Promise.all([fetch(lane.audio), fetch(lane.image)]);
        if (!sound.ok || !picture.ok) throw new Error(`${lane.label}: status ${sound.status}`);
        lane.buffer = await audio.decodeAudioData(await sound.arrayBuffer());
        lane.picture = await createImageBitmap(await picture.blob());
        lane.gain = audio.createGain();
        lane.analyser = Object.assign(audio.createAnalyser(), { fftSize: 2048 });
        lane.gain.connect(lane.analyser).connect(audio.destination);
      }),
    );
    this.duration = Math.max(...this.lanes.map((lane) => lane.buffer.duration));
    this.message.textContent = "";
    this.update();
    this.draw();
    this.tick();
  }

  // A lane sounds if it is soloed or, when none is, not muted.
  update() {
    const solo = this.lanes.some((lane) => lane.solo);
    for (const lane of this.lanes) {
      const audible = solo ? lane.solo : !lane.muted;
      lane.element.dataset.audible = audible;
      for (const [key, button] of Object.entries(lane.buttons)) button.ariaPressed = lane[key];
      lane.gain?.gain.setTargetAtTime(audible ? lane.volume : 0, Mixer.audio.currentTime, 0.008);
    }
  }

  async play() {
    await this.ready;
    if (this.playing || !this.duration) return;
    if (Mixer.heard !== this) Mixer.heard?.pause();
    Mixer.heard = this;
    await Mixer.audio.resume();
    if (this.at >= this.duration - 0.01) this.at = 0;
    this.started = Mixer.audio.currentTime + LEAD;
    for (const lane of this.lanes) {
      const source = Object.assign(Mixer.audio.createBufferSource(), { buffer: lane.buffer, loop: this.looped });
      source.connect(lane.gain);
      source.start(this.started, this.at);
      lane.source = source;
    }
    this.playing = true;
    this.playButton.innerHTML = PAUSE;
    this.tick();
  }

  pause() {
    if (!this.playing) return;
    [this.at, this.playing] = [this.now(), false];
    for (const { source } of this.lanes) (source.stop(), source.disconnect());
    this.playButton.innerHTML = PLAY;
  }

  seek(seconds) {
    const playing = this.playing;
    this.pause();
    this.at = Math.min(Math.max(seconds, 0), this.duration);
    if (playing) this.play();
    else this.tick();
  }

  setLoop(looped) {
    this.at = this.now(); // how often it has looped so far is settled
    this.started = Mixer.audio?.currentTime ?? 0;
    this.looped = looped;
    this.loopButton.ariaPressed = looped;
    if (this.playing) for (const lane of this.lanes) lane.source.loop = looped;
  }

  now() {
    if (!this.playing) return this.at;
    const seconds = this.at + Math.max(0, Mixer.audio.currentTime - this.started);
    return this.looped ? seconds % this.duration : Math.min(seconds, this.duration);
  }

  tick() {
    const now = this.now();
    this.tracks.style.setProperty("--at", this.duration ? now / this.duration : 0);
    this.time.textContent = `${clock(now)} / ${clock(this.duration)}`;
    for (const lane of this.lanes) lane.meter.style.setProperty("--level", this.playing ? Math.min(1, 2.5 * this.level(lane)) : 0);
    if (this.playing && !this.looped && now >= this.duration) (this.pause(), this.seek(0));
    else if (this.playing) requestAnimationFrame(() => this.tick());
  }

  level(lane) {
    const samples = new Float32Array(lane.analyser.fftSize);
    lane.analyser.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
  }

  // How it looks.
  show(view) {
    this.view = view;
    for (const button of this.views) button.ariaPressed = button.view === view;
    this.draw();
  }

  draw() {
    if (!this.duration) return;
    const ruler = this.tracks.firstElementChild;
    const every = [0.5, 1, 2, 5, 10, 30, 60, 300].find((step) => this.duration / step <= 10) ?? 600;
    const marks = Array.from({ length: Math.ceil(this.duration / every) }, (_, k) => k * every);
    ruler.replaceChildren(...marks.map((t) => element("span", { textContent: clock(t), style: { "--at": t / this.duration } })));
    const loudest = { stem: 1e-4, mixture: 1e-4 }; // the scale of the stems, and that of the mixture
    for (const lane of this.lanes) {
      lane.peak ??= Math.max(...peaks(lane.buffer, 400).map(([low, high]) => Math.max(-low, high)));
      loudest[lane.scale] = Math.max(loudest[lane.scale], lane.peak);
    }
    for (const { canvas, picture, buffer, color, scale, element: row } of this.lanes) {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
      if (!width) continue; // in a tab that is not shown
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d");
      const split = { waves: 0, both: 0.55, spectra: 1 }[this.view] * height;
      if (split) pen.drawImage(picture, 0, 0, width, split);
      if (split < height) wave(pen, peaks(buffer, width), color, split, height - split, loudest[scale]);
      row.dataset.drawn = true;
    }
  }
}

// [lowest, highest, root mean square] of each column, over all channels.
function peaks(buffer, columns) {
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
  return Array.from({ length: columns }, (_, k) => {
    const [from, to] = [k, k + 1].map((i) => Math.floor((i * buffer.length) / columns));
    let [low, high, power] = [0, 0, 0];
    for (const samples of channels) {
      for (let i = from; i < to; i++) [low, high] = [Math.min(low, samples[i]), Math.max(high, samples[i])];
      for (let i = from; i < to; i++) power += samples[i] ** 2;
    }
    return [low, high, Math.sqrt(power / Math.max(1, (to - from) * channels.length))];
  });
}

function wave(pen, columns, color, top, height, loudest) {
  const [middle, scale] = [top + height / 2, (0.47 * height) / loudest];
  pen.fillStyle = color;
  columns.forEach(([low, high, rms], x) => {
    pen.globalAlpha = 0.45;
    pen.fillRect(x, middle - high * scale, 1, Math.max(1, (high - low) * scale));
    pen.globalAlpha = 1;
    pen.fillRect(x, middle - rms * scale, 1, 2 * rms * scale);
  });
}

if (!customElements.get("gmsdi-mixer")) customElements.define("gmsdi-mixer", Mixer);
