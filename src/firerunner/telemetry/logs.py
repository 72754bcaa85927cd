"""How log lines look: readable on a terminal, JSON elsewhere; always on standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logs(level: str, style: str) -> None:
    """Set up structlog and the standard library's loggers once, at the start of the program.

    `level` is debug, info, warning or error; `style` is auto, console or json.
    """
    readable = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if readable
        else structlog.processors.JSONRenderer()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    set_log_level(level)
    for chatty in ("httpx", "httpcore", "uvicorn.access", "aiosqlite", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def set_log_level(level: str) -> None:
    """Write lines of this importance and above: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
