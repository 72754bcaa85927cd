"""How log lines look, readable on a terminal or JSON; and where they go, to standard error or to a file."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from firerunner.telemetry.rotating import LogFile, RotatingFile


def configure_logs(level: str, style: str, file: LogFile | None = None) -> None:
    """Set up structlog and the standard library's loggers; again, when the settings have changed.

    `level` is debug, info, warning or error; `style` is auto, console or json. Raises FireRunnerError if
    the file cannot be written; then everything stays as it was.
    """
    is_terminal = file is None and sys.stderr.isatty()
    readable = style == "console" or (style == "auto" and is_terminal)
    handler = logging.StreamHandler(sys.stderr) if file is None else RotatingFile(file)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=is_terminal) if readable else structlog.processors.JSONRenderer()
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    for former in before:
        if isinstance(former, RotatingFile):
            former.close()
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
