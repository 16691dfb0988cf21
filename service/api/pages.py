"""Serve the web page and the documentation, which load nothing from other hosts."""

from pathlib import Path

from aiohttp import web

WEB = Path(__file__).parent.parent / "web"
PAGES = {"/": "index.html", "/docs": "docs.html", "/favicon.ico": "icon.svg"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

routes = web.RouteTableDef()
routes.static("/web", WEB)


def _serve(path: str, name: str) -> None:
    @routes.get(path)
    async def page(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(WEB / name)


for path, name in PAGES.items():
    _serve(path, name)


async def set_policy(request: web.Request, response: web.StreamResponse) -> None:
    """Allow our pages to load and run only our own files."""
    if request.path in PAGES or request.path.startswith("/web/"):
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
