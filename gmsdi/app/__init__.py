"""The page: the four tasks in a browser, for `gmsdi app`. Everything but `page` and `server` works without gradio.

| module | what it has |
| --- | --- |
| `settings` | presets, and from what the page's controls say to the arguments of the tasks |
| `jobs` | runs in the background, one at a time, with progress; they can be cancelled |
| `results` | from `Stems` to files, spectrograms, a zip and the mixer that plays them |
| `examples` | short pieces by our own composer |
| `page`, `server` | the page in Gradio, and what serves it |
| `static/` | the mixer, a custom element, and the styles of the page |
"""
