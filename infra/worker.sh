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
worker.send_signal(2)  # it takes no more runs
for run in runs:
    run.terminate()
psutil.wait_procs(runs, 150)  # a training saves its state
if psutil.wait_procs([worker], 15)[1]:
    worker.kill()
'
trap 'python -c "$end_runs" $worker' TERM INT
wait $worker
