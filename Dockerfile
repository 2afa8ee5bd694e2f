# Two images from one file: `web` (website, clock, imports; no torch) and `trainer` (training and the sampler).
#   docker build --target web -t attune-web .
#   docker build --target trainer -t attune-trainer .

FROM python:3.12-slim AS assets
WORKDIR /srv/attune
COPY bootstrap.py package.json package-lock.json .npmrc ./
RUN python -c "import bootstrap; bootstrap.bring_browser_files()"

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ATTUNE_ENVIRONMENT=production ATTUNE_DATA_DIR=/data
WORKDIR /srv/attune
RUN useradd --system --uid 10001 --create-home attune && install -d -o attune -g attune -m 0750 /data
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app/__init__.py app/__init__.py
COPY worker/__init__.py worker/__init__.py
VOLUME /data

FROM base AS web
RUN pip install -c constraints.txt -e .
COPY . .
COPY --from=assets /srv/attune/static/vendor static/vendor
USER attune
EXPOSE 8000
CMD ["attune", "serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]

FROM base AS trainer
RUN pip install -c constraints.txt -e ".[train,serve]"
COPY . .
ENV HF_HOME=/data/huggingface TOKENIZERS_PARALLELISM=false
USER attune
CMD ["attune", "worker", "--queue", "gpu"]
