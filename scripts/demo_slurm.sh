#!/usr/bin/env bash
# The demo through Slurm: six skills as jobs on two nodes of this machine. Lists the jobs, looks at one, cancels it in its session
# and tries it again. `scripts/demo_slurm.sh PYTHON FOLDER`; make demo-slurm calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?expected: scripts/demo_slurm.sh PYTHON FOLDER}
folder=${2:?expected: scripts/demo_slurm.sh PYTHON FOLDER}

conf=$(scripts/slurm_here.sh up)  # in a line of its own: `eval "$(...)"` would go on where it fails, with another cluster
eval "$conf"
trap 'scripts/slurm_here.sh down' EXIT
export JAX_PLATFORMS=cpu
began=$SECONDS

train() {
    "$python" -m flowrl.bottomup_parallel --env_name Craftax-Classic-Symbolic-v1 --graph_path "$folder" --proposer curriculum \
        --max_nodes 6 --max_parallel_skills 2 --layer_size 128 --num_envs 256 --num_steps 32 --lr 1e-3 --gamma 0.995 \
        --total_timesteps 1e6 --no-use_wandb --launcher slurm --slurm_cpus 4 "$@"
}

show() { printf '\n$ %s\n' "$*"; "$@" || true; }

cancel_one() {  # once two jobs run: shows what a user can type, then presses Ctrl-C in the session of the second
    local name shown=
    for _ in $(seq 600); do
        name=$(squeue -h -t RUNNING -o %j | sed -n '/^flowrl_e/p' | sed -n 2p)
        shown=$([ -z "$name" ] || tmux capture-pane -p -t "$name" 2>/dev/null || true)
        case "$shown" in *" frames/s"*) break ;; esac
        sleep 0.5
    done
    case "$shown" in *" frames/s"*) ;; *) return 0 ;; esac
    show squeue -o '%.4i %.24j %.8T %.6M %R'
    printf '\n$ tmux list-sessions | grep flowrl_\n'; tmux list-sessions | grep flowrl_
    printf '\n$ tmux attach -t %s\n' "$name"; tmux capture-pane -p -t "$name" | grep -v '^$'
    printf '\nCtrl-C in %s\n' "$name"; tmux send-keys -t "$name" C-c
}

cancel_one &
train || echo "(exit code $?: one was cancelled)"
wait
printf '\n$ ... --graph_path %s --retry_failed\n' "$folder"
train --retry_failed
printf '\n%d minutes, %d seconds in all\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60))
