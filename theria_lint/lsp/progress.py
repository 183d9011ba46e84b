"""Telling the editor that something runs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer


@asynccontextmanager
async def shown_as(server: LanguageServer, title: str) -> AsyncIterator[None]:
    """Have the editor show ``title`` for as long as the block lasts, if it can."""
    token = await _token(server)
    if token is None:
        yield
        return
    server.work_done_progress.begin(token, types.WorkDoneProgressBegin(title))
    try:
        yield
    finally:
        server.work_done_progress.end(token, types.WorkDoneProgressEnd())


async def _token(server: LanguageServer) -> str | None:
    window = server.client_capabilities.window
    if window is None or not window.work_done_progress:
        return None
    token = str(uuid.uuid4())
    try:
        await server.work_done_progress.create_async(token)
    except JsonRpcException:  # it will not show this one
        return None
    return token
