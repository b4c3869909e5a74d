"""``fewbox annotate film.mp4``: which frames are picked, and where they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from fewbox.cli import main
from fewbox.errors import VideoError
from fewbox.video.writer import write_frames

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")

SCENES = 4
PER_SCENE = 12
SHARP = 5
"""The one frame of each scene that is not blurred."""


def scene(seed: int) -> npt.NDArray[np.uint8]:
    """A picture of soft patches with a fine grain, another one for each seed."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(30, 225, (7, 9), np.uint8))
    soft = np.asarray(patches.resize((192, 144), Image.Resampling.BICUBIC)).astype(np.int16)
    grey = (soft + random.integers(-20, 20, soft.shape)).clip(0, 255).astype(np.uint8)
    return np.stack([grey] * 3, axis=-1)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Four scenes of twelve frames, all blurred but one of each."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as writing:
        stream = writing.add_stream("libx264", rate=12, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12)
        for number in range(SCENES * PER_SCENE):
            image = Image.fromarray(scene(number // PER_SCENE))
            if number % PER_SCENE != SHARP:
                image = image.filter(ImageFilter.GaussianBlur(3))
            frame = av.VideoFrame.from_image(image)
            frame.pts = number
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
    return path


def test_the_sharpest_frame_of_each_scene_is_picked(film: Path) -> None:
    folder = film.with_name("picked")
    assert write_frames(film, folder, SCENES) == SCENES
    names = [f"film_{PER_SCENE * number + SHARP:06d}.jpg" for number in range(SCENES)]
    assert sorted(path.name for path in folder.iterdir()) == names
    with Image.open(folder / names[0]) as image:
        assert (image.size, image.format) == ((192, 144), "JPEG")


def test_what_shows_the_same_is_not_picked_twice(film: Path) -> None:
    assert write_frames(film, film.with_name("picked"), 40) < 2 * SCENES + 1


def test_the_command_writes_frames_once_and_takes_those_that_are_there(
    film: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="needs the page: pip install '.[annotate]'")
    from fewbox.apps.annotate.app import AnnotateServer

    monkeypatch.setattr(AnnotateServer, "run", lambda self, **_: self.socket.close())
    monkeypatch.chdir(film.parent)
    command = ["annotate", "film.mp4", "--frames", "3", "--no-browser", "--no-learn"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "3 frames of film.mp4 written into film_frames" in said
    assert "3 photos; boxes go to" in said
    before = sorted(Path("film_frames").iterdir())
    assert len([path for path in before if path.suffix == ".jpg"]) == 3
    film.write_bytes(b"gone")  # it is not read again
    assert main(command) == 0
    assert "are there already" in capsys.readouterr().out
    assert main(["annotate", "other.mp4"]) == 2
    assert "other.mp4: no such file" in capsys.readouterr().err
    assert main(["annotate", "film.mp4", "--frames", "0"]) == 2


def test_a_film_without_pictures_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(VideoError):
        write_frames(tmp_path / "film.mp4", tmp_path / "picked", 3)
    assert not (tmp_path / "picked").exists()
