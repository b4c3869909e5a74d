"""``fewbox serve``: detectors behind HTTP."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from fewbox.commands import add_device, add_engine, add_settings, port
from fewbox.config import ServiceConfig
from fewbox.errors import SettingError


def add_serve(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    serve = commands.add_parser(
        "serve",
        help="answer other programs over HTTP",
        description="Detect in the photos that other programs send over HTTP. Detectors are called by the "
        "names of their files; a file that is replaced is loaded again. Requests must carry the key in the "
        "environment variable FEWBOX_API_KEY, if there is one.",
    )
    serve.add_argument(
        "detectors",
        nargs="+",
        type=Path,
        metavar="DETECTOR",
        help="files that 'fewbox finetune' or 'fewbox export' wrote",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at; one that other machines can reach needs FEWBOX_API_KEY "
        "(default: %(default)s)",
    )
    serve.add_argument(
        "--port", type=port, default=8000, help="the port; 0 is any free one (default: %(default)s)"
    )
    serve.add_argument(
        "--base",
        help="the base model, for detectors written with --heads-only whose base is not in the cache",
    )
    add_engine(serve)
    add_device(serve)
    add_settings(serve, ServiceConfig)
    serve.set_defaults(run=run_serve)


def run_serve(parsed: argparse.Namespace) -> int:
    """``fewbox serve``, until it is stopped."""
    settings = {spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(ServiceConfig)}
    config = ServiceConfig(**settings)
    try:
        from fewbox.apps.http import is_loopback
        from fewbox.apps.serve import DetectionServer, key_from_environment, require_key
    except ModuleNotFoundError as error:
        hint = "pip install '.[serve]'"
        raise SettingError(f"the service needs {error.name}, which is not installed", hint=hint) from error
    from fewbox.apps.serve.detecting import ServedDetector, name_detectors
    from fewbox.detection.loading import say_what_computes

    key = key_from_environment()
    require_key(parsed.host, key)
    served = [
        ServedDetector(name, path, parsed.base, parsed.engine, parsed.device)
        for name, path in name_detectors(parsed.detectors).items()
    ]
    server = DetectionServer(served, config, host=parsed.host, port=parsed.port, key=key)
    if not is_loopback(parsed.host):
        print(
            f"warning: other machines can reach {parsed.host}; keys and photos travel in the open unless a "
            "proxy in front adds TLS",
            file=sys.stderr,
        )
    for one in served:
        print(f"{one.name}: finds {', '.join(one.current.detector.labels)}")
        say_what_computes(one.current.detector)
    print(f"serving at {server.url}\nstop with Ctrl-C", flush=True)
    server.run()
    return 0
