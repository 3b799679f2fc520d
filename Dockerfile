# Mint and post office, with play money:
#   docker build -t pennypost . && docker run -e PENNYPOST_PLAY_PUBLIC=local -p 127.0.0.1:3338:3338 pennypost
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/pennypost
COPY requirements/server.txt requirements/server.txt
RUN /opt/pennypost/bin/pip install --no-cache-dir --require-hashes -r requirements/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY client_sdk client_sdk
COPY mint mint
COPY postoffice postoffice
COPY migrations migrations
RUN /opt/pennypost/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

# For LNbits, Blink, Strike and LND's gRPC: the cashu package, whose pins need an environment of their own and a
# Python before 3.13.
FROM python:3.12-slim-bookworm AS cashu
RUN python -m venv /opt/cashu
COPY requirements/cashu.txt /tmp/cashu.txt
RUN /opt/cashu/bin/pip install --no-cache-dir --require-hashes -r /tmp/cashu.txt

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data pennypost && install -d -o pennypost -m 0700 /data /lnd
COPY --from=build /opt/pennypost /opt/pennypost
COPY --from=cashu /opt/cashu /opt/cashu
ENV PATH=/opt/pennypost/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PENNYPOST_CASHU_PYTHON=/opt/cashu/bin/python \
    PENNYPOST_DATA_DIR=/data \
    PENNYPOST_HOST=0.0.0.0 \
    PENNYPOST_LOG=json
USER pennypost
WORKDIR /data
VOLUME /data
EXPOSE 3338
HEALTHCHECK --start-period=20s --interval=10s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3338/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["pennypost"]
CMD ["up"]
