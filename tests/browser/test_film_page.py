"""The page on the frames of a film."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from page_driver import MARK, OpenPage, Serve, assert_close, boxes_in_file, marked_photo

from fewbox.video.writer import write_frames

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")


def test_boxes_are_drawn_in_the_frames_that_were_picked(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    film, folder = tmp_path / "film.mp4", tmp_path / "film_frames"
    with av.open(str(film), "w") as writing:
        stream = writing.add_stream("libx264", rate=5, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 400, 300, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 5)
        for number in range(5):
            frame = av.VideoFrame.from_image(marked_photo())
            frame.pts = number
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
    assert write_frames(film, folder, 30) == 1  # all show the same
    (photo,) = folder.iterdir()
    page = open_page(serve(folder))
    assert page.name() == photo.name
    page.draw_mark("mug")
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, photo.name)
    assert label == "mug"
    assert_close(box, MARK, tolerance=2)
