# The first process of the node's machine: sets it up from inside, says "ready", then buries the processes whose
# parents ended. With it everything in the machine ends.
#
# Usage: machine.sh FOLDER   (an empty folder for what the machine keeps)
set -eu
folder=$1

# In memory: nothing to delete afterwards, and no disk to wait for.
mount -t tmpfs -o mode=755 krypton "$folder"

# Some paths of containerd, kubelet and the CNI plugins are fixed. What they write there goes to copies that only the
# machine sees; what others keep in these two can be read as before.
for path in var/lib var/log; do
  mkdir -p "$folder/$path/upper" "$folder/$path/work"
  mount -t overlay -o "lowerdir=/$path,upperdir=$folder/$path/upper,workdir=$folder/$path/work" overlay "/$path"
done
# Nor does it see the sockets of others here: kubelet would have the service manager of this machine make its mounts.
mount -t tmpfs -o mode=755 krypton /run

# kubelet wants these values and would set them for everybody: here it finds them.
wanted() {
  echo "$2" >"$folder/sysctl-${1##*/}"
  mount --bind "$folder/sysctl-${1##*/}" "/proc/sys/$1"
}
wanted vm/overcommit_memory 1
wanted vm/panic_on_oom 0
wanted kernel/panic 10
wanted kernel/panic_on_oops 1
wanted kernel/keys/root_maxkeys 1000000
wanted kernel/keys/root_maxbytes 25000000

ip link set lo up
echo ready
sleep infinity &
wait
