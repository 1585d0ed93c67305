"""`art-idguard serve`: the page."""

from typing import Any

from art_idguard.errors import IDGuardError


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    serve = commands.add_parser("serve", help="a page on which to try it (extra: serve)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other computers in")
    serve.add_argument("--port", type=int, default=7860)
    serve.add_argument("--model", help="protector: folder or Hub id (default: the one that ships)")
    serve.add_argument("--manipulators", nargs="+", help="folders, Hub ids or name=file (default: those that ship)")
    serve.set_defaults(run=_run)


def _run(**options: Any) -> int:
    try:
        from art_idguard.serve.app import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise IDGuardError("serve needs Gradio; install it with: pip install 'art-idguard[serve]'") from error
    serve(**options)
    return 0
