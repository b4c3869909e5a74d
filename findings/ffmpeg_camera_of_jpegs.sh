#!/bin/bash
# PyAV 18.1.0 (FFmpeg): frames of a camera that sends one JPEG after the other over HTTP (multipart/x-mixed-replace) have times as of
# 25 frames a second, however fast they really come.
#
# The time base of such a stream is 1/25, each frame is one later than the one before, and nothing says that the times are made
# up. Whoever compares them with a clock, to see whether they keep up, or measures speeds by them, or writes them into a film,
# is wrong by the ratio of the rates.
#
# Seen: ten frames sent over 0.9 seconds; the last one's time is 0.36 s.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 pillow==13.0.0
"$tmp/venv/bin/python" - <<'PY'
import io
import socket
import threading
import time

import av
from PIL import Image

file = io.BytesIO()
Image.new("RGB", (64, 48), "orange").save(file, "JPEG")
jpeg = file.getvalue()
server = socket.create_server(("127.0.0.1", 0))
sent = []


def serve():
    connection, _ = server.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    for _ in range(10):
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
        connection.sendall(head + jpeg + b"\r\n")
        sent.append(time.monotonic())
        time.sleep(0.1)
    connection.close()


threading.Thread(target=serve, daemon=True).start()
times = []
with av.open(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=10) as camera:
    try:
        for frame in camera.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
    except av.FFmpegError:  # the end of the connection
        pass
took = sent[-1] - sent[0]
print(f"PyAV {av.__version__}: {len(times)} frames sent over {took:.1f} s, the last one's time is {times[-1]:.2f} s")
assert took > 0.8
assert times == [number / 25 for number in range(10)], f"the behaviour has changed: {times}"
PY
