# Supervises one attempt where the program of qwex cannot run: starts its command once, ends it at its
# timeout or when asked, and writes how it ended. Arguments: directory of the attempt, umask of the user.
d=$1
umask_was=$2
object=$QWEX_SUPERVISES
identify
cpu=null
asked=
begun=
encoded=
timer=
hit=

# An end: cause, exit code, signal, what was left, message. Room for it was set aside.
finish() {
  stamp
  message=$(printf "%s" "$5" | tr -d "\000-\037\177\"" | tr "\134" "/")
  end=$(printf "{\"cause\":\"%s\",\"exit_code\":%s,\"signal\":%s,\"core_dumped\":false,\"message\":\"%s\",\"start\":%s,\"ended_at\":\"%s\",\"cpu_ms\":%s,\"leftovers\":%s}\n" \
    "$1" "$2" "$3" "$message" "${begun:-null}" "$moment" "$cpu" "$4")
  if ! say "$end" | record "$d/end.json"; then
    rm -f "$d/.reserve"
    say "$end" | record "$d/end.json" || say "$moment cannot write $d/end.json: $full" >&2
  fi
  rm -f "$d/.reserve"
  exit 0
}

everything() {
  kill -s "$1" -- "-$child" 2>/dev/null
  waited_for
  marked "$object"
  not_its_own
  if [ -n "$found" ]; then kill -s "$1" $found 2>/dev/null; fi
}

# Processor time of all processes that we have waited for so far, in ticks of the clock.
waited_for() {
  spent=
  { IFS= read -r spent < "/proc/$$/stat"; } 2>/dev/null
  set -- ${spent##*) }
  ticks=$((${14:-0} + ${15:-0}))
}

# What was used since we looked last is ours, unless the command ended meanwhile.
not_its_own() {
  seen=$ticks
  waited_for
  if [ -e "/proc/$child/stat" ]; then ours=$((ours + ticks - seen)); fi
}

# Wakes us by ALRM after so many seconds.
alarm() {
  if [ -n "$timer" ]; then kill "$timer" 2>/dev/null; fi
  (
    trap "kill \$nap 2>/dev/null; exit" TERM
    trap "" USR1 ALRM
    sleep "$1" &
    nap=$!
    wait $nap
    kill -s ALRM $$
  ) < /dev/null > /dev/null 2>&1 &
  timer=$!
}

wish() {
  hit=yes
  [ -z "$asked" ] || return 0
  asked=$1
  [ -n "$child" ] || return 0
  everything TERM
  alarm "$grace"
}

ring() {
  hit=yes
  if [ -z "$asked" ]; then wish timed_out; else everything KILL; alarm 0.2; fi
}

asked_for() { hit=yes; [ ! -e "$d/cancel.json" ] || wish cancelled; }

trap "asked_for" USR1
trap "wish stopped" TERM INT
trap "hit=yes" HUP
trap "ring" ALRM

# A hard link appears at most once: whoever made it may start the command.
stamp
see_space
if ! printf "{\"process\":\"%s\",\"started_at\":\"%s\",\"machine\":\"%s\",\"pid_namespace\":\"%s\"}\n" \
  "$own" "$moment" "$node" "$space" | dd of="$d/.supervisor.$$" conv=fsync 2>/dev/null; then
  rm -f "$d/.supervisor.$$"
  say "error: cannot write to $d: $full"
  exit 1
fi
if ! ln "$d/.supervisor.$$" "$d/supervisor.json" 2>/dev/null; then
  rm -f "$d/.supervisor.$$"
  line_of "$d/supervisor.json"; process_of "$line"; say "$process"
  exit 0
fi
rm -f "$d/.supervisor.$$"
say "$own"
exec > /dev/null

# Nobody could begin, and that was written down.
[ ! -e "$d/end.json" ] || exit 0
cp "$d/supervise.sh" "$d/.reserve" 2>/dev/null || rm -f "$d/.reserve"
if [ -e "$d/cancel.json" ]; then finish cancelled null null 0 "cancelled before its command started"; fi

# What to run is data, a word a line, and never read as shell.
word() { IFS= read -r encoded && [ "$encoded" != "# whole" ] && plain "$encoded"; }
{
  word && directory=$decoded
  word && timeout=$decoded
  word && grace=$decoded
  word && variables=$decoded
  word && path=$decoded
  set --
  while word; do set -- "$@" "$decoded"; done
} < "$d/command"
[ "$encoded" = "# whole" ] || finish start_error 126 null 0 "what to run did not arrive whole"
[ $# -gt "$variables" ] || finish start_error 127 null 0 "the command is empty"
cd "$directory" 2>/dev/null || finish start_error 126 null 0 "the working directory $directory is not there"

# The program is looked for here, so that "not found" is told from an exit code of the command.
pick() { shift "$1"; program=$2; }
pick "$variables" "$@"
place_of() {
  case $program in
    */*) places=$program ;;
    *)
      places=
      IFS=:
      for way in ${path:-$PATH}; do
        if [ -f "${way:-.}/$program" ]; then places=${way:-.}/$program; fi
        if [ -f "${way:-.}/$program" ] && [ -x "${way:-.}/$program" ]; then break; fi
      done
      unset IFS
      ;;
  esac
}
place_of
if [ -z "$places" ] || [ ! -e "$places" ]; then finish start_error 127 null 0 "$program: command not found"; fi
if [ ! -f "$places" ] || [ ! -x "$places" ]; then finish start_error 126 null 0 "$program: cannot be executed"; fi
# env takes a word with = for a variable, also behind the variables.
case $program in
  *=*) carrier=yes ;;
  *) carrier= ;;
esac
# A shell lets its background processes ignore INT and QUIT; env can undo that, where it is new enough.
undo=
if env --default-signal=INT,QUIT true 2>/dev/null; then undo=--default-signal=INT,QUIT; fi

# We hold on to what the command writes by: how far it wrote tells whether it emptied its own log.
(: >> "$d/stdout.log") && (: >> "$d/stderr.log") || finish start_error 126 null 0 "cannot make the log files: $full"
exec 8>> "$d/stdout.log" 9>> "$d/stderr.log"
waited_for
ours=$ticks
(
  unset QWEX_SUPERVISES
  exec >&8 2>&9 < /dev/null 8>&- 9>&-
  umask "$umask_was"
  _qwex_undo=$undo
  _qwex_carrier=$carrier
  _qwex_words=$(($# - variables))
  _qwex_left=$variables
  # Anybody may read the words of a process, so values are exported here and are none of the words of env; but for names
  # that a shell uses itself, and these of ours. Those go behind the command, which is then put behind them.
  while [ "$_qwex_left" -gt 0 ]; do
    _qwex_left=$((_qwex_left - 1))
    case $1 in
      _=*|_qwex_*|BASH*|COLUMNS=*|DIRSTACK=*|ENV=*|EPOCH*|EUID=*|FUNCNAME=*|GROUPS=*|HIST*|IFS=*|KSH*|LANG=*|LC_*|LD_*|LINENO=*|LINES=*|MAIL*|OLDPWD=*|OPTARG=*|OPTERR=*|OPTIND=*|PATH=*|PIPESTATUS=*|POSIXLY_CORRECT=*|PPID=*|PS1=*|PS2=*|PS4=*|PWD=*|RANDOM=*|SECONDS=*|SHELLOPTS=*|SHLVL=*|SRANDOM=*|TMOUT=*|UID=*)
        set -- "$@" "$1" ;;
      *) export "$1" ;;
    esac
    shift
  done
  if [ $# -gt "$_qwex_words" ] || [ -n "$_qwex_carrier" ]; then
    if [ -n "$_qwex_carrier" ]; then set -- "$@" sh -c "exec \"\$0\" \"\$@\""; fi
    while [ "$_qwex_words" -gt 0 ]; do
      _qwex_words=$((_qwex_words - 1))
      set -- "$@" "$1"
      shift
    done
  fi
  exec setsid env $_qwex_undo "$@"
) &
child=$!
stamp
status=
{ IFS= read -r status < "/proc/$child/stat"; } 2>/dev/null
set -- ${status##*) }
begun=$(printf "{\"process\":\"%s\",\"started_at\":\"%s\"}" "$boot/$child/${20:-0}" "$moment")
if say "$begun" 2>/dev/null > "$d/.start.$$"; then mv "$d/.start.$$" "$d/start.json"; else rm -f "$d/.start.$$"; fi
not_its_own
if [ -n "$asked" ]; then everything TERM; alarm "$grace"; elif [ "$timeout" != none ]; then alarm "$timeout"; fi

# A wait that a signal interrupted says nothing of the command.
code=
while :; do
  hit=
  before=$code
  wait "$child"
  code=$?
  if [ -n "$hit" ]; then case $code in 129|130|138|142|143) continue ;; esac; fi
  break
done
if [ "$code" = 127 ] && [ -n "$before" ]; then code=$before; fi
waited_for
hertz=$(getconf CLK_TCK 2>/dev/null)
case $hertz in ""|0*|*[!0-9]*) hertz=100 ;; esac
cpu=$(((ticks - ours) * 1000 / hertz))
[ "$cpu" -ge 0 ] || cpu=null
if [ -n "$timer" ]; then kill "$timer" 2>/dev/null; fi

# The end of the command is the end of what it left, as in a container.
left=0
for round in 1 2 3 4 5 6 7 8 9 10; do
  kill -s KILL -- "-$child" 2>/dev/null
  marked "$object"
  [ -n "$found" ] || break
  set -- $found
  [ $left -ge $# ] || left=$#
  kill -s KILL $found 2>/dev/null
  sleep 0.02
done

# Who opens a log anew, as > /dev/stderr does, empties it; it is then shorter than what was written.
emptied() {
  line_of "/proc/$$/fdinfo/$2" || return 0
  written=${line#pos:}
  written=$((written))
  if [ "$written" -gt 0 ] && [ "$(wc -c < "$d/$1.log")" -lt "$written" ]; then printf "" > "$d/$1.emptied"; fi
}
emptied stdout 8
emptied stderr 9

# Whether nothing more goes on the disk of this directory.
is_full() {
  set -- $(df -P "$d" 2>/dev/null | tail -n 1)
  while [ $# -gt 2 ] && [ "${2%\%}" = "$2" ]; do shift; done
  [ "$1 $2" = "0 100%" ]
}

how="the command ended with exit code $code"
signal=null
if [ "$code" -gt 128 ] && [ -n "$asked" ]; then
  signal=$((code - 128))
  how="the command was ended by signal $signal"
  code=null
fi
case $asked in
  cancelled) how="cancelled: $how" ;;
  timed_out) how="its timeout passed: $how" ;;
  stopped) how="its supervisor was told to stop: $how" ;;
  # A command that fails for want of room seldom finds room to log it.
  "") if [ "$code" != 0 ] && is_full; then how="$how; the disk that its log is on is full"; fi ;;
esac
finish "${asked:-ended}" "$code" "$signal" "$left" "$how"
