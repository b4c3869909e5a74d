# The service, on a CPU. How to build and run it: docs/serve.md
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
# Every version is one that the tests were run with, also of what the build itself needs.
COPY requirements.txt .
ENV PIP_CONSTRAINT=/build/requirements.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/fewbox
ENV PATH=/opt/fewbox/bin:$PATH
# For .onnx detectors. With train it serves .safetensors too; on Linux that brings gigabytes of CUDA libraries, unless
# torch's CPU build is installed before.
ARG EXTRAS=serve,heic
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install ".[${EXTRAS}]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/fewbox /opt/fewbox
ENV PATH=/opt/fewbox/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home fewbox
USER 10001
WORKDIR /detectors
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Other machines can reach a container's address, so the service asks for FEWBOX_API_KEY before it starts.
ENTRYPOINT ["fewbox", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["detector.onnx"]
