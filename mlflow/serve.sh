#!/bin/sh
# Shows the registry of this project in a browser, to this machine alone: http://127.0.0.1:5000 (another port: PORT=5001)
set -eu
cd "$(dirname "$0")/.."
command=mlflow
[ -x .venv/bin/mlflow ] && command=.venv/bin/mlflow
export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # 2 processes instead of 9
exec "$command" server --host 127.0.0.1 --port "${PORT:-5000}" --workers 1 \
  --backend-store-uri sqlite:///mlflow/mlflow.db --artifacts-destination mlflow/artifacts
