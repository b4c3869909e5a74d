"""A writer to be killed: forks a process that draws boxes until the test ends it.

Reads a line "FOLDER PREFIX COUNT" from stdin and forks. The fork prints its process id once it has
read the project, then puts COUNT boxes PREFIX-0, PREFIX-1, ... into the photos of FOLDER in turn, each
acknowledged by a line when it is on the disk. Forking costs a millisecond, a new Python half a second.
"""

from __future__ import annotations

import os
import sys
import tempfile

from PIL import Image

from fewbox.data.annotations import Box
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox


def draw(folder: str, prefix: str, count: int, report: str = "/dev/stdout") -> None:
    project = Project(folder)
    names = project.photo_names()
    project.states(names)
    said = os.open(report, os.O_WRONLY)
    os.write(said, f"process {os.getpid()}\n".encode())
    for number in range(count):
        box_id = f"{prefix}-{number}"
        edge = 1 + number % 50
        box = DrawnBox(box_id, Box(edge, edge, edge + 5, edge + 8, "mug"))
        project.change_photo(names[number % len(names)], put=[box])
        os.write(said, f"{box_id}\n".encode())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # once, for all the imports that are made on first use
        Image.new("RGB", (90, 90)).save(f"{folder}/a.jpg")
        draw(folder, "first", 1, report=os.devnull)
    for line in sys.stdin:
        folder, prefix, count = line.split()
        child = os.fork()
        if child == 0:
            try:
                draw(folder, prefix, int(count))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"ended\n")


if __name__ == "__main__":
    main()
