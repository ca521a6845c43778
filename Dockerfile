# Sandmill with ONNX Runtime for CPUs. Build: docker build -t sandmill .
# Run with a folder of functions: docker run -p 8080:8080 -p 8081:8081 -v ./functions:/functions:ro sandmill

FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
COPY . .
RUN python3 examples/fetch.py --runtime-only
RUN cargo build --locked --profile dist -p sandmill

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /var/lib/sandmill sandmill
COPY --from=build /src/target/dist/sandmill /usr/local/bin/sandmill
COPY --from=build /src/.sandmill/lib/ /usr/local/lib/sandmill/
COPY deploy/container.toml /etc/sandmill.toml
USER sandmill
EXPOSE 8080 8081
# SIGTERM drains: give it as long as the longest request may take.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sandmill"]
CMD ["serve", "--config", "/etc/sandmill.toml", "--function", "/functions"]
