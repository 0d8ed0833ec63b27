# What every script of ours on a remote host begins with. Sent as one word in single quotes to whatever
# login shell is there: no single quote and no doubled backslash may stand in any of these files.
umask_was=$(umask)
umask 077
unset QWEX_RUN_ID QWEX_ATTEMPT CDPATH
set -f
boot=
{ IFS= read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null

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

# Our own identity, as life_of reads it.
identify() {
  IFS= read -r status < "/proc/$$/stat"
  set -- ${status##*) }
  own=$boot/$$/${20}
}
