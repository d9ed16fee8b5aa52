#!/usr/bin/env bash
# A real Slurm of two nodes on this machine's loopback, to try `--launcher slurm` without a cluster:
#     scripts/slurm_here.sh up       installs what is missing where that needs no password, and starts it
#     scripts/slurm_here.sh status   what runs; exit code 0 if it answers
#     scripts/slurm_here.sh down     ends its jobs and all that `up` has started
# All its files are in one folder, $FLOWRL_SLURM_DIR (default: flowrl_slurm_<user id> in the folder for temporary files).
# `export SLURM_CONF=<that folder>/slurm.conf` makes sbatch, squeue and flowrl use it; `up` prints that line.
#
# As root, each node has a host name of its own (node1, node2) and does not see the folder `unseen` beside the configuration,
# like a cluster with a file system that only its login node has. Without root both nodes have this machine's name.
set -euo pipefail

here=${FLOWRL_SLURM_DIR:-${TMPDIR:-/tmp}/flowrl_slurm_$(id -u)}
nodes="node1 node2"
cpus=${FLOWRL_SLURM_CPUS:-4}
memory_mb=${FLOWRL_SLURM_MEMORY_MB:-8000}
export SLURM_CONF=$here/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

fail() { echo "slurm_here: $*" >&2; exit 1; }

install_missing() {
    local missing=() tool
    for tool in slurmctld slurmd sbatch munged; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    local packages="slurmctld slurmd slurm-client munge" as=()
    command -v apt-get >/dev/null || fail "${missing[*]} missing; install $packages with your system's package manager"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "${missing[*]} missing; run \`sudo apt-get install $packages\`, then this command again"
        as=(sudo -n)
    fi
    echo "Installing ${missing[*]} with apt-get." >&2
    local log; log=$(mktemp)
    # Without a network this ends soon. No service is started on the way: only what this script starts may run.
    local patience=(-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
    {
        "${as[@]}" apt-get "${patience[@]}" update || true
        "${as[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get "${patience[@]}" install -y --no-install-recommends $packages
    } >"$log" 2>&1 || { tail -n 5 "$log" >&2; rm -f "$log"; fail "$packages could not be installed"; }
    rm -f "$log"
}

free_port() {  # one that nothing listens on now
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure() {
    local host user; host=$(hostname -s); user=$(id -un)
    mkdir -p "$here"/{state,unseen,log,munge}
    chmod 755 "$here" "$here/munge"
    cat >"$SLURM_CONF" <<CONF
ClusterName=flowrl_here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool.%n
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.%n.pid
SlurmctldLogFile=$here/log/slurmctld.log
SlurmdLogFile=$here/log/slurmd.%n.log
KillWait=5
MinJobAge=300
MessageTimeout=5
SlurmctldTimeout=30
SlurmdTimeout=${FLOWRL_SLURM_NODE_TIMEOUT_S:-30}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
DefMemPerCPU=100
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=$cpus RealMemory=$memory_mb State=UNKNOWN
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=$cpus RealMemory=$memory_mb State=UNKNOWN
PartitionName=debug Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
PartitionName=short Nodes=node[1-2] MaxTime=10 State=UP OverSubscribe=NO PriorityTier=1
PartitionName=brief Nodes=node[1-2] DefaultTime=2 MaxTime=30 State=UP OverSubscribe=NO PriorityTier=1
PartitionName=urgent Nodes=node[1-2] MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=2 PreemptMode=OFF
PartitionName=closed Nodes=node[1-2] MaxTime=INFINITE State=DOWN OverSubscribe=NO
CONF
    echo 'CgroupPlugin=cgroup/v1' >"$here/cgroup.conf"  # without it slurmd 22.05 does not start where there is no systemd
}

as_munge() {  # munged refuses to be root; any other user is good
    if [ "$(id -u)" = 0 ]; then runuser -u munge -- "$@"; else "$@"; fi
}

start_munge() {
    dd if=/dev/urandom of="$here/munge/key" bs=64 count=1 status=none
    chmod 400 "$here/munge/key"
    [ "$(id -u)" != 0 ] || chown -R munge "$here/munge"
    as_munge "$(command -v munged)" --force --num-threads=1 --key-file="$here/munge/key" --socket="$here/munge/socket" \
        --pid-file="$here/munge/pid" --log-file="$here/munge/log" --seed-file="$here/munge/seed" 2>>"$here/log/munge.err" \
        || fail "munged did not start; see $here/log/munge.err and $here/munge/log"
}

start_controller() { slurmctld 2>>"$here/log/slurmctld.err" || fail "slurmctld did not start; see $here/log"; }

start_node() {
    local node=$1 enter=()
    if [ "$(id -u)" = 0 ] && unshare --uts --mount true 2>/dev/null; then
        { cat /etc/hosts; echo "127.0.0.1 $node"; } >"$here/hosts.$node"  # a daemon looks up its own host's name
        enter=(unshare --uts --mount sh -c 'hostname "$1" && mount --bind "$2/hosts.$1" /etc/hosts &&
            mount -t tmpfs none "$2/unseen" && shift 2 && exec "$@"' sh "$node" "$here")
    fi
    "${enter[@]}" "$(command -v slurmd)" -N "$node" 2>>"$here/log/slurmd.err" \
        || fail "slurmd of $node did not start; see $here/log"
}

answers() { [ "$(sinfo -h -N -p debug -t idle,mixed,alloc -o %N 2>/dev/null | wc -l)" = 2 ]; }

up() {
    if [ -e "$SLURM_CONF" ] && answers; then echo "export SLURM_CONF=$SLURM_CONF"; return; fi
    down
    install_missing
    configure
    trap 'down' ERR
    start_munge
    start_controller
    for node in $nodes; do start_node "$node"; done
    for _ in $(seq 100); do
        if answers; then trap - ERR; echo "export SLURM_CONF=$SLURM_CONF"; return; fi
        sleep 0.1
    done
    sinfo >&2 || true
    down
    fail "the nodes did not come up within 10 s"
}

pids() {  # of what `up` has started, from the pid files: the name is checked, since pids are used again
    local file pid
    for file in "$here"/slurmctld.pid "$here"/slurmd.*.pid "$here"/munge/pid; do
        [ -s "$file" ] || continue
        pid=$(<"$file")
        case "$(cat "/proc/$pid/comm" 2>/dev/null)" in slurmctld | slurmd | munged) echo "$pid" ;; esac
    done
    # A step that outlived its daemon has this folder's configuration in its environment.
    for pid in $(pgrep -x slurmstepd || true); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; then echo "$pid"; fi
    done
}

down() {
    [ -e "$SLURM_CONF" ] || return 0
    # Daemons that are stopped while a job runs leave its slurmstepd behind, so jobs go first.
    if timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
        timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
        for _ in $(seq 150); do
            [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
            sleep 0.1
        done
    fi
    local left; left=$(pids)
    [ -z "$left" ] || kill $left 2>/dev/null || true
    for _ in $(seq 100); do
        left=$(pids)
        [ -n "$left" ] || break
        sleep 0.1
    done
    [ -z "$left" ] || kill -9 $left 2>/dev/null || true
    rm -rf "$here"
}

status() {
    [ -e "$SLURM_CONF" ] || { echo "not up; start it with: scripts/slurm_here.sh up"; return 1; }
    answers || { echo "does not answer; see $here/log"; return 1; }
    sinfo -N -p debug -o '%N %T %C'
    squeue -o '%i %j %T %r %N'
    echo "export SLURM_CONF=$SLURM_CONF"
}

# Parts of it, for tests of what happens when one dies.
case "${1:-}" in
    up) up ;;
    down) down ;;
    status) status ;;
    start-controller) start_controller ;;
    start-node) start_node "${2:?expected a node}" ;;
    *) echo "expected: scripts/slurm_here.sh up|down|status (or start-controller, start-node NODE after one was killed)" >&2; exit 2 ;;
esac
