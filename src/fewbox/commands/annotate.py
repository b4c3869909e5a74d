"""``fewbox annotate``: draw boxes in a browser page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fewbox.commands import add_batch_norm_eps, add_device, base_of, port
from fewbox.commands.detect_video import FILM_SUFFIXES
from fewbox.commands.finetune import WRITTEN
from fewbox.core import counted
from fewbox.core.arguments import checked_device
from fewbox.core.files import require_not_read, require_writable
from fewbox.errors import SettingError

_FRAMES = 30


def add_annotate(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    annotate = commands.add_parser(
        "annotate",
        help="draw boxes in photos, in a browser page",
        description="Draw boxes in photos, in a browser page on this machine. annotations.json beside the "
        "photos keeps them. After two photos, boxes for the others are proposed.",
    )
    annotate.add_argument(
        "photos", metavar="PHOTOS", help="a folder, a pattern such as 'photos/**/*.jpg', or a film"
    )
    annotate.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of a film: how many frames to pick at most, the sharpest and most different ones; they are "
        f"written into the folder FILM_frames beside it (default: {_FRAMES})",
    )
    annotate.add_argument(
        "--labels",
        default="",
        metavar="A,B",
        help="names of classes to begin with; more can be made in the page",
    )
    annotate.add_argument(
        "--base",
        help="what to learn from: a name from 'fewbox bases', a file, or auto, as for 'fewbox finetune' "
        "(default: the best one at hand)",
    )
    add_batch_norm_eps(annotate)
    annotate.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the detector that 'Finish' makes, .safetensors or .onnx (default: the folder's name with "
        ".safetensors, where you are)",
    )
    _add_address(annotate)
    annotate.add_argument(
        "--learn",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="learn meanwhile and propose boxes, or not",
    )
    add_device(annotate)
    annotate.set_defaults(run=run_annotate)


def _add_address(annotate: argparse.ArgumentParser) -> None:
    """Add what says where the page is and how one gets there."""
    annotate.add_argument(
        "--port", type=port, help="the port of the page (default: the first free one from 8931 on)"
    )
    annotate.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen; 0.0.0.0 shares the page with phones and other machines, for which an address "
        "and a QR code are printed (default: %(default)s, this machine alone)",
    )
    annotate.add_argument(
        "--certificate", type=Path, metavar="FILE", help="a certificate, PEM, to serve the page by https"
    )
    annotate.add_argument("--key", type=Path, metavar="FILE", help="its key, PEM, if that is another file")
    annotate.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in a browser, or only print its address",
    )


def run_annotate(parsed: argparse.Namespace) -> int:
    """``fewbox annotate``."""
    try:
        from fewbox.apps.annotate.app import AnnotateServer
    except ModuleNotFoundError as error:
        hint = "pip install '.[annotate]'"
        raise SettingError(f"the page needs {error.name}, which is not installed", hint=hint) from error
    parsed.photos = _photos_of(parsed.photos, parsed.frames)
    if parsed.key is not None and parsed.certificate is None:
        raise SettingError("--key is the key of a certificate", hint="give that too: --certificate FILE")
    from fewbox.apps.annotate.background import BackgroundLearner
    from fewbox.data.images import find_photos
    from fewbox.data.project import Project
    from fewbox.models import default_base
    from fewbox.models.base import require_named

    project = Project(parsed.photos)
    if not project.folder.is_dir():
        find_photos(parsed.photos)  # which says that it is not there
    names = project.photo_names() or find_photos(parsed.photos)  # which says what is wrong if there are none
    folder_name = project.folder.resolve().name
    output = parsed.output or Path(f"{folder_name or 'detector'}.safetensors")
    require_writable(output, WRITTEN)
    require_not_read(output, parsed.base)
    labels = [label for label in parsed.labels.split(",") if label.strip()]
    if labels:
        with project.editing() as content:
            content.add_labels(labels)
    # Who does not learn meanwhile is not asked to fetch one: perhaps they never finish here.
    base = base_of(parsed.base) if parsed.learn or parsed.base else default_base()
    require_named(base)  # the page would open, and only who learns in the background would say so
    learner = BackgroundLearner(
        project,
        base=base,
        batch_norm_eps=parsed.batch_norm_eps,
        output=output,
        learn=parsed.learn,
        device=checked_device(parsed.device),
    )
    try:
        server = AnnotateServer(
            project,
            learner,
            parsed.port,
            host=parsed.host,
            certificate=parsed.certificate,
            key=parsed.key,
        )
        print(f"{counted(len(names), 'photo')}; boxes go to {project.file}", flush=True)
        if server.is_shared:
            _tell_others(server.url)
        here = "" if server.local_url == server.url else f"\non this machine: {server.local_url}"
        print(f"open {server.url}{here}\nstop with Ctrl-C", flush=True)
        server.run(open_browser=parsed.browser)
    finally:
        learner.close()
    return 0


def _tell_others(url: str) -> None:
    """Print a QR code of the page's address, and what others in the network can see."""
    if sys.stdout.isatty():
        import segno

        segno.make(url, error="l").terminal(compact=True)
    print("whoever has this address can see and change the photos and boxes, until you stop this")
    if url.startswith("http:"):
        print(
            "warning: the connection is not encrypted, so who listens in on the network can get in too.\n"
            "Share only where you trust everybody, or give --certificate and --key; without https no\n"
            "browser lends the page its camera."
        )


def _photos_of(given: str, frames: int | None) -> str:
    """What was given; of a film the folder with its frames, which are written if they are not there yet."""
    film = Path(given)
    if not given.lower().endswith(FILM_SUFFIXES) or film.is_dir():
        if frames is not None:
            raise SettingError(f"--frames is for a film, not for {given}", hint="leave it out")
        return given
    frames = _FRAMES if frames is None else frames
    if frames < 1:
        raise SettingError(f"--frames must be a number from 1: {frames}")
    folder = film.with_name(f"{film.stem}_frames")
    if folder.is_dir() and any(folder.iterdir()):
        print(f"{folder}: frames of {film.name} are there already; to pick others, rename or delete it")
        return str(folder)
    from fewbox.video.writer import write_frames

    count = write_frames(film, folder, frames)
    print(f"{counted(count, 'frame')} of {film.name} written into {folder}", flush=True)
    return str(folder)
