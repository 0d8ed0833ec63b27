# Answers requests, one line each, until its input ends: the remote half of every quick operation.
# A reply is some lines and a line with a dot; raw bytes are announced by their number.

hello() {
  place "$1" "$2"
  [ -n "$boot" ] && [ -r /proc/self/stat ] || { fail "this host has no /proc of Linux ($(uname -s)), by which runs are supervised; name a Linux host"; return; }
  mkdir -p "$runs" 2>/dev/null && [ -w "$runs" ] || { fail "cannot write to $runs; name a directory that you may write to as the directory of this host (see qwexctl help ssh); $full"; return; }
  say "root $root"
  say "uname $(uname -snm)"
  say "boot $boot"
  command -v setsid >/dev/null || say "missing setsid"
  if [ -e "$cache/supervisor/$3/bad" ]; then
    line_of "$cache/supervisor/$3/bad"; say "binary bad $line"
  elif [ -e "$cache/supervisor/$3/ok" ] && [ -x "$cache/supervisor/$3/qwex" ]; then
    say "binary ready"
  else
    say "binary absent"
  fi
}

# All that is known of one object, read in the order that tells no lie: life before end.
look() {
  d=$runs/$1
  say "run $1"
  [ -d "$d" ] || { say absent; return; }
  life=
  if line_of "$d/supervisor.json"; then
    say "supervisor $line"
    life_in "$line"
    say "life $life"
    [ "$life" != elsewhere ] || blind
  fi
  if line_of "$d/end.json"; then say "end $line"; return; fi
  if line_of "$d/start.json"; then say "start $line"; fi
  if [ "$life" = dead ]; then marked "$1"; say "left$found"; fi
}

scan() {
  set +f
  for each in "$runs"/qwex-*; do
    set -f
    name=${each##*/}
    if [ -e "$each/end.json" ]; then say "over $name"; elif [ -d "$each" ]; then look "$name"; fi
  done
  set -f
}

# A directory that nobody sees yet, to be filled and then moved into place.
stage() {
  mkdir "$runs/.new-$1" && mkdir "$runs/.new-$1/work" || fail "cannot make $runs/.new-$1: $full"
}

# Lines into a file of it. All of them are taken from our input whatever becomes of the file: they are no requests.
file() {
  count=$3
  bad=
  into=$runs/.new-$1/$2
  printf "" 2>/dev/null > "$into" || { bad=yes; into=/dev/null; }
  while [ "$count" -gt 0 ]; do
    IFS= read -r body || exit 1
    printf "%s\n" "$body" 2>/dev/null || bad=yes
    count=$((count - 1))
  done > "$into" || exit 1
  [ -z "$bad" ] || fail "cannot write $into: $full"
}

# Whether the files of a staged run have so many bytes: not every printf tells of a full disk.
whole() { [ "$(($(cat "$1/work.json" "$1/mode" "$1/command" 2>/dev/null | wc -c)))" -eq "$2" ]; }

# Moves a staged directory of so many bytes into place, unless one is there, and sees that it is supervised.
start() {
  new=$runs/.new-$1; d=$runs/$2; adopted=yes
  if [ ! -d "$d" ]; then
    whole "$new" "$3" || { rm -rf "$new"; fail "cannot write $new: $full"; return; }
    if trouble=$(mv -T "$new" "$d" 2>&1); then adopted=no
    elif [ ! -d "$d" ]; then fail "cannot make $d ($trouble): $full"; rm -rf "$new"; return
    fi
  fi
  [ $adopted = no ] || rm -rf "$new"
  supervise "$2"
  say "adopted $adopted"
}

resume() {
  [ -d "$runs/$1" ] || { say absent; return; }
  supervise "$1"
  say "adopted yes"
}

supervise() {
  d=$runs/$1
  if line_of "$d/work.json"; then say "work $line"; fi
  if line_of "$d/supervisor.json"; then process_of "$line"; say "uid $process"; return; fi
  line_of "$d/mode" || { fail "$d holds no work of ours; remove that directory there if nobody needs it"; return; }
  object=$1
  set -- $line
  case $1 in
    bin)
      [ -x "$cache/supervisor/$2/qwex" ] || { fail "the supervisor in $cache was removed; try again"; return; }
      # Used today, so not swept tomorrow.
      printf "" > "$cache/supervisor/$2/ok"
      set -- "$cache/supervisor/$2/qwex" "$3" "$d"
      ;;
    *)
      # Whole at any moment: others start it, and a shell reads what it runs as it goes.
      if ! supervise_script 2>/dev/null > "$d/.supervise.$$" || ! mv -f "$d/.supervise.$$" "$d/supervise.sh"; then
        rm -f "$d/.supervise.$$"
        fail "cannot write $d/supervise.sh: $full"
        return
      fi
      set -- setsid sh "$d/supervise.sh" "$d" "$umask_was"
      ;;
  esac
  greeting=$( (
    cd / && umask "$umask_was"
    QWEX_SUPERVISES=$object "$@" < /dev/null 2>> "$d/supervisor.log" &
  ) )
  case $greeting in
    error:*) fail "its supervisor does not start (${greeting#error: }); submitting it again tries again" ;;
    # Perhaps of another machine that shares these files and was quicker.
    *-*/[0-9]*/[0-9]*) say "uid $greeting" ;;
    *) line_of "$d/supervisor.log"; fail "its supervisor does not start ($greeting $line); see $d/supervisor.log there, and submit it again" ;;
  esac
}

# Whether the object is not the one that was meant: removed and made anew, or never known by its UID.
another() {
  [ "$2" != - ] && line_of "$runs/$1/supervisor.json" || return 1
  process_of "$line"
  [ "$process" != "$2" ]
}

cancel() {
  d=$runs/$1; object=$1; grace=$3
  # Never heard of by its UID: a submit of it may still be on its way.
  if [ ! -d "$d" ] && [ "$2" = - ]; then forestall || return; fi
  [ -d "$d" ] && [ ! -e "$d/end.json" ] && ! another "$1" "$2" || { say stopped; return; }
  if line_of "$d/supervisor.json"; then
    life_in "$line"
    [ "$life" != elsewhere ] || { blind; return; }
  fi
  now=$(date +%s)
  if [ ! -e "$d/cancel.json" ]; then
    say "$now" | record "$d/cancelled_at"
    stamp
    # On a full disk the name alone is the wish.
    printf "{\"asked_at\":\"%s\"}\n" "$moment" | record "$d/cancel.json" || ln "$d/work.json" "$d/cancel.json"
    [ -e "$d/cancel.json" ] || { fail "cannot write to $d: $full"; return; }
  fi
  # Nobody supervises it: one that begins now finds the wish and ends it before its command starts.
  [ -e "$d/supervisor.json" ] || supervise "$object" > /dev/null
  line_of "$d/supervisor.json" || { end_alone; return; }
  life_in "$line"
  case $life in
    elsewhere) blind ;;
    alive) kill -s USR1 "$pid" 2>/dev/null; say "stopping its supervisor was told to stop it" ;;
    reboot) say stopped ;;
    *) if [ -e "$d/end.json" ]; then say stopped; else end_survivors; fi ;;
  esac
}

# Takes the place of a run that is not there: a submit that arrives later finds one that was cancelled, and starts nothing.
forestall() {
  new=$runs/.new-$object-$node-$$
  mkdir -p "$new" 2>/dev/null
  number=${object#qwex-}
  stamp
  identify
  see_space
  if printf "{\"run_id\":\"%s\",\"attempt\":%s,\"spec_hash\":\"\",\"command\":[],\"env\":{},\"working_dir\":\"/\",\"timeout_ms\":null,\"grace_ms\":0,\"output\":\"split\",\"log_place\":\"within\",\"unused\":[],\"created_at\":\"%s\"}\n" \
      "${number%-a*}" "${number##*-a}" "$moment" | record "$new/work.json" &&
    printf "{\"asked_at\":\"%s\"}\n" "$moment" | record "$new/cancel.json" &&
    unstarted | record "$new/end.json" && printf "" > "$new/forestalled" &&
    printf "{\"process\":\"%s\",\"started_at\":\"%s\",\"machine\":\"%s\",\"pid_namespace\":\"%s\"}\n" \
      "$own" "$moment" "$node" "$space" | record "$new/supervisor.json" &&
    mv -T "$new" "$d" 2>/dev/null; then return 0; fi
  rm -rf "$new"
  # A submit was quicker.
  [ -d "$d" ] || { fail "cannot make $d: $full"; return 1; }
}

# What the supervisor would have done: TERM, and KILL after the grace.
end_survivors() {
  marked "$object"
  [ -n "$found" ] || { say stopped; return; }
  line_of "$d/cancelled_at" || line=$now
  signal=TERM
  [ $((now - line)) -lt "$grace" ] || signal=KILL
  kill -s $signal $found 2>/dev/null
  say "stopping its supervisor is gone; sent $signal to what it left:$found"
}

# The end of a run that no supervisor could begin, or whose supervisor could not say who it is. Whoever begins one after
# the wish was there starts nothing.
end_alone() {
  marked "$object"
  [ -z "$found" ] || { end_survivors; return; }
  if ! unstarted | record "$d/end.json"; then
    # Nobody runs it and nobody will, so this is room.
    rm -f "$d/supervise.sh" "$d/.reserve" "$d/command" "$d/cancelled_at" "$d/supervisor.log"
    unstarted | record "$d/end.json" || { fail "cannot write $d/end.json: $full"; return; }
  fi
  say stopped
}

# The end of a run whose command never started.
unstarted() {
  stamp
  printf "{\"cause\":\"cancelled\",\"exit_code\":null,\"signal\":null,\"message\":\"cancelled before its command started\",\"start\":null,\"ended_at\":\"%s\"}\n" "$moment"
}

# Whether nothing will be written any more.
silent() {
  d=$runs/$1
  life=
  [ ! -e "$d/end.json" ] || return 0
  line_of "$d/supervisor.json" || return 1
  life_in "$line"
  case $life in alive|elsewhere) return 1 ;; esac
  [ ! -e "$d/end.json" ] || return 0
  marked "$1"
  [ -z "$found" ]
}

read_log() {
  [ -d "$runs/$1" ] || { say absent; return; }
  log=$runs/$1/$2.log
  if silent "$1"; then say "over yes"; else say "over no"; fi
  [ ! -e "$runs/$1/$2.emptied" ] || say "emptied yes"
  { part_of_log "$3" "$4"; } 2>/dev/null 7< "$log" && return
  # Not begun yet, or removed by now.
  if [ -d "$runs/$1" ]; then say "size 0"; else say absent; fi
}

# Its bytes from a place on, at most so many. The command may empty it after we said how many come: those that are missing
# then are made up, and how many they are is told.
part_of_log() {
  facts=$(stat -L -c "%s %Y" /proc/self/fd/7) || facts=$(wc -c < /proc/self/fd/7)
  set -- "$1" "$2" $facts
  size=$((${3:-0}))
  say "size $size"
  size=$((size - $1))
  [ $size -le "$2" ] || size=$2
  [ $size -gt 0 ] || return 0
  say "written $4"
  say "data $size"
  dd bs=1 skip="$1" count=0 <&7 > /dev/null
  place_of_7
  # Without the kernel telling places, what is missing is not known.
  if [ -z "$at" ]; then tail -c "+$(($1 + 1))" <&7 | head -c $size; return 0; fi
  if [ "$at" -eq "$1" ]; then head -c $size <&7; fi
  place_of_7
  short=$(($1 + size - at))
  [ $short -gt 0 ] || return 0
  [ $short -le $size ] || short=$size
  head -c $short /dev/zero
  say "short $short"
}

# Where the next byte comes from of what we hold as 7.
place_of_7() { at=; if line_of "/proc/$$/fdinfo/7"; then at=$((${line#pos:})); fi; }

release() {
  [ -d "$runs/$1" ] && ! another "$1" "$2" || return 0
  silent "$1" || { refuse; return; }
  printf "" > "$runs/$1/released" || fail "cannot write to $runs/$1: $full"
}

# Why what may still run is neither released nor removed.
refuse() { if [ "$life" = elsewhere ]; then blind; else fail "it has not ended; cancel it first"; fi; }

discard() {
  [ -d "$runs/$1" ] && ! another "$1" "$2" || return 0
  silent "$1" || { refuse; return; }
  gone=$runs/.gone-$1-$$
  mv "$runs/$1" "$gone" 2>/dev/null || [ ! -d "$runs/$1" ] || { fail "cannot remove $runs/$1; see there to whom it belongs"; return; }
  (rm -rf "$gone" || { chmod -R u+rwx "$gone"; rm -rf "$gone"; }) > /dev/null 2>&1 < /dev/null &
  # Very many files take longer than anybody waits for an answer; they go on going.
  for nap in 0 0.01 0.03 0.1 0.3 1 1 1 1; do
    [ -e "$gone" ] || return 0
    if is_over $!; then break; fi
    sleep $nap
  done
  [ ! -e "$gone" ] || ! is_over $! || fail "cannot remove $gone; see there to whom the files in it belong"
}

# Whether a process of ours has ended.
is_over() {
  status=
  { IFS= read -r status < "/proc/$1/stat"; } 2>/dev/null || return 0
  case ${status##*) } in Z*|X*|x*) return 0 ;; esac
  return 1
}

manifest() {
  kept=$cache/workspace/$1
  line_of "$kept/generation" || return 0
  { whole_manifest "$line"; } 2>/dev/null 7< "$kept/manifest"
}

# The very file that was counted is sent: another may take its name meanwhile.
whole_manifest() {
  size=$(wc -c < /proc/self/fd/7) || return 0
  say "generation $1"
  say "data $((size))"
  cat <&7
}

# Forgets what nobody needs any more, once a day: at $1 days released runs, at 30 days caches.
sweep() {
  stamp=$cache/swept
  mkdir -p "$cache"
  [ -z "$(find "$stamp" -mtime -1 2>/dev/null)" ] || return 0
  printf "" > "$stamp" || return 0
  days=$1
  (
    set +f
    for old in "$runs"/qwex-*/released; do
      [ -n "$(find "$old" -mtime "+$days" 2>/dev/null)" ] && rm -rf "${old%/released}"
    done
    for old in "$runs"/qwex-*/forestalled; do
      [ -n "$(find "$old" -mtime "+$days" 2>/dev/null)" ] && rm -rf "${old%/forestalled}"
    done
    find "$runs" -maxdepth 1 -name ".*-*" -mtime +1 -exec rm -rf {} +
    for old in "$cache"/supervisor/*/ok "$cache"/supervisor/*/bad; do
      [ -n "$(find "$old" -mtime +30 2>/dev/null)" ] && rm -rf "${old%/*}"
    done
    find "$cache/workspace" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
    find "$cache/workspace" -mindepth 2 -maxdepth 2 -name ".new-*" -mtime +1 -exec rm -rf {} +
  ) > /dev/null 2>&1 < /dev/null &
}

clock() { say "clock $(date +%s.%N 2>/dev/null)"; }

while IFS= read -r request; do
  set -- $request
  verb=$1
  shift
  case $verb in
    hello|clock|look|scan|stage|file|start|resume|cancel|read_log|release|discard|manifest|sweep) $verb "$@" ;;
    *) fail "cannot $verb" ;;
  esac
  say .
done
