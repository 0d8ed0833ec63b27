# What every script of ours on a remote host begins with. Sent as one word in single quotes to whatever
# login shell is there: no single quote and no doubled backslash may stand in any of these files.
umask_was=$(umask)
umask 077
unset QWEX_RUN_ID QWEX_ATTEMPT CDPATH
set -f
boot=
{ IFS= read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null
# Which of the machines that share these files this is; a name that is none stands for all of its kind.
node=
{ IFS= read -r node < /proc/sys/kernel/hostname; } 2>/dev/null
case $node in *[!A-Za-z0-9._-]*) node=unnamed ;; esac
space=

say() { printf "%s\n" "$*"; }
fail() { say "err $*"; }

# Undoes the encoding of a word: bytes come as octal escapes.
plain() { decoded=$(printf "%b." "$1"); decoded=${decoded%.}; }

# First line of a small file, without a process.
line_of() { line=; { IFS= read -r line < "$1"; } 2>/dev/null; [ -n "$line" ]; }

# The identity of a process in a record: <boot id>/<pid>/<start ticks>.
process_of() { process=${1#*\"process\":\"}; process=${process%%\"*}; }

# What became of the process with this identity.
life_of() {
  life=dead
  case $1 in
    "$boot"/*) ;;
    *) life=reboot; return ;;
  esac
  pid=${1#*/}; ticks=${pid#*/}; pid=${pid%%/*}
  status=
  { IFS= read -r status < "/proc/$pid/stat"; } 2>/dev/null || return 0
  set -- ${status##*) }
  case $1 in Z|X|x) return ;; esac
  if [ "${20}" = "$ticks" ]; then life=alive; fi
}

# The namespace of our process numbers, asked for once.
see_space() { [ -n "$space" ] || space=$(readlink /proc/self/ns/pid 2>/dev/null); }

# The same for one of a machine and a namespace, either empty where it is not known. Of another machine that shares our
# files we see no process, and a boot id that is not ours is no reboot.
life_at() {
  there=$2
  case $1 in
    "$boot"/*)
      see_space
      if [ -n "$3" ] && [ -n "$space" ] && [ "$3" != "$space" ]; then
        # The first namespace of a machine lasts as long as the machine; any other goes with its container.
        if [ "$2" != "$node" ] || [ "$3" = "pid:[4026531836]" ]; then life=elsewhere; return; fi
      fi
      ;;
    *) if [ -n "$2" ] && [ "$2" != "$node" ]; then life=elsewhere; return; fi ;;
  esac
  life_of "$1"
}

# The same for the supervisor of a record; a record without a machine is of this one.
life_in() {
  process_of "$1"
  machine=; within=
  case $1 in *\"machine\":\"*) machine=${1#*\"machine\":\"}; machine=${machine%%\"*} ;; esac
  case $1 in *\"pid_namespace\":\"*) within=${1#*\"pid_namespace\":\"}; within=${within%%\"*} ;; esac
  life_at "$process" "$machine" "$within"
}

# That we cannot see it from here.
blind() { say "elsewhere $there $node"; }

# Processes that carry the mark of an object, wherever they are; not those that supervise others.
marked() {
  run=${1#qwex-}; attempt=${run##*-a}; run=${run%-a*}
  found=
  set +f
  carriers=$(grep -l -F "QWEX_RUN_ID=$run" /proc/[0-9]*/environ 2>/dev/null)
  set -f
  for carrier in $carriers; do
    names=$(tr "\0" "\n" < "$carrier" 2>/dev/null | grep -e "^QWEX_ATTEMPT=" -e "^QWEX_SUPERVISES=")
    [ "$names" = "QWEX_ATTEMPT=$attempt" ] || continue
    carrier=${carrier#/proc/}
    found="$found ${carrier%/environ}"
  done
}

# A directory as the caller named it: absolute, or below the home directory.
absolute() {
  plain "$1"
  case $decoded in
    "~") decoded=$HOME ;;
    "~/"*) decoded=$HOME/${decoded#"~/"} ;;
    /*) ;;
    *) decoded=$HOME/$decoded ;;
  esac
}

# Where things are: our own directory and the cache.
place() {
  absolute "$1"
  root=$decoded
  runs=$root/runs
  absolute "$2"
  cache=$decoded
}

# The time now, as records have it.
stamp() {
  moment=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
  case $moment in *N*) moment=$(date -u +%Y-%m-%dT%H:%M:%SZ) ;; esac
}

# What comes as input becomes this file, whole or not at all, also after a crash of the machine or on a full disk.
record() {
  temporary=${1%/*}/.${1##*/}.$$
  if dd of="$temporary" conv=fsync 2>/dev/null && mv "$temporary" "$1"; then return 0; fi
  rm -f "$temporary"
  return 1
}

# Why a host cannot write, as far as we know.
full="its disk may be full or a quota used up; make room there and try again"

# Our own identity, as life_of reads it.
identify() {
  IFS= read -r status < "/proc/$$/stat"
  set -- ${status##*) }
  own=$boot/$$/${20}
}
