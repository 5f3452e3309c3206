# The gateway: strop serve, with the versions that constraints.txt pins. Built from the folder above: its context is the repository.
# torch's index is an argument: https://download.pytorch.org/whl/cpu (smaller, without CUDA) or …/whl/cu130.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/strop
COPY constraints.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir --extra-index-url ${TORCH_INDEX} --requirement constraints.txt
COPY flows flows
COPY tasks tasks
RUN pip install --no-cache-dir --no-deps . && git config --system --add safe.directory /project
ENV HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /project
EXPOSE 8000
# SIGTERM: answers under way are completed
STOPSIGNAL SIGTERM
CMD ["strop", "serve", "--host", "0.0.0.0", "--port", "8000"]
