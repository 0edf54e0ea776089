#!/bin/bash
# Deployments, then a worker for them. On TERM its flow runs are ended, too: Prefect's worker would leave them running.
set -euo pipefail
python -m flows.deployments
prefect worker start --pool fastdrive --type process --name fastdrive "$@" &
worker=$!
end_runs='
import sys, psutil
worker = psutil.Process(int(sys.argv[1]))
runs = [child for child in worker.children(recursive=True) if "prefect.engine" in child.cmdline()]
for process in [*runs, worker]:
    process.send_signal(15 if process in runs else 2)
psutil.wait_procs([*runs, worker], 170)
'
trap 'python -c "$end_runs" $worker' TERM INT
wait $worker
