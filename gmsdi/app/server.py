"""The server of the page: on this machine alone by default, under a policy that lets it load nothing from elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.models.registry import Named
from gmsdi.presets import presets_of

LOCAL = ["127.0.0.1", "localhost"]
STATIC = Path(__file__).parent / "static"
HEAD = '<link rel="stylesheet" href="gmsdi/static/page.css"><script type="module" src="gmsdi/static/mixer.js"></script>'
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'"
)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str = "mini",
    device: str = "auto",
    precision: str = "auto",
    show: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        host: the address to listen on; any other than loopback's lets others use the page.
        port: 0 is any that is free.
        model: see `gmsdi.load`.
        device: see `gmsdi.load`.
        precision: see `gmsdi.load`.
        show: open it in the browser.
        say: called with the address.

    Raises:
        UserError: if gradio is missing, the address is taken, or the model cannot be opened.
    """
    outline = Named(model, device, precision).outline()
    if outline is not None:
        presets_of(outline)
    # Read when gradio is imported.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"the page needs gradio ({error}); run: pip install 'gradio>=6.30,<7'; or make app, in a checkout"
        ) from error
    with _listening(host, port) as listener, tempfile.TemporaryDirectory(prefix="gmsdi-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
        app, close = _app(Path(folder), host, model, device, precision)
        address = f"http://{'localhost' if host == '0.0.0.0' else host}:{listener.getsockname()[1]}"
        say(f"{address}  (press Ctrl-C to stop)")
        if show:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes, as after Ctrl-C
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            close()


def newest_report(results: Path = Path("results")) -> Path | None:
    """The newest report of the study, if there is one."""
    return max(results.glob("*/report.html"), key=lambda path: path.stat().st_mtime, default=None)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host} port {port}: cannot listen there ({error}); choose another --port") from error


def _app(folder: Path, host: str, model: str, device: str, precision: str) -> tuple[Any, Callable[[], None]]:
    """The ASGI application, and a function that ends its runs."""
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from fastapi.staticfiles import StaticFiles

    from gmsdi.app import results
    from gmsdi.app.page import Studio, build

    report = newest_report()
    studio = Studio(folder, model, device, precision, None if report is None else "gmsdi/report/report.html")
    page = build(studio)
    app = FastAPI(openapi_url=None)
    (folder / "results").mkdir()
    app.mount("/gmsdi/static", StaticFiles(directory=STATIC))
    app.mount(f"/{results.URL}", StaticFiles(directory=folder / "results"))
    if report is not None:
        app.mount("/gmsdi/report", StaticFiles(directory=report.parent))
    theme = gr.themes.Default(
        primary_hue="violet",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    app = gr.mount_gradio_app(
        app, page, path="/", theme=theme, head=HEAD, footer_links=[], run_history=False, ssr_mode=False
    )
    # Another site cannot reach the page by a name of its own that leads to this machine.
    guarded = TrustedHostMiddleware(app, allowed_hosts=LOCAL) if host in LOCAL else app
    return _with_policy(guarded), studio.jobs.close


def _with_policy(app: Any) -> Any:
    """The application with the policy in the head of every answer."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await app(scope, receive, answer if scope["type"] == "http" else send)

    return wrapped
