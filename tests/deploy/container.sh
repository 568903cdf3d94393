#!/bin/sh
# What a container engine does with our image, by the kernel's own means: the last stage of the Dockerfile on top of this
# machine's /usr, in namespaces of its own, read-only, as an ordinary user without capabilities.
#
#   unshare --mount --net --pid --fork --kill-child container.sh ROOT VOLUME VENV SOURCE PYTHON HEALTHY SETUP USER -- COMMAND…
#
# ROOT: an empty folder; VOLUME: becomes /root/.ollama; VENV, SOURCE, PYTHON: our environment, our code and the Python
# below them, where they are; HEALTHY: becomes /opt/llamero/healthy.py; SETUP: the RUN instruction; USER: number of the
# user and group. COMMAND is found by the image's PATH. The environment is that of the image already.
set -eu
root=$1 volume=$2 venv=$3 source=$4 python=$5 healthy=$6 setup=$7 user=$8
shift 9

mount --make-rprivate /
ip link set lo up
ip address add 172.17.0.2/16 dev lo # what -p would lead to

mount -t tmpfs -o mode=0755 image "$root"
mkdir -p "$root/usr" "$root/bin" "$root/dev" "$root/proc" "$root/opt/llamero/bin" "$root/root"
mkdir -m 1777 "$root/tmp"
mount --rbind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
cp -a /etc "$root/etc"
for lib in /lib*; do
    if [ -L "$lib" ]; then cp -P "$lib" "$root$lib"; else mkdir "$root$lib" && mount --rbind "$lib" "$root$lib"; fi
done
ln -s /usr/bin/sh "$root/bin/sh"

# COPY --from=build /opt/llamero /opt/llamero
ln -s "$venv/lib" "$venv/pyvenv.cfg" "$root/opt/llamero/"
for program in python ollama llamero; do ln -s "$venv/bin/$program" "$root/opt/llamero/bin/$program"; done
cp "$healthy" "$root/opt/llamero/healthy.py"

chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/bin sh -euc "$setup"

mount -t tmpfs -o nosuid,nodev,noexec tmp "$root/tmp" # --tmpfs /tmp
for folder in "$venv" "$source" "$python"; do
    [ -d "$root$folder" ] && continue # below /usr
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
done
owner=$(stat -c %u:%g "$root/root/.ollama")
chown "$owner" "$volume" # a new volume takes after what the image has there
mount --bind "$volume" "$root/root/.ollama"
mount -o remount,ro "$root" # --read-only

exec chroot "$root" /usr/bin/prlimit --nproc=512 /usr/bin/setpriv --reuid "$user" --regid "$user" --clear-groups \
    --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
