#!/usr/bin/env bash
# A cluster of one machine, for trying and testing the job runners: Slurm or GridEngine on the loopback interface.
set -euo pipefail

usage() {
  cat << END
Usage: tools/cluster.sh slurm|sge install|start|status|stop [FOLDER]

  install  the packages (Debian, Ubuntu; as root)
  start    daemons whose files are all in FOLDER (default: ${TMPDIR:-/tmp}/senet-cluster-<slurm|sge>); as root
           Prints the variables that make a shell use this cluster:
             eval "\$(tools/cluster.sh slurm start)" && SENET_CMD_BACKEND=slurm ./run.sh
  status   exit status 0 when jobs can be submitted; prints the variables
  stop     end the jobs and the daemons and remove FOLDER

Slurm: partitions cpu and gpu with this machine once, pair with it twice, as two nodes; a GPU in each that is none
(/dev/null). GridEngine: queue all.q, parallel environment smp.
END
}
die() { echo "cluster.sh: $*" >&2; exit 1; }
case ${1:-} in -h | --help) usage; exit ;; esac
[[ $# -ge 2 && $# -le 3 && $1 =~ ^(slurm|sge)$ && $2 =~ ^(install|start|status|stop)$ ]] || { usage >&2; exit 2; }
kind=$1
folder=$(realpath -m "${3:-${TMPDIR:-/tmp}/senet-cluster-$kind}")
cpus=$(getconf _NPROCESSORS_ONLN)
export PATH=$PATH:/usr/sbin:/sbin

free_ports() { # free_ports N: numbers, most likely still free in a second
  python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}
within() { # within SECONDS COMMAND...: repeats it until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
gone() { ! kill -0 "$1" 2> /dev/null; }
end_daemons() { # end_daemons PIDFILE...
  local file pid
  for file in "$@"; do
    pid=$(cat "$file" 2> /dev/null) || continue
    kill "$pid" 2> /dev/null || continue
    within 3 gone "$pid" || kill -KILL "$pid" 2> /dev/null || true
  done
}

# shellcheck disable=SC2034 # the case at the end takes these by name
slurm_packages="slurmctld slurmd slurm-client munge"
# shellcheck disable=SC2034
slurm_commands="slurmctld slurmd sbatch munged"
not_started() {
  tail -n 5 "$folder"/*.log "$folder"/log/*.log >&2 2> /dev/null || true
  "${kind}_stop"
  rm -rf "$folder"
}

slurm_variables() { echo "export SLURM_CONF=$folder/slurm.conf"; }
slurm_ready() { timeout 10 sinfo -h -N -p pair -o %T | awk '/^(idle|mixed|allocated)$/ { n++ } END { exit n != 2 }'; }
slurm_start() {
  local ports
  mkdir -p "$folder"/{state,spool.node1,spool.node2,log}
  read -r -a ports <<< "$(free_ports 3)"
  head -c 128 /dev/urandom > "$folder/munge.key"
  chmod 600 "$folder/munge.key"
  cat > "$folder/slurm.conf" << END
ClusterName=senet
SlurmctldHost=localhost
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmUser=root
SlurmdUser=root
SlurmctldPort=${ports[0]}
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs=$cpus RealMemory=4000 Gres=gpu:1 State=UNKNOWN
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[1]}
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[2]}
PartitionName=cpu Nodes=node1 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=node1 MaxTime=INFINITE State=UP
PartitionName=pair Nodes=node1,node2 MaxTime=INFINITE State=UP
END
  echo "NodeName=node[1-2] Name=gpu File=/dev/null" > "$folder/gres.conf"
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munged.seed"
  slurmctld -c -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF" -N node1
  slurmd -f "$SLURM_CONF" -N node2
}
slurm_stop() {
  timeout 10 scancel -u root > /dev/null 2>&1 || true
  end_daemons "$folder"/{slurmd.node1,slurmd.node2,slurmctld,munged}.pid
}

# shellcheck disable=SC2034
sge_packages="gridengine-master gridengine-exec gridengine-client"
# shellcheck disable=SC2034
sge_commands="sge_qmaster sge_execd qsub qconf"
sge_variables() {
  local ports
  read -r -a ports 2> /dev/null < "$folder/ports" || ports=(0 0)
  echo "export SGE_ROOT=$folder SGE_CELL=default SGE_QMASTER_PORT=${ports[0]} SGE_EXECD_PORT=${ports[1]}"
}
sge_ready() { timeout 10 qstat -f -q all.q | awk '$1 ~ /^all\.q@/ && NF == 5 { found = 1 } END { exit !found }'; }
sge_start() {
  local share=/usr/share/gridengine common=$folder/default/common pe
  mkdir -p "$common" "$folder/spool/execd"
  chmod 755 "$folder"
  free_ports 2 > "$folder/ports"
  eval "$(sge_variables)"
  ln -s /var/lib/gridengine/{bin,lib,util,utilbin} "$folder"
  sed "s|/var/spool/gridengine/spooldb|$folder/spool/db|; s|/var/spool/gridengine/qmaster|$folder/spool/qmaster|" \
    "$share/default-bootstrap" > "$common/bootstrap"
  mkdir -p "$folder/spool"/{db,qmaster}
  echo localhost > "$common/act_qmaster"
  echo "localhost $(hostname)" > "$common/host_aliases" # one name for this machine, whatever its interfaces are called
  chown -R sgeadmin: "$folder"
  as_sgeadmin "$share/scripts/init_cluster" "$folder" default "$folder/spool/db" sgeadmin > "$folder/init.log"
  sge_qmaster
  within 20 qconf -sh || die "qmaster does not answer; see $folder/spool/qmaster/messages"
  as_sgeadmin qconf -am root || true # qmaster makes it one itself, sooner or later; so with the next
  as_sgeadmin qconf -ah localhost || true
  as_sgeadmin qconf -as localhost
  {
    printf '%s NONE\n' load_scaling complex_values user_lists xuser_lists projects xprojects usage_scaling report_variables
    echo "hostname localhost"
  } > "$folder/host"
  qconf -Ae "$folder/host"
  printf '%s\n' "group_name @allhosts" "hostlist localhost" > "$folder/group"
  qconf -Ahgrp "$folder/group"
  qconf -sconf global | sed "/^#/d; s/^min_\(uid\|gid\) .*/min_\1 0/; s|^execd_spool_dir .*|execd_spool_dir $folder/spool/execd|
    s/^load_report_time .*/load_report_time 00:00:03/" > "$folder/global"
  qconf -Mconf "$folder/global"
  pe="pe_name smp;slots 999;user_lists NONE;xuser_lists NONE;start_proc_args NONE;stop_proc_args NONE"
  pe+=";allocation_rule \$pe_slots;control_slaves FALSE;job_is_first_task TRUE;urgency_slots min;accounting_summary FALSE;qsort_args NONE"
  tr ';' '\n' <<< "$pe" > "$folder/pe"
  qconf -Ap "$folder/pe"
  qconf -sq | sed "s/^qname .*/qname all.q/; s/^hostlist .*/hostlist @allhosts/; s/^slots .*/slots $cpus/; s/^pe_list .*/pe_list smp/
    s|^shell .*|shell /bin/bash|; s/^load_thresholds .*/load_thresholds NONE/; s/^rerun .*/rerun TRUE/" > "$folder/queue"
  qconf -Aq "$folder/queue"
  qconf -ssconf | sed 's/^schedule_interval .*/schedule_interval 0:0:1/; s/^\(flush_submit_sec\|flush_finish_sec\) .*/\1 1/
    s/^schedd_job_info .*/schedd_job_info true/' > "$folder/scheduler"
  qconf -Msconf "$folder/scheduler"
  sge_execd
}
as_sgeadmin() { runuser -u sgeadmin -- "$@"; }
sge_stop() {
  timeout 20 qdel -f -u '*' > /dev/null 2>&1 || true
  timeout 20 qconf -ke localhost > /dev/null 2>&1 || true
  end_daemons "$folder"/spool/execd/*/execd.pid "$folder/spool/qmaster/qmaster.pid"
}

if [ "$2" != install ]; then eval "$("${kind}_variables")"; fi
packages=${kind}_packages commands=${kind}_commands
case $2 in
  install)
    missing=
    for command in ${!commands}; do command -v "$command" > /dev/null || missing=$command; done
    [ -n "$missing" ] || exit 0
    [ "$(id -u)" -eq 0 ] || die "$missing is missing, and installing packages needs root"
    command -v apt-get > /dev/null || die "there is no apt-get here; install ${!packages} by your system's means"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { timeout 120 apt-get update -q && timeout 600 apt-get install -y -q --no-install-recommends ${!packages}; } >&2 \
      || die "apt-get cannot install ${!packages}; its words are above"
    ;;
  start)
    [ "$(id -u)" -eq 0 ] || die "the daemons need root"
    for command in ${!commands}; do
      command -v "$command" > /dev/null || die "$command is missing; tools/cluster.sh $kind install"
    done
    if [ -d "$folder" ]; then
      "${kind}_ready" && "${kind}_variables" && exit
      die "$folder: there is something already; tools/cluster.sh $kind stop $folder removes it"
    fi
    mkdir -p "$folder"
    trap '[ "$?" -eq 0 ] || not_started' EXIT
    "${kind}_start" > "$folder/start.log" 2>&1
    eval "$("${kind}_variables")"
    within 40 "${kind}_ready" || die "the daemons run, but take no jobs"
    "${kind}_variables"
    ;;
  status)
    "${kind}_ready" 2> /dev/null || die "no $kind in $folder takes jobs"
    "${kind}_variables"
    ;;
  stop)
    # a folder that this script made: nothing else is removed
    if [ -d "$folder" ]; then
      [ -f "$folder/start.log" ] || die "$folder: not made by tools/cluster.sh"
      "${kind}_stop"
      rm -rf "$folder"
    fi
    ;;
esac
