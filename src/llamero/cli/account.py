"""`signin` and `signout`, and the link that registers a server's key at ollama.com (cli §3.7, §3.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ClientError, LlameroError, ServerAnswered
from .format import printable

if TYPE_CHECKING:
    from ..client import Client
    from .app import App

CLOUD_NEEDS_SIGN_IN = "You need to be signed in to Ollama to run Cloud models."
PUSH_NEEDS_SIGN_IN = "You need to be signed in to push models to ollama.com."
NO_CLOUD = "cloud models are disabled; the key is all there is to register"


def sign_in_text(why: str, url: str) -> str:
    return f"{why}\n\nIf your browser did not open, navigate to:\n    {printable(url)}\n\n"


def sign_in(app: App) -> None:
    """Say where the server's key is registered: nothing else can be signed in to."""
    client = app.connect()
    try:
        name = client.me()
    except ServerAnswered as error:
        if not error.signin_url:
            raise
        url = printable(error.signin_url)
        app.terminal.out(f"To push models to ollama.com, register the key of this server at:\n    {url}\n\n")
        raise LlameroError(NO_CLOUD) from error
    app.terminal.out(f"You are already signed in as user '{printable(name)}'\n\n")


def sign_out(app: App) -> None:
    was_signed_in = app.connect().sign_out()
    app.terminal.out(
        "You have signed out of ollama.com\n\n" if was_signed_in else "You are not signed in to ollama.com\n\n"
    )


def show_sign_in(app: App, client: Client, why: str) -> None:
    """Say where to sign in, if the server says that nobody is. Whatever else it says matters less than why we ask."""
    try:
        client.me()
    except ClientError as error:
        if isinstance(error, ServerAnswered) and error.signin_url:
            app.terminal.out(sign_in_text(why, error.signin_url))
