#!/usr/bin/env bash
# Install lohi-edge from a wheelhouse, without a network. Safe to repeat, and to interrupt at any step.
set -euo pipefail
export LC_ALL=C
unset PYTHONPATH PYTHONHOME # of whoever calls: neither may reach what is installed
umask 022

usage() {
    cat <<'END'
Usage: install.sh [install|rollback|list|uninstall] [options]

  install      check everything, build this version beside the others, switch to it (the default)
  rollback     switch back to the version that ran before; again switches forward
  list         name the versions that are installed
  uninstall    remove software and units; settings, scans and results stay

  --wheelhouse DIR  made by `make wheelhouse`  [default: the folder of this script]
  --python EXE      interpreter of the wheelhouse's version  [default: python3]
  --prefix DIR      where versions live  [default: where this script was kept, else /opt/lohi-edge]
  --root DIR        put everything below DIR and start nothing, for images and tests
  --no-start        enable and start no service
  --dry-run         check and say what would be done; change nothing
  --purge           with uninstall: remove settings, scans and results as well

Exit codes: 0 done, 1 an unforeseen failure, 2 usage, 3 a check failed and nothing was changed.
END
}

say() { printf '%s\n' "$*"; }
refuse() {
    printf 'error: %s\n' "$1" >&2
    exit "${2:-3}"
}

action=install wheelhouse='' python=python3 prefix='' root='' start=yes dry='' purge=''
case ${1:-} in
install | rollback | list | uninstall) action=$1 && shift ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    --wheelhouse | --python | --prefix | --root)
        [ $# -ge 2 ] || refuse "$1: expected a value" 2
        declare "${1#--}=$2"
        shift
        ;;
    --no-start) start='' ;;
    --dry-run) dry=yes ;;
    --purge) purge=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && refuse "unknown argument: $1" 2 ;;
    esac
    shift
done
if [ -n "$root" ]; then
    [ -d "$root" ] || refuse "--root: $root is no folder" 2
    root=$(realpath "$root")
    start=''
elif [ "$(id -u)" != 0 ] && [ "$action" != list ]; then
    refuse "expected to run as root; run it with sudo" 2
fi
here=$(dirname "$(realpath "$0")")
if [ -z "$prefix" ]; then
    # The copy that an installation keeps beside its versions works on these.
    prefix=/opt/lohi-edge
    if [ -d "$here/versions" ]; then
        prefix=${here#"$root"}
        prefix=/${prefix#/}
    fi
fi
[[ $prefix =~ ^/[A-Za-z0-9._/-]+$ ]] || refuse "--prefix: expected a plain absolute path, got $prefix" 2
home=$root$prefix
units=$root/etc/systemd/system
config=$root/etc/lohi-edge/config.toml
command=$root/usr/local/bin/lohi-edge
services=(lohi-edge-watch.service lohi-edge-receive.service lohi-edge-selfcheck.service
    lohi-edge-selfcheck.timer)
readonly here home units config command services

fact() { sed -n "s/^$1=//p" "$wheelhouse/TARGET"; }

check_wheelhouse() {
    wheelhouse=$(realpath -m "${wheelhouse:-$here}")
    [ -f "$wheelhouse/SHA256SUMS" ] || refuse \
        "$wheelhouse: expected a wheelhouse with SHA256SUMS; make one with \`make wheelhouse\`"
    (cd "$wheelhouse" && sha256sum --check --strict --quiet SHA256SUMS >&2) || refuse \
        "$wheelhouse: files are missing or damaged, see above; copy the wheelhouse again"
    local extra
    extra=$(cd "$wheelhouse" && comm -13 <(cut -c67- SHA256SUMS | sort) \
        <(find . ! -type d ! -path ./SHA256SUMS -printf '%P\n' | sort))
    [ -z "$extra" ] || refuse "$wheelhouse: holds files that SHA256SUMS does not name: $extra"
    local own=("$wheelhouse"/wheels/lohi_edge-*.whl) pip=("$wheelhouse"/wheels/pip-*.whl)
    [[ ${#own[@]} = 1 && -f ${own[0]} ]] || refuse "$wheelhouse: expected one lohi_edge wheel"
    [[ ${#pip[@]} = 1 && -f ${pip[0]} ]] || refuse "$wheelhouse: expected one pip wheel"
    pip_wheel=${pip[0]}
    own=("${own[0]##*/lohi_edge-}")
    # One release may be gathered twice, with other dependencies; both then stand side by side.
    version=${own[0]%%-*}-$(sha256sum "$wheelhouse/SHA256SUMS" | cut -c1-8)
}

check_machine() {
    [ "$(uname -m)" = "$(fact machine)" ] || refuse \
        "expected a $(fact machine) machine, this one is $(uname -m); use the wheelhouse for it"
    local glibc
    glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
    [ "$(printf '%s\n' "$(fact glibc)" "$glibc" | sort -V | head -n1)" = "$(fact glibc)" ] || refuse \
        "expected glibc $(fact glibc) or newer, this machine has $glibc; use an older wheelhouse"
    local found
    found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || refuse \
        "expected Python $(fact python), $python does not run; name one with --python"
    [ "$found" = "$(fact python)" ] || refuse \
        "expected Python $(fact python), $python is $found; name another with --python"
    "$python" -c 'import venv' 2>/dev/null || refuse "$python has no module venv; install python3-venv"
}

check_jetpack() {
    local expected release
    case $(fact target) in jetpack6) expected=36 ;; jetpack7) expected=38 ;; *) return 0 ;; esac
    # In a container the file is not there; its image then decides.
    [ -f "$root/etc/nv_tegra_release" ] || return 0
    release=$(sed -n 's/^# R\([0-9]*\) .*/\1/p' "$root/etc/nv_tegra_release")
    [ "${release:-0}" -ge "$expected" ] || refuse \
        "expected Jetson Linux $expected or newer ($(fact target)), this is ${release:-unknown}; \
update JetPack, or use the wheelhouse for this one"
}

check_disk() {
    local parent=$home needed free
    while [ ! -d "$parent" ]; do parent=$(dirname "$parent"); done
    # Installed and compiled, wheels take up to five times their size.
    needed=$((5 * $(du -sk "$wheelhouse/wheels" | cut -f1) + 100 * 1024))
    free=$(df -Pk "$parent" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$needed" ] || refuse \
        "$parent: expected $((needed / 1024)) MB free, got $((free / 1024)) MB; make room"
}

# A version counts only once this file, written last, is there.
is_complete() { [ -f "$home/versions/$1/.complete" ]; }

target_of() { if [ -L "$home/$1" ]; then basename "$(readlink "$home/$1")"; fi; }

point() { # NAME VERSION: atomically, by renaming over the old link
    ln -sfn "versions/$2" "$home/.$1.new"
    mv -T "$home/.$1.new" "$home/$1"
}

copy() { # SOURCE TARGET MODE: whole or not at all
    mkdir -p "$(dirname "$2")"
    install -m "$3" "$1" "$2.new"
    mv -T "$2.new" "$2"
}

# The wheels of others that a SHA256SUMS names, with their digests.
others() { grep ' wheels/' "$1" | grep -v -e '/lohi_edge-' -e '/pip-'; }

# Most updates bring another lohi_edge alone. Unpacking and compiling the other wheels is nearly all
# of an installation, so where they are the same their files come from the version that runs, each
# compared with the digest that its wheel gave it.
reuse() { # FOLDER
    local from packages
    from=$home/versions/$(target_of current)
    packages=lib/python$(fact python)/site-packages
    [ -f "$from/deploy/SHA256SUMS" ] && [ -d "$from/$packages" ] || return 1
    [ "$(others "$from/deploy/SHA256SUMS")" = "$(others "$wheelhouse/SHA256SUMS")" ] || return 1
    "$python" -I - "$from/$packages" "$1/$packages" <<'END' && return
import base64, csv, hashlib, pathlib, shutil, sys

old, new = map(pathlib.Path, sys.argv[1:])
try:
    for record in old.glob("*.dist-info/RECORD"):
        if record.parent.name.startswith("lohi_edge-"):
            continue
        for name, digest, _ in csv.reader(record.read_text().splitlines()):
            if name.startswith(("../", "/")):  # commands name their version's Python
                continue
            data = (old / name).read_bytes()
            kind, _, wanted = digest.partition("=")
            found = hashlib.new(kind, data).digest() if digest else b""  # bytecode has none
            if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != wanted:
                raise ValueError(f"{old / name} is damaged")
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
            shutil.copystat(old / name, new / name)  # bytecode holds for a time of its source
except (OSError, ValueError) as error:
    sys.exit(f"warning: {error}; unpacking every wheel instead")
END
    rm -rf "${1:?}/$packages"/*
    return 1
}

build() {
    local folder=$home/versions/$version
    is_complete "$version" && return
    rm -rf "$folder"
    mkdir -p "$home/versions"
    unfinished=$folder
    trap 'rm -rf "$unfinished"' EXIT
    "$python" -m venv --without-pip "$folder"
    local wheels=() wheel said
    if reuse "$folder"; then
        wheels=("$wheelhouse"/wheels/lohi_edge-*.whl)
    else
        for wheel in "$wheelhouse"/wheels/*.whl; do
            [ "$wheel" = "$pip_wheel" ] || wheels+=("$wheel")
        done
    fi
    # The lock holds everything, so pip has nothing to choose.
    "$folder/bin/python" -I "$pip_wheel/pip" --isolated install --quiet --no-index --no-deps \
        --no-cache-dir --disable-pip-version-check --root-user-action=ignore "${wheels[@]}"
    said=$("$folder/bin/python" -I "$pip_wheel/pip" --isolated check --disable-pip-version-check 2>&1) ||
        refuse "$wheelhouse: its wheels do not fit each other:
$said
gather it again, with what is missing in EXTRA_WHEELS"
    see_tensorrt "$folder"
    "$folder/bin/lohi-edge" --help >/dev/null || refuse \
        "$wheelhouse: version $version does not start here; nothing was switched"
    # Units, settings and this script belong to the version: a rollback brings them back as well.
    mkdir "$folder/deploy"
    cp -R "$wheelhouse/systemd" "$wheelhouse/lohi-edge.toml" "$wheelhouse/install.sh" \
        "$wheelhouse/SHA256SUMS" "$folder/deploy/"
    sync -f "$folder"
    touch "$folder/.complete"
    trap - EXIT
}

# JetPack's TensorRT is a Debian package for the system's Python; pip never resolves it there.
# Its folder comes last on the path, so that nothing else of the system is preferred to a wheel.
see_tensorrt() {
    case $(fact target) in jetpack*) ;; *) return 0 ;; esac
    local packages
    packages=/usr/lib/python$(fact python)/dist-packages
    if [ -d "$packages/tensorrt" ]; then
        printf '%s\n' "$packages" >"$1/lib/python$(fact python)/site-packages/jetpack.pth"
    else
        say "warning: no TensorRT in $packages; lohi-edge will run on the CPU"
    fi
}

# Whether this version takes a settings file; says why not.
takes() { # FILE [--folders]
    "$home/versions/$version/bin/lohi-edge" settings --config "$@" >/dev/null
}

check_config() {
    local folders=()
    [ -n "$root" ] || folders=(--folders)
    [ ! -f "$config" ] || takes "$config" "${folders[@]}" || refuse \
        "version $version refuses $config, see above; correct it; nothing was switched"
}

# The daemon's user and folders; settings are then checked on what will be there.
make_accounts() { # DEPLOY
    [ -z "$root" ] || return 0
    systemd-sysusers "$1/systemd/lohi-edge.sysusers"
    systemd-tmpfiles --create "$1/systemd/lohi-edge.tmpfiles"
}

copy_system_files() {
    local from=$home/versions/$version/deploy name unit
    for name in "${services[@]}"; do
        [ -f "$from/systemd/$name" ] || continue # an older version may have fewer
        unit=$(mktemp)
        sed "s|/opt/lohi-edge/|$prefix/|" "$from/systemd/$name" >"$unit"
        copy "$unit" "$units/$name" 644
        rm "$unit"
    done
    copy "$from/systemd/lohi-edge.sysusers" "$root/etc/sysusers.d/lohi-edge.conf" 644
    copy "$from/systemd/lohi-edge.tmpfiles" "$root/etc/tmpfiles.d/lohi-edge.conf" 644
    copy "$from/systemd/lohi-edge.journald" "$root/etc/systemd/journald.conf.d/lohi-edge.conf" 644
    [ -f "$config" ] || copy "$from/lohi-edge.toml" "$config" 644
    copy "$from/lohi-edge.toml" "$config.example" 644
    mkdir -p "$(dirname "$command")"
    ln -sfn "$prefix/current/bin/lohi-edge" "$command"
    # Kept, so that rollback and uninstall need no wheelhouse.
    copy "$from/install.sh" "$home/install.sh" 755
}

# What a version ran with is kept beside it: going back, it may not know a newer key.
keep_config() { # VERSION
    [ ! -f "$config" ] || copy "$config" "$home/versions/$1/config.toml" 644
}

# Going back must be possible while a mount is away: whether folders are there is not asked.
restore_config() {
    local kept=$home/versions/$version/config.toml
    if [ ! -f "$config" ] || takes "$config"; then return; fi
    if [ ! -f "$kept" ] || ! takes "$kept"; then
        refuse "version $version refuses $config, see above; correct it; nothing was switched"
    fi
    copy "$config" "$config.$(target_of current)" 644
    copy "$kept" "$config" 644
    say "settings are again those that $version ran with; the newer: $config.$(target_of current)"
}

switch_to() {
    local now
    now=$(target_of current)
    [ "$now" = "$1" ] && return
    [ -z "$now" ] || keep_config "$now"
    [ -z "$now" ] || point previous "$now"
    point current "$1"
}

prune() {
    local folder name
    for folder in "$home"/versions/*/; do
        name=$(basename "$folder")
        case $name in "$(target_of current)" | "$(target_of previous)") ;; *) rm -rf "$folder" ;; esac
    done
}

restart() {
    [ -n "$start" ] || return 0
    systemctl daemon-reload
    systemctl enable --quiet --now lohi-edge-selfcheck.timer
    systemctl enable --quiet lohi-edge-watch.service
    systemctl restart lohi-edge-watch.service
    systemctl try-restart lohi-edge-receive.service
}

take_lock() {
    mkdir -p "$home"
    exec 9>"$home/.lock"
    flock --nonblock 9 || refuse "another install.sh is at work in $home; wait for it"
}

do_install() {
    check_wheelhouse
    check_machine
    check_jetpack
    check_disk
    if [ -n "$dry" ]; then
        say "checks passed; would install $version in $home/versions, now: $(target_of current)"
        say "would write ${services[*]}, sysusers.d, tmpfiles.d and ${config#"$root"}, then switch"
        return
    fi
    take_lock
    build
    make_accounts "$home/versions/$version/deploy"
    check_config
    copy_system_files
    switch_to "$version"
    prune
    restart
    say "lohi-edge $version is installed; rollback: $prefix/install.sh rollback"
}

do_rollback() {
    version=$(target_of previous)
    if [ -z "$version" ] || ! is_complete "$version"; then
        refuse "$home: no earlier version to go back to"
    fi
    if [ -n "$dry" ]; then
        say "would switch from $(target_of current) to $version"
        return
    fi
    take_lock
    restore_config
    copy_system_files
    switch_to "$version"
    say "lohi-edge $version is current again"
    restart # which fails, and says so, while a folder is away
}

do_list() {
    local folder name mark
    for folder in "$home"/versions/*/; do
        name=$(basename "$folder")
        is_complete "$name" || continue
        case $name in
        "$(target_of current)") mark=current ;;
        "$(target_of previous)") mark=previous ;;
        *) mark=- ;;
        esac
        say "$name $mark"
    done
}

do_uninstall() {
    [ ! -d "$home" ] || [ -d "$home/versions" ] || refuse "$home: not made by this script; left alone"
    local gone=("$home" "$root/etc/sysusers.d/lohi-edge.conf" "$root/etc/tmpfiles.d/lohi-edge.conf"
        "$root/etc/systemd/journald.conf.d/lohi-edge.conf")
    local name
    for name in "${services[@]}"; do gone+=("$units/$name"); done
    [ -z "$purge" ] || gone+=("$root/etc/lohi-edge" "$root/var/lib/lohi-edge")
    if [ -n "$dry" ]; then
        say "would remove: ${gone[*]} $command"
        return
    fi
    if [ -z "$root" ]; then
        systemctl disable --quiet --now lohi-edge-watch.service lohi-edge-receive.service \
            lohi-edge-selfcheck.timer || true
    fi
    [ ! -L "$command" ] || rm "$command"
    rm -rf "${gone[@]}"
    [ -n "$root" ] || systemctl daemon-reload
    say "lohi-edge is removed${purge:+, with settings, scans and results}"
}

"do_$action"
